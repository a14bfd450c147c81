package leader

import (
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// A new leader finds that a node is down, for so it was when the one before gave it up: it
// moves nothing from there before it has asked the node itself.
func TestDownBeforeThisTerm(t *testing.T) {
	for _, ago := range []time.Duration{0, time.Minute, 24 * time.Hour, -24 * time.Hour} {
		run(t, func(t *testing.T, f *fakeCluster) {
			since := time.Now().Add(-ago)
			f.two(func() {
				f.do(state.Command{NodeStatus: &state.NodeStatus{ID: "n2", Status: api.NodeDown, At: since, Deadline: since.Add(1500 * time.Millisecond)}})
				f.slow, f.leases["n2"] = 100*time.Millisecond, true
			})
			between(t, "up", waitFor(t, func() bool { return f.status("n2") == api.NodeUp }), 0, time.Second)
			time.Sleep(time.Minute)
			if f.on("replace") != "n2" || f.on("stop") != "n2" {
				t.Errorf("down %s ago: replace is on %s, stop on %s", ago, f.on("replace"), f.on("stop"))
			}
			// A later silence is none that was found.
			f.answer("n2", ErrRefused)
			between(t, "replaced", waitFor(t, func() bool { return f.on("replace") == "n1" }), 3400*time.Millisecond, 4300*time.Millisecond)
		})
	}
}

// And what is down indeed is replaced, after the patience that it is due.
func TestStillDownInThisTerm(t *testing.T) {
	since := time.Now().Add(-time.Minute)
	for _, c := range []struct {
		deadline    time.Time
		least, most time.Duration
	}{
		{since.Add(1500 * time.Millisecond), 1400 * time.Millisecond, 1600 * time.Millisecond},
		{since, 0, 100 * time.Millisecond},
		{time.Time{}, 0, 100 * time.Millisecond},
	} {
		run(t, func(t *testing.T, f *fakeCluster) {
			f.two(func() {
				f.do(state.Command{NodeStatus: &state.NodeStatus{ID: "n2", Status: api.NodeDown, At: since, Deadline: c.deadline}})
				f.answer("n2", ErrRefused)
			})
			between(t, "replaced", waitFor(t, func() bool { return f.on("replace") == "n1" }), c.least, c.most)
			time.Sleep(time.Minute)
			f.set(func(f *fakeCluster) { f.leases["n2"] = true })
			between(t, "lease ended", waitFor(t, func() bool { return f.on("stop") == "n1" }), 0, time.Second)
		})
	}
}

// A leader that was stopped while it wrote that a node is down has that committed when it
// goes on: the deadline has passed by then, and the node may answer.
func TestDownIsCommittedLate(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		f.set(func(f *fakeCluster) { f.late, f.slow = 20*time.Second, 100*time.Millisecond })
		f.silence("n2")
		time.Sleep(20 * time.Second)
		f.answer("n2", nil)
		f.set(func(f *fakeCluster) { f.late = 0 })
		waitFor(t, func() bool { return f.status("n2") == api.NodeDown })
		between(t, "up", waitFor(t, func() bool { return f.status("n2") == api.NodeUp }), 0, time.Second)
		time.Sleep(time.Minute)
		if f.on("replace") != "n2" {
			t.Errorf("replace is on %s", f.on("replace"))
		}
	})
}
