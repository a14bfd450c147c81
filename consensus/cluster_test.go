package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// testCluster is several nodes in one process, on a network that can be cut.
type testCluster struct {
	t  testing.TB
	mu sync.Mutex

	members []*member
}

// member is a node and what it needs to be started again.
type member struct {
	*Node
	c     *testCluster
	cfg   Config
	addr  raft.ServerAddress
	trans *raft.InmemTransport
	up    bool
	cut   map[*member]bool // can't be reached from here

	openCtx context.Context // for Open
}

// newTestCluster returns a cluster of n members that all know each other; three or more
// have three votes or five.
func newTestCluster(t testing.TB, n int) *testCluster {
	return newTestClusterWith(t, n, func(*Config) {})
}

func newTestClusterWith(t testing.TB, n int, change func(*Config)) *testCluster {
	c := &testCluster{t: t}
	for i := range n {
		m := c.add(fmt.Sprintf("node-%d", i))
		change(&m.cfg)
		if i > 0 {
			m.cfg.Join = c.joining(m)
		}
		m.start()
	}
	c.awaitVoters(n)
	return c
}

func (c *testCluster) add(name string) *member {
	m := &member{c: c, cut: map[*member]bool{}, openCtx: context.Background()}
	m.cfg = testConfig(c.t, c.t.TempDir())
	m.cfg.Node.Name = name
	m.cfg.Stabilization, m.cfg.DeadAfter, m.cfg.lookEvery = 50*time.Millisecond, time.Second, 20*time.Millisecond
	m.cfg.tune = func(rc *raft.Config) {
		rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	}
	m.cfg.Authorize = func(Actor, *state.Command) error { return nil }
	m.cfg.Forward = func(ctx context.Context, leader string, batch []Forwarded) ([]ForwardResult, error) {
		to, err := m.reach(leader)
		if err != nil {
			return nil, err
		}
		out := overWire[[]ForwardResult](c.t, to.ApplyForwarded(ctx, m.id(), overWire[[]Forwarded](c.t, batch)))
		if _, err := m.reach(leader); err != nil {
			return nil, errors.New("the connection was lost")
		}
		return out, nil
	}
	m.cfg.ReadIndex = func(ctx context.Context, leader string) (uint64, error) {
		to, err := m.reach(leader)
		if err != nil {
			return 0, err
		}
		return to.VerifiedIndex(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
	return m
}

// id returns the member's id, running or not.
func (m *member) id() string {
	id, err := Identify(m.cfg.Dir)
	if err != nil {
		m.c.t.Error(err)
	}
	return id.ID
}

// overWire returns what arrives of v.
func overWire[T any](t testing.TB, v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Error(err)
	}
	return out
}

// joining returns how m joins: by asking whoever leads.
func (c *testCluster) joining(m *member) *Join {
	return &Join{ClusterID: c.members[0].ClusterID(), Ask: func(ctx context.Context, self api.Node) error {
		self.PeerAddress = string(m.addr)
		err := c.leader().AddMember(ctx, self)
		if api.CodeOf(err) == api.CodeConflict {
			return errors.Join(ErrRefused, err)
		}
		return err
	}}
}

// reach returns the node with the given id, if the network lets m.
func (m *member) reach(id string) (*Node, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, o := range m.c.members {
		if o.up && o.Node != nil && o.ID() == id && !m.cut[o] {
			return o.Node, nil
		}
	}
	return nil, fmt.Errorf("dial %s: %w", id, ErrNotSent)
}

func (m *member) start() {
	m.c.t.Helper()
	if err := m.tryStart(); err != nil {
		m.c.t.Fatal(err)
	}
}

func (m *member) tryStart() error {
	if m.addr == "" {
		m.addr = raft.ServerAddress(m.cfg.Node.Name + "-address")
	}
	_, m.trans = raft.NewInmemTransport(m.addr)
	m.cfg.Transport = m.trans
	m.trans.Connect(m.addr, m.trans)
	m.c.mu.Lock()
	m.up = true
	m.c.wire()
	m.c.mu.Unlock()
	n, err := Open(m.openCtx, m.cfg)
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if err != nil {
		m.up = false
		m.c.wire()
		return err
	}
	m.Node = n
	m.c.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			m.c.t.Error(err)
		}
	})
	return nil
}

// wire connects those who can reach one another. The caller holds the lock.
func (c *testCluster) wire() {
	for _, a := range c.members {
		for _, b := range c.members {
			if a == b || a.trans == nil || b.trans == nil {
				continue
			}
			if a.up && b.up && !a.cut[b] {
				a.trans.Connect(b.addr, b.trans)
			} else {
				a.trans.Disconnect(b.addr)
			}
		}
	}
}

// isolate cuts the given members off from the others, but not from one another.
func (c *testCluster) isolate(some ...*member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.members {
		for _, b := range c.members {
			a.cut[b] = contains(some, a) != contains(some, b)
		}
	}
	c.wire()
}

func contains(some []*member, m *member) bool {
	for _, s := range some {
		if s == m {
			return true
		}
	}
	return false
}

// kill ends m without a word to the others.
func (m *member) kill() {
	m.c.mu.Lock()
	m.up = false
	m.c.wire()
	m.c.mu.Unlock()
	m.several.Store(false) // so that it does not try to hand over
	closeNode(m.c.t, m.Node)
}

// stop ends m in order.
func (m *member) stop() {
	closeNode(m.c.t, m.Node)
	m.c.mu.Lock()
	m.up = false
	m.c.wire()
	m.c.mu.Unlock()
}

// leader waits until one of the members that are up leads.
func (c *testCluster) leader() *member {
	c.t.Helper()
	var leader *member
	c.await("a leader", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.members {
			if m.up && m.Node != nil && m.IsLeader() {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

// followers returns the members that are up and don't lead.
func (c *testCluster) followers() []*member {
	leader := c.leader()
	var out []*member
	for _, m := range c.members {
		if m.up && m != leader {
			out = append(out, m)
		}
	}
	return out
}

// await looks until done reports true.
func (c *testCluster) await(what string, done func() bool) {
	c.t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-end.C:
			c.t.Fatalf("waited for %s for a minute", what)
		}
	}
}

// awaitVoters waits until as many members as n should have give their votes.
func (c *testCluster) awaitVoters(n int) {
	c.t.Helper()
	want := min(n, maxVoters)
	if want%2 == 0 {
		want--
	}
	c.await(fmt.Sprintf("%d voters of %d", want, n), func() bool {
		voters := 0
		members := c.leader().Members()
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		return voters == want && len(members) == n
	})
}

// awaitEqual waits until all members that are up have the same state.
func (c *testCluster) awaitEqual() {
	c.t.Helper()
	c.await("equal states", func() bool {
		leader := c.leader().View()
		for _, m := range c.members {
			if v := m.View(); m.up && (v.Index() != leader.Index() || v.Hash() != leader.Hash()) {
				return false
			}
		}
		return true
	})
}
