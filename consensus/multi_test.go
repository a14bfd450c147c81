package consensus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

func TestWritesThroughFollowers(t *testing.T) {
	c := newTestCluster(t, 3)
	followers := c.followers()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			f := followers[w%len(followers)]
			for i := range 5 {
				name := fmt.Sprintf("w%d-%d", w, i)
				s, err := f.PutService(t.Context(), service(name), nil)
				for code := api.CodeOf(err); code == api.CodeTimeout || code == api.CodeUnavailable; code = api.CodeOf(err) {
					// A machine that is busy enough elects another leader meanwhile. What is
					// put twice is there once.
					s, err = f.PutService(t.Context(), service(name), nil)
				}
				if err != nil {
					t.Error(err)
					return
				}
				// It reads its own write, at the revision that it was told.
				got, ok := f.View().Service(name)
				if !ok || got.Revision != s.Revision || s.Name != name || s.CreatedAt.IsZero() {
					t.Errorf("%s: got %+v, the answer was %+v", name, got, s)
				}
			}
		})
	}
	wg.Wait()
	c.awaitEqual()
	if got := c.leader().Index(); got < 64*5 {
		t.Errorf("got index %d", got)
	}
}

func TestErrorsThroughAFollower(t *testing.T) {
	c := newTestCluster(t, 3)
	f := c.followers()[0]
	ctx := t.Context()
	five := uint64(5)
	if _, err := f.PutService(ctx, service("app"), &five); api.CodeOf(err) != api.CodeStaleRevision {
		t.Errorf("stale: got %v", err)
	}
	if _, err := f.DeleteService(ctx, "none", nil); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("absent: got %v", err)
	}
	putService(t, f.Node, service("app"))
	if _, err := f.PutInstance(ctx, &api.Instance{Service: "app", ID: "a"}, nil); err != nil {
		t.Error(err)
	}
	if err := f.Place(ctx, []state.Placement{{Ref: api.Ref{Service: "app", ID: "a"}, Node: f.ID(), Generation: 1}}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a placement by a follower: got %v", err)
	}
	if err := c.leader().Place(ctx, []state.Placement{{Ref: api.Ref{Service: "app", ID: "a"}, Node: f.ID(), Generation: 1}}); err != nil {
		t.Error(err)
	}
	ref := api.Ref{Service: "app", ID: "a"}
	if err := f.Report(ctx, []api.Report{{Ref: ref, Observed: api.Observed{State: api.StateRunning, Generation: 1}}}); err != nil {
		t.Error(err)
	}
	if i, _ := f.View().Instance(ref); i.State() != api.StateRunning {
		t.Errorf("after a report: got %+v", i)
	}
	if _, err := f.PutToken(ctx, &api.Token{ID: "0123456789ab", SHA256: make([]byte, 32)}, nil); err != nil {
		t.Error(err)
	}
	if _, err := f.PutFleet(ctx, &api.Fleet{Service: "app", Name: "web", Replicas: 2}, nil); err != nil {
		t.Error(err)
	}
	if err := f.SyncFile(ctx, []*api.Service{service("file")}, []api.Ref{{Service: "file", ID: "one"}}); err != nil {
		t.Error(err)
	}
	if n, err := f.SetNode(ctx, f.ID(), api.EligibilityCordoned, nil); err != nil || n.Eligibility != api.EligibilityCordoned {
		t.Errorf("got %+v %v", n, err)
	}
	c.awaitEqual()
}

func TestForwardingIsAuthorised(t *testing.T) {
	c := newTestCluster(t, 3)
	leader, f := c.leader(), c.followers()[0]
	var asked []Actor
	leader.Node.cfg.Authorize = func(a Actor, cmd *state.Command) error {
		asked = append(asked, a)
		if a.TokenID == "" {
			return api.Errorf(api.CodeForbidden, "no token")
		}
		return nil
	}
	if _, err := f.PutService(t.Context(), service("app"), nil); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("without a token: got %v", err)
	}
	ctx := WithActor(t.Context(), Actor{TokenID: "0123456789ab", Role: api.RoleAdmin})
	if _, err := f.PutService(ctx, service("app"), nil); err != nil {
		t.Error(err)
	}
	if len(asked) != 2 || asked[1].TokenID != "0123456789ab" || asked[1].Role != api.RoleAdmin {
		t.Errorf("the leader was told %+v", asked)
	}
	leader.Node.cfg.Authorize = nil
	if _, err := f.PutService(ctx, service("app2"), nil); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("when nothing is allowed: got %v", err)
	}
	other := leader.ID()
	for name, cmd := range map[string]state.Command{
		"a report for another node":  {Report: &state.Report{Node: other}},
		"another node's description": {DescribeNode: &state.DescribeNode{Node: api.Node{ID: other, Name: "x"}}},
		"a placement":                {Place: &state.Place{}},
		"a cluster's id":             {InitCluster: &state.InitCluster{ClusterID: "x"}},
		"a status":                   {NodeStatus: &state.NodeStatus{ID: other}},
		"another node's file":        {SyncFile: &state.SyncFile{Node: other}},
		"a file of nobody":           {SyncFile: &state.SyncFile{}},
	} {
		b, err := cmd.Encode()
		if err != nil {
			t.Fatal(err)
		}
		res := leader.ApplyForwarded(t.Context(), f.ID(), []Forwarded{{Command: b, Actor: Actor{Role: api.RoleAdmin}}})
		if res[0].Error == nil || res[0].Error.Code != api.CodeForbidden {
			t.Errorf("%s: got %+v", name, res[0])
		}
	}
	leader.Node.cfg.Authorize = func(a Actor, cmd *state.Command) error {
		if cmd != nil || a.Node == "" && a.TokenID == "" {
			return api.Errorf(api.CodeForbidden, "of nobody, or a command")
		}
		return nil
	}
	for actor, allowed := range map[Actor]bool{
		{}: false, {Role: api.RoleAdmin}: false, {Node: other}: false, {Node: f.ID()}: true, {TokenID: "0123456789ab"}: true,
	} {
		if err := leader.AuthorizeActor(f.ID(), actor); allowed != (err == nil) || err != nil && api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("what is no command, for %+v: %v", actor, err)
		}
	}
	if err := f.AuthorizeActor(other, Actor{Node: other}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower authorises: %v", err)
	}
	// What was forwarded is not forwarded again.
	res := f.ApplyForwarded(t.Context(), other, []Forwarded{{Command: []byte(`{}`)}})
	if res[0].Error == nil || !res[0].Error.Again {
		t.Errorf("a follower: got %+v", res[0])
	}
}

// Whatever was acknowledged is there after the leader's death, and writes go on.
func TestLeaderDies(t *testing.T) {
	c := newTestCluster(t, 3)
	var mu sync.Mutex
	acknowledged := map[string]uint64{}
	ctx, cancel := context.WithCancel(t.Context())
	first := c.leader()
	survivors := c.followers()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				s, err := survivors[w%2].PutService(ctx, service(name), nil)
				if err == nil {
					mu.Lock()
					acknowledged[name] = s.Revision
					mu.Unlock()
				}
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	c.await("writes", func() bool { return count() > 50 })
	first.kill()
	died, before := time.Now(), count()
	c.await("writes at the next leader", func() bool { return count() > before+50 })
	t.Logf("50 writes were acknowledged %s after the death of the leader (time-outs are 0.3 s)", time.Since(died))
	first.start()
	c.await("the return of the first", first.hasCaughtUp)
	cancel()
	wg.Wait()
	c.awaitEqual()
	for _, m := range c.members {
		for name, revision := range acknowledged {
			if s, ok := m.View().Service(name); !ok || s.Revision != revision {
				t.Fatalf("%s was acknowledged at revision %d: on %s it is %+v", name, revision, m.cfg.Node.Name, s)
			}
		}
	}
	t.Logf("%d acknowledged writes are on all members", len(acknowledged))
}

func TestAllRestart(t *testing.T) {
	c := newTestCluster(t, 3)
	putServices(t, c.followers()[0].Node, 0, 20)
	want := c.leader().View()
	for _, m := range c.members {
		m.kill()
	}
	for _, m := range c.members {
		m.start()
	}
	for _, m := range c.members {
		<-m.CaughtUp()
		if v := m.View(); v.Index() < want.Index() || v.ClusterID() != want.ClusterID() {
			t.Errorf("%s came back with index %d, want %d or more", m.cfg.Node.Name, v.Index(), want.Index())
		}
	}
	c.awaitEqual()
	putServices(t, c.followers()[0].Node, 20, 21)
}

// A leader that is stopped in order leaves its place at once.
func TestGracefulStop(t *testing.T) {
	c := newTestCluster(t, 3)
	f := c.followers()[0]
	ctx, cancel := context.WithCancel(t.Context())
	var longest time.Duration
	writes := make(chan struct{}, 1<<16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			_, err := f.PutService(ctx, service(fmt.Sprintf("s%d", i)), nil)
			if err != nil && ctx.Err() == nil {
				t.Errorf("write %d failed: %v", i, err)
			}
			longest = max(longest, time.Since(began))
			writes <- struct{}{}
		}
	}()
	for range 20 {
		<-writes
	}
	old := c.leader()
	old.stop()
	for range 20 + len(writes) {
		<-writes
	}
	cancel()
	<-done
	if c.leader() == old {
		t.Error("the leader that was stopped still leads")
	}
	t.Logf("longest write through a follower while the leader was stopped: %s", longest)
}

func TestMinorityRefuses(t *testing.T) {
	c := newTestCluster(t, 3)
	old := c.leader()
	putServices(t, old.Node, 0, 1)
	c.isolate(old)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := old.PutService(ctx, service("late"), nil); err == nil {
		t.Error("a leader without a quorum acknowledged a write")
	}
	if _, err := old.ConsistentView(ctx); err == nil {
		t.Error("a leader without a quorum gave a consistent view")
	}
	// A put of what is there already is acknowledged without a write, but not by one who
	// can't know whether it is there.
	if _, err := old.PutService(ctx, service("s0"), nil); err == nil {
		t.Error("a leader without a quorum acknowledged a write that changes nothing")
	}
	if err := old.GrantLease(ctx, "somebody"); err == nil {
		t.Error("a leader without a quorum granted a lease")
	}
	if _, ok := old.View().Service("s0"); !ok {
		t.Error("it does not serve what it knows")
	}
	var next *member
	c.await("the next leader", func() bool {
		for _, m := range c.members {
			if m != old && m.IsLeader() {
				next = m
			}
		}
		return next != nil
	})
	putService(t, next.Node, service("s0", func(s *api.Service) { s.Command = "other" }))
	c.isolate()
	v, err := old.ConsistentView(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := v.Service("s0"); s.Command != "other" {
		t.Errorf("a consistent view through the old leader: got %+v", s)
	}
	c.awaitEqual()
}

// A follower that lags behind the log is sent a snapshot, and is equal then.
func TestSnapshotCatchesUp(t *testing.T) {
	c := newTestCluster(t, 3)
	lagging := c.followers()[0]
	lagging.kill()
	leader := c.leader()
	putServices(t, leader.Node, 0, 50)
	rc := leader.raft.ReloadableConfig()
	rc.TrailingLogs = 1
	if err := leader.raft.ReloadConfig(rc); err != nil {
		t.Fatal(err)
	}
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	putServices(t, leader.Node, 50, 60)
	lagging.start()
	<-lagging.CaughtUp()
	c.awaitEqual()
	if lagging.raft.Stats()["last_snapshot_index"] == "0" {
		t.Error("it was not sent a snapshot")
	}
	m := c.add("node-late")
	m.cfg.Join = c.joining(m)
	m.start()
	c.awaitEqual()
}

func TestLease(t *testing.T) {
	c := newTestCluster(t, 3)
	leader, f := c.leader(), c.followers()[0]
	ttl := leader.Node.cfg.LeaseTTL
	if err := f.GrantLease(t.Context(), "x"); !errors.Is(err, ErrNotLeader) {
		t.Errorf("by a follower: got %v", err)
	}
	began := leader.leases.start()
	if leader.LeaseEnded("x", began.Add(ttl)) || !leader.LeaseEnded("x", began.Add(ttl+ttl/leaseMargin)) {
		t.Error("without a grant it does not end with the term's begin")
	}
	before := time.Now()
	if err := leader.GrantLease(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if leader.LeaseEnded("x", before.Add(ttl)) || !leader.LeaseEnded("x", time.Now().Add(ttl+ttl/leaseMargin)) {
		t.Error("after a grant it does not end with it")
	}
	if f.LeaseEnded("x", before.Add(time.Hour)) {
		t.Error("a follower claims to know")
	}
}

// A server that finds no leader serves what it knew when it stopped; and after a crash
// all of that but the last entries, of which it can't know whether they were committed.
func TestStartWithoutALeader(t *testing.T) {
	for name, crash := range map[string]bool{"stopped": false, "crashed": true} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t, 3)
			f := c.followers()[0]
			putServices(t, f.Node, 0, 10)
			if err := f.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			putServices(t, f.Node, 10, 20)
			c.awaitEqual()
			want := f.View()
			for _, m := range c.members {
				m.kill()
			}
			if crash {
				raw, err := openBolt(filepath.Join(f.disk.dir, logFile), time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(raw.SetUint64([]byte(keyCommitted), 0), raw.Close()); err != nil {
					t.Fatal(err)
				}
			}
			f.start()
			v := f.View()
			if _, ok := v.Service("s18"); !ok || crash && v.Index()+1 < want.Index() || !crash && v.Hash() != want.Hash() {
				t.Errorf("alone: got index %d, want %d", v.Index(), want.Index())
			}
			if _, _, ok := f.Leader(); ok || f.hasCaughtUp() {
				t.Error("it claims to know a leader")
			}
			if err := f.raft.Snapshot().Error(); err == nil {
				t.Error("it took a snapshot that is ahead of its label")
			}
			for _, m := range c.members {
				if m != f {
					m.start()
				}
			}
			<-f.CaughtUp()
			putServices(t, f.Node, 20, 25)
			c.awaitEqual()
			if err := f.raft.Snapshot().Error(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A leader whose disk is nearly full leaves its place, and the cluster goes on writing
// through it; and it does so again when its disk is full another time.
func TestFullDiskYields(t *testing.T) {
	c := newTestCluster(t, 3)
	var full atomic.Bool
	var looks atomic.Int64 // at a disk with room
	leader := c.leader()
	leader.stop()
	leader.cfg.FreeSpace = func(string) (api.Size, error) {
		if full.Load() {
			return 0, nil
		}
		looks.Add(1)
		return api.GiB, nil
	}
	leader.start()
	<-leader.CaughtUp()
	for n := range 2 {
		c.await("its leadership", func() bool {
			if l := c.leader(); l != leader {
				_ = l.transferTo(t.Context(), raft.ServerID(leader.ID()))
			}
			return leader.IsLeader()
		})
		full.Store(true)
		c.await("another leader", func() bool { return c.leader() != leader })
		putServices(t, leader.Node, n, n+1)
		before := looks.Load()
		full.Store(false)
		c.await("a look at the disk", func() bool { return looks.Load() > before })
	}
}

// Writes that wait for others are no fault of this server: it stays.
func TestLostQuorumIsNoFault(t *testing.T) {
	c := newTestCluster(t, 3)
	old := c.leader()
	old.stop()
	old.cfg.patience = 2 * tick
	old.start()
	<-old.CaughtUp()
	var others []*member
	for _, m := range c.members {
		if m != old {
			others = append(others, m)
		}
	}
	for _, m := range others {
		m.kill()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := old.PutService(ctx, service(fmt.Sprintf("s%d", i)), nil)
			if code := api.CodeOf(err); code != api.CodeUnavailable && code != api.CodeTimeout {
				t.Errorf("a write without a quorum: got %v", err)
			}
		})
	}
	wg.Wait() // they give up by themselves
	cancel()
	began := time.Now()
	if _, err := old.PutService(t.Context(), service("late"), nil); !errors.Is(err, errNoLeader) || time.Since(began) > patienceForLeader {
		t.Errorf("a write long after: got %v after %s", err, time.Since(began))
	}
	if old.latch.tripped() != nil {
		t.Error("it blames itself")
	}
}

// A write through a follower is visible there without waiting for Raft's next message,
// which comes after CommitTimeout: 40 writes would take 80 s.
func TestFollowersLearnOfCommitsAtOnce(t *testing.T) {
	c := newTestClusterWith(t, 3, func(cfg *Config) {
		tune := cfg.tune
		cfg.tune = func(rc *raft.Config) { tune(rc); rc.CommitTimeout = 2 * time.Second }
	})
	began := time.Now()
	putServices(t, c.followers()[0].Node, 0, 40)
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("40 writes took %s: they wait for CommitTimeout", took)
	}
}
