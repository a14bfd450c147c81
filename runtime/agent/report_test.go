package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// reporterFunc is a Reporter.
type reporterFunc func(ctx context.Context, reports []api.Report) error

func (f reporterFunc) Report(ctx context.Context, reports []api.Report) error { return f(ctx, reports) }

func withReports(t *testing.T, to reporterFunc, f func(r *reports)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newReports(to, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.run(ctx)
		f(r)
	})
}

func report(ref api.Ref, restarts int) api.Report {
	return api.Report{Ref: ref, Observed: api.Observed{State: api.StateRunning, Restarts: restarts}}
}

// TestReportsCoalesce: the first goes at once, a burst in batches 50 ms apart, the latest
// of each instance only.
func TestReportsCoalesce(t *testing.T) {
	type batch struct {
		at time.Duration
		n  int
	}
	var (
		began   = time.Now()
		batches []batch
		last    api.Observed
	)
	withReports(t, func(_ context.Context, reports []api.Report) error {
		batches = append(batches, batch{time.Since(began), len(reports)})
		for _, r := range reports {
			if r.Ref.ID == "zz" {
				last = r.Observed
			}
		}
		return nil
	}, func(r *reports) {
		began = time.Now()
		r.put(report(ref1, 0))
		synctest.Wait()
		for i := range 1500 {
			r.put(report(api.Ref{Service: "web", ID: fmt.Sprintf("i%04d", i)}, 0))
		}
		for i := range 100 {
			r.put(report(api.Ref{Service: "web", ID: "zz"}, i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		want := []batch{{0, 1}, {50 * time.Millisecond, 1000}, {100 * time.Millisecond, 501}}
		if fmt.Sprint(batches) != fmt.Sprint(want) {
			t.Errorf("batches %v, want %v", batches, want)
		}
		if last.Restarts != 99 {
			t.Errorf("reported %+v, want the latest", last)
		}
		if r.waiting() || len(r.flying) != 0 {
			t.Error("something is held back")
		}
	})
}

// TestReportsRetry: nothing is lost, and what is newer replaces what was refused.
func TestReportsRetry(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	tries := 0
	var got []api.Report
	withReports(t, func(_ context.Context, reports []api.Report) error {
		tries++
		if refuse.Load() {
			return errNo
		}
		got = append(got, reports...)
		return nil
	}, func(r *reports) {
		r.put(report(ref1, 1))
		r.put(report(ref2, 1))
		r.put(report(ref3, 1))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if tries < 10 || tries > 15 {
			t.Errorf("%d tries in 10s", tries)
		}
		r.put(report(ref1, 2))
		r.forget(ref3)
		if o, ok := r.latest(ref1); !ok || o.Restarts != 2 {
			t.Errorf("latest %+v, %t", o, ok)
		}
		refuse.Store(false)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if len(got) != 2 || got[0].Ref != ref1 || got[0].Observed.Restarts != 2 || got[1].Observed.Restarts != 1 {
			t.Errorf("got %+v", got)
		}
		if _, ok := r.latest(ref1); ok {
			t.Error("what was taken is still held")
		}
	})
}

// TestReportsFlying: what is on its way is known, and gone once it has been taken.
func TestReportsFlying(t *testing.T) {
	withReports(t, func(ctx context.Context, _ []api.Report) error {
		<-ctx.Done()
		return ctx.Err()
	}, func(r *reports) {
		r.put(report(ref1, 1))
		synctest.Wait()
		if o, ok := r.latest(ref1); !ok || o.Restarts != 1 {
			t.Errorf("latest %+v, %t", o, ok)
		}
		time.Sleep(time.Hour) // the cluster takes nothing: reports come back, over and over
		synctest.Wait()
		if _, ok := r.latest(ref1); !ok {
			t.Error("a report was lost")
		}
	})
}

// TestReportFlush: Close hands over what is left.
func TestReportFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref1)
		n.expect(ref1, api.StateBackoff, gateDown)
		n.stop()
		n.agent = nil
		if o := n.insts[ref1].Observed; o == nil || o.State != api.StateBackoff {
			t.Errorf("reported %+v", o)
		}
	})
}

// TestReportsBounded: a thousand instances that flap are reported 20 times a second at
// most, with and without a leader; nothing piles up, and in the end the newest counts.
func TestReportsBounded(t *testing.T) {
	const instances, flaps = 1000, 200
	inBubble(t, func(t *testing.T, n *node) {
		var leaderless atomic.Bool
		var tries atomic.Int32
		n.onReport.set(func(batch []api.Report) error {
			tries.Add(1)
			seen := make(map[api.Ref]bool, len(batch))
			for _, r := range batch {
				if seen[r.Ref] {
					t.Errorf("two reports of %s in a batch", r.Ref)
				}
				seen[r.Ref] = true
			}
			if leaderless.Load() {
				return errNo
			}
			return nil
		})
		n.put(func(s *api.Service) {
			s.BackoffBase, s.BackoffMax, s.MaxRestarts = api.Duration(time.Millisecond), api.Duration(time.Millisecond), 1<<20
		})
		n.bench = true
		n.open()
		for i := range instances {
			n.want(api.Ref{Service: "web", ID: fmt.Sprint("i", i)}, api.DesiredRunning)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		flapFor := func(seconds int) (batches int32) {
			before := tries.Load()
			for range seconds * 10 {
				for range flaps / 10 { // ten times a second
					i := rand.N(instances)
					if ref := (api.Ref{Service: "web", ID: fmt.Sprint("i", i)}); n.process(ref) != nil {
						n.crash(ref)
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			return tries.Load() - before
		}
		if got := flapFor(5); got > 5*20+1 || got < 5 {
			t.Errorf("%d batches in 5s, want at most 20 a second", got)
		}
		leaderless.Store(true)
		if got := flapFor(10); got > 20 {
			t.Errorf("%d batches in 10s without a leader", got)
		}
		n.agent.reports.mu.Lock()
		held := len(n.agent.reports.pending) + len(n.agent.reports.flying)
		n.agent.reports.mu.Unlock()
		if held > instances {
			t.Errorf("%d reports held back of %d instances", held, instances)
		}
		leaderless.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i := range instances {
			ref := api.Ref{Service: "web", ID: fmt.Sprint("i", i)}
			if o := n.insts[ref].Observed; o == nil || o.State != api.StateRunning || o.Restarts+1 != n.started(ref) {
				t.Fatalf("%s was last reported as %+v after %d starts", ref, o, n.started(ref))
			}
		}
	})
}
