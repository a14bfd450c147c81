package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

func TestJoinIsRefused(t *testing.T) {
	c := newTestCluster(t, 2)
	twin := c.add("node-0")
	twin.addr = "another-address"
	twin.cfg.Join = c.joining(twin)
	if err := twin.tryStart(); err == nil || !strings.Contains(err.Error(), "its name node-0 is that of node") {
		t.Errorf("a name that is taken: got %v", err)
	}
	squatter := c.add("node-9")
	squatter.addr = c.members[1].addr
	squatter.cfg.Join = nil
	err := c.leader().AddMember(t.Context(), api.Node{ID: "00000000-0000-4000-8000-000000000000", Name: "node-9", PeerAddress: string(c.members[1].addr), StateVersion: 2})
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "its address node-1-address is that of node") {
		t.Errorf("an address that is taken: got %v", err)
	}
	c.members = c.members[:2]
	// A node of another cluster.
	stranger := c.add("stranger")
	stranger.start()
	own := stranger.ClusterID()
	stranger.stop()
	stranger.cfg.Join = &Join{ClusterID: c.members[0].ClusterID()}
	if err := stranger.tryStart(); err == nil || !strings.Contains(err.Error(), "this node belongs to cluster "+own) {
		t.Errorf("a node of another cluster: got %v", err)
	}
	c.members = c.members[:2]
	if err := c.followers()[0].AddMember(t.Context(), api.Node{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("AddMember on a follower: got %v", err)
	}
}

func TestVotersGrowAndShrink(t *testing.T) {
	c := newTestCluster(t, 1)
	for i := 1; i < 6; i++ {
		m := c.add(fmt.Sprintf("node-%d", i))
		m.cfg.Join = c.joining(m)
		m.start()
		c.awaitVoters(i + 1)
		putServices(t, m.Node, i, i+1)
	}
	// A voter dies: the sixth takes its place.
	var dead *member
	for _, m := range c.followers() {
		if isVoter(c.leader(), m.ID()) {
			dead = m
			break
		}
	}
	dead.kill()
	c.await("another voter in the place of the dead", func() bool {
		voters := 0
		for _, m := range c.leader().Members() {
			if m.Voter {
				voters++
			}
		}
		return voters == 5 && !isVoter(c.leader(), dead.ID())
	})
	dead.start()
	<-dead.CaughtUp()
	c.awaitEqual()
	c.awaitVoters(6)
}

func isVoter(m *member, id string) bool {
	for _, s := range m.Members() {
		if s.ID == id {
			return s.Voter
		}
	}
	return false
}

func TestRemoveAndPromote(t *testing.T) {
	c := newTestCluster(t, 4)
	var spare *member
	for _, m := range c.members {
		if !isVoter(c.leader(), m.ID()) {
			spare = m
		}
	}
	c.await("the promotion", func() bool {
		err := c.leader().Promote(t.Context(), spare.ID())
		return err == nil && isVoter(c.leader(), spare.ID())
	})
	c.awaitVoters(4)
	if err := c.leader().RemoveMember(t.Context(), "nobody", false); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("nobody: got %v", err)
	}
	if err := c.followers()[0].RemoveMember(t.Context(), spare.ID(), false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("by a follower: got %v", err)
	}
	gone := c.followers()[0]
	if err := c.leader().RemoveMember(t.Context(), gone.ID(), false); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.leader().View().Node(gone.ID()); ok {
		t.Error("its node is still there")
	}
	<-gone.Removed()
	err := c.leader().MoveMember(t.Context(), api.Node{ID: gone.ID(), Name: "node-x", PeerAddress: "x"})
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "has been removed from the cluster") {
		t.Errorf("its return: got %v", err)
	}
	gone.stop()
	if err := gone.tryStart(); err == nil || !strings.Contains(err.Error(), "if the node was removed from its cluster, move its directory away") {
		t.Errorf("its start: got %v", err)
	}
	c.awaitVoters(3)
	// The leader removes itself: another takes over and does it.
	old := c.leader()
	c.await("the removal of the leader", func() bool {
		err := c.leader().RemoveMember(t.Context(), old.ID(), false)
		if err != nil && !errors.Is(err, ErrNotLeader) && api.CodeOf(err) != api.CodeUnavailable {
			t.Fatal(err)
		}
		return err == nil
	})
	<-old.Removed()
}

func TestAddressesChange(t *testing.T) {
	dir := t.TempDir()
	closeNode(t, open(t, testConfig(t, dir)))
	c := &testCluster{t: t}
	first := c.add("node-0")
	first.cfg.Dir = dir
	first.start()
	c.await("its address", func() bool { return first.Members()[0].Address == "node-0-address" })
	for i := range 2 {
		m := c.add(fmt.Sprintf("node-%d", i+1))
		m.cfg.Join = c.joining(m)
		m.start()
	}
	c.awaitVoters(3)
	moved := c.followers()[0]
	moved.kill()
	moved.addr = "moved"
	moved.start()
	err := c.leader().MoveMember(t.Context(), api.Node{ID: moved.ID(), Name: moved.cfg.Node.Name, PeerAddress: "moved", StateVersion: state.StateVersion})
	if err != nil {
		t.Fatal(err)
	}
	<-moved.CaughtUp()
	c.awaitVoters(3)
	putServices(t, moved.Node, 0, 1)
}

func TestNonvotersConfirmNobody(t *testing.T) {
	c := newTestCluster(t, 5)
	// Two of the five die and lose their votes: three voters and two others.
	var spare []*member
	for _, m := range c.followers()[:2] {
		spare = append(spare, m)
		m.kill()
	}
	c.await("three voters", func() bool {
		voters := 0
		for _, m := range c.leader().Members() {
			if m.Voter {
				voters++
			}
		}
		return voters == 3
	})
	for _, m := range spare {
		if _, err := c.leader().SetNode(t.Context(), m.ID(), api.EligibilityDraining, nil); err != nil {
			t.Fatal(err) // so that it is given no vote again
		}
		m.start()
		<-m.CaughtUp()
	}
	leader := c.leader()
	if leader.quorum.verify(t.Context()) != nil {
		t.Fatal("with all there it is not confirmed")
	}
	c.isolate(append(spare, leader)...)
	if err := leader.quorum.verify(t.Context()); err == nil {
		t.Error("two without a vote have confirmed a leader")
	}
}

func TestJoinAgain(t *testing.T) {
	c := newTestCluster(t, 1)
	m := c.add("node-1")
	m.cfg.Join = &Join{ClusterID: c.members[0].ClusterID()}
	ctx, cancel := context.WithCancel(t.Context())
	m.cfg.Join.Ask = func(context.Context, api.Node) error { cancel(); return errors.New("nobody is there") }
	m.openCtx = ctx
	if err := m.tryStart(); !errors.Is(err, context.Canceled) {
		t.Errorf("a join that was cut short: got %v", err)
	}
	id := m.id()
	m.openCtx, m.cfg.Join = context.Background(), c.joining(m)
	m.start()
	if m.ID() != id || m.ClusterID() != c.members[0].ClusterID() {
		t.Error("it is another node")
	}
	m.stop()
	m.cfg.Join = nil // a member needs no word of it
	m.start()
	<-m.CaughtUp()
}

// A node that is ended between being added and knowing what the leader knows has nothing
// that tells where the leader is: it asks again.
func TestJoinEndsHalfway(t *testing.T) {
	c := newTestCluster(t, 1)
	m := c.add("node-1")
	m.cfg.Join = c.joining(m)
	readIndex, ask := m.cfg.ReadIndex, m.cfg.Join.Ask
	ctx, cancel := context.WithCancel(t.Context())
	var told atomic.Bool // where the leader is
	m.cfg.ReadIndex = func(ctx context.Context, leader string) (uint64, error) {
		if told.Load() {
			return readIndex(ctx, leader)
		}
		cancel()
		return 0, ErrNotSent
	}
	m.openCtx = ctx
	if err := m.tryStart(); !errors.Is(err, context.Canceled) {
		t.Fatalf("a join that was cut short: got %v", err)
	}
	m.cfg.Join.Ask = func(ctx context.Context, self api.Node) error {
		err := ask(ctx, self)
		told.Store(err == nil)
		return err
	}
	m.openCtx = t.Context()
	m.start()
	if m.ClusterID() != c.members[0].ClusterID() {
		t.Error("it has not joined")
	}
}

func TestIdentify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := Identify(dir)
			if err != nil || id.ClusterID != "" || id.Member {
				t.Errorf("got %+v %v", id, err)
			}
			ids[i] = id.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("first starts at once got the ids %v", ids)
			break
		}
	}
	n := open(t, testConfig(t, dir))
	id, err := Identify(dir)
	if err != nil || id != (Identity{ids[0], n.ClusterID(), true}) || n.ID() != ids[0] {
		t.Errorf("got %+v %v", id, err)
	}
	closeNode(t, n)
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Identify(dir); err == nil || !strings.Contains(err.Error(), "holds a log but") {
		t.Errorf("without its identity: got %v", err)
	}
}
