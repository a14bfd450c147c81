package route

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

var (
	refA = api.Ref{Service: "notes", ID: "a"}
	epA  = api.Endpoint{Network: "tcp", Address: "127.0.0.1:1"}
	epB  = api.Endpoint{Network: "unix", Address: "/s"}
)

// clock is a clock that the test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_000_000, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func gated(t testing.TB) (*Router, *Target, *clock) {
	t.Helper()
	c := &clock{}
	r := newRouter(t, Config{Now: c.now})
	r.PutService(service("notes"))
	r.PutInstance(instance("notes:a", 100))
	target, ok := mustService(t, r, "notes").Target("a")
	if !ok {
		t.Fatal("no instance")
	}
	return r, target, c
}

func TestClaimOnlyWhileOpen(t *testing.T) {
	r, target, _ := gated(t)
	claim := func(want bool) {
		t.Helper()
		b, ok := target.Claim()
		if ok != want || ok != (b != nil) {
			t.Errorf("%v: claim = %v, %v; want %v", target.State(), b, ok, want)
		}
	}
	claim(false)
	for _, shut := range []func(api.Ref){r.Sleep, r.Down, r.Hold} {
		r.Open(refA, epA)
		claim(true)
		shut(refA)
		claim(false)
	}
	if n := r.InFlight(refA); n != 3 {
		t.Errorf("%d in flight, want 3", n)
	}
}

func TestDesiredActsBeforeTheAgent(t *testing.T) {
	r, target, _ := gated(t)
	r.Open(refA, epA)
	put := func(d api.Desired) {
		i := instance("notes:a", 100)
		i.Desired = d
		r.PutInstance(i)
	}
	put(api.DesiredStopped)
	if _, ok := target.Claim(); ok || target.State() != Held {
		t.Errorf("desired stopped: %v", target.State())
	}
	put(api.DesiredRunning) // the agent has not noticed: its open gate is still open
	if _, ok := target.Claim(); !ok {
		t.Errorf("desired running again: %v", target.State())
	}
	r.Hold(refA)
	if got := target.State(); got != Asleep {
		t.Errorf("held, but not desired to be: %v, want asleep", got)
	}
	r.DeleteInstance(refA)
	if _, ok := target.Claim(); ok || target.Declared() {
		t.Error("deleted instance can be claimed")
	}
}

func TestTryClose(t *testing.T) {
	r, target, c := gated(t)
	const idle = time.Minute
	want := func(wait time.Duration, closed bool) {
		t.Helper()
		if w, ok := r.TryClose(refA, idle); w != wait || ok != closed {
			t.Errorf("TryClose = %v, %v; want %v, %v", w, ok, wait, closed)
		}
	}
	want(0, true) // asleep already
	r.Open(refA, epA)
	want(idle, false) // just opened
	c.advance(40 * time.Second)
	want(20*time.Second, false)
	target.Claim()
	c.advance(time.Hour)
	want(idle, false) // a stream that is open for an hour
	if got := r.LastRequest(refA); !got.Equal(c.now()) {
		t.Errorf("LastRequest = %v, want now", got)
	}
	target.Release(c.now())
	want(idle, false)
	c.advance(idle)
	want(0, true)
	if got := r.LastRequest(refA); !got.Equal(c.now().Add(-idle)) {
		t.Errorf("LastRequest = %v, want a minute ago", got)
	}
	if target.State() != Asleep {
		t.Errorf("state %v", target.State())
	}
	r.Down(refA)
	want(idle, false)
	if w, ok := r.TryClose(api.Ref{Service: "no", ID: "x"}, idle); w != 0 || !ok {
		t.Errorf("unknown instance: %v, %v", w, ok)
	}
}

// TestClaimNeverMeetsAClosedGate lets claims race with closing: a claim that succeeded
// forbids TryClose, whatever the interleaving.
func TestClaimNeverMeetsAClosedGate(t *testing.T) {
	r, target, _ := gated(t)
	var (
		wg   sync.WaitGroup
		open atomic.Int64 // requests that believe to be open
		stop = make(chan struct{})
	)
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				open.Add(1) // before the claim, so that a successful close sees it if the claim came first
				if _, ok := target.Claim(); ok {
					if wordState(target.word.Load()) != Open {
						t.Error("the gate closed under an open request")
					}
					target.Release(r.now())
				}
				open.Add(-1)
			}
		})
	}
	closed := 0
	for range 20_000 {
		r.Open(refA, epA)
		if _, ok := r.TryClose(refA, 0); ok {
			closed++
		}
	}
	close(stop)
	wg.Wait()
	if target.InFlight() != 0 {
		t.Errorf("%d requests left open", target.InFlight())
	}
	t.Logf("closed %d times under load", closed)
}

func TestDrain(t *testing.T) {
	r, target, c := gated(t)
	if err := r.Drain(t.Context(), api.Ref{Service: "no", ID: "x"}); err != nil {
		t.Errorf("drain an unknown instance: %v", err)
	}
	r.Open(refA, epA)
	if err := r.Drain(t.Context(), refA); err != nil {
		t.Errorf("drain with no request: %v", err)
	}
	target.Claim()
	target.Claim()
	r.Hold(refA)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Drain(ctx, refA); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled drain: %v", err)
	}
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- r.Drain(t.Context(), refA) }()
	}
	target.Release(c.now())
	select {
	case err := <-done:
		t.Fatalf("drained with a request open: %v", err)
	default:
	}
	target.Release(c.now())
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(r.drains) != 0 || target.word.Load()&drainFlag != 0 {
		t.Error("the drain left something behind")
	}
}

type closer struct{ closed atomic.Int32 }

func (c *closer) Close() error { c.closed.Add(1); return nil }

func TestBackendGoesWithItsGate(t *testing.T) {
	r, target, _ := gated(t)
	r.Open(refA, epA)
	first, _ := target.Claim()
	hung := &closer{}
	if got := first.Attached(func(ep api.Endpoint) io.Closer {
		if ep != epA {
			t.Errorf("endpoint %v", ep)
		}
		return hung
	}); got != hung {
		t.Error("another thing attached")
	}
	r.Open(refA, epA) // again: nothing changes
	if b, _ := target.Claim(); b != first || hung.closed.Load() != 0 {
		t.Error("opening an open gate dropped its connections")
	}
	r.Open(refA, epB)
	if b, _ := target.Claim(); b == first || hung.closed.Load() != 1 {
		t.Error("a new endpoint kept the old connections")
	}
	<-first.Retired()
	late := &closer{}
	second, _ := target.Claim()
	r.Sleep(refA)
	<-second.Retired()
	second.Attached(func(api.Endpoint) io.Closer { return late })
	if late.closed.Load() != 1 {
		t.Error("attached to a retired backend, but not closed")
	}
}

func TestPick(t *testing.T) {
	r := newRouter(t, Config{})
	r.PutService(service("web"))
	s := mustService(t, r, "web")
	if s.Pick(nil) != nil {
		t.Error("picked from nothing")
	}
	set := func(id string, weight int, d api.Desired) api.Ref {
		i := instance("web:"+id, weight)
		i.Desired = d
		r.PutInstance(i)
		return i.Ref()
	}
	set("zero", 0, api.DesiredRunning)
	set("asleep", 100, api.DesiredAsleep)
	set("stopped", 100, api.DesiredStopped)
	if got := s.Pick(nil); got != nil {
		t.Errorf("picked %v, which takes no weighted traffic", got.Ref())
	}
	v1, v2 := set("v1", 75, api.DesiredRunning), set("v2", 25, api.DesiredRunning)
	count := func(want map[string]int) {
		t.Helper()
		got := make(map[string]int)
		for range 100 {
			got[s.Pick(nil).Ref().ID]++
		}
		if len(got) != len(want) || got["v1"] != want["v1"] || got["v2"] != want["v2"] {
			t.Errorf("picked %v, want %v", got, want)
		}
	}
	count(map[string]int{"v1": 75, "v2": 25}) // both asleep: they are woken
	r.Open(v1, epA)
	count(map[string]int{"v1": 75, "v2": 25})
	r.Down(v1)
	count(map[string]int{"v2": 100}) // dead: stepped past
	r.Down(v2)
	if got := s.Pick(nil); got == nil {
		t.Error("all down: nothing to wait for")
	}
	r.Open(v2, epB)
	target, _ := s.Target("v2")
	if got := s.Pick(target); got != target {
		t.Error("the only live one is avoided")
	}
	set("v1", 0, api.DesiredRunning)
	set("v2", 100, api.DesiredRunning)
	count(map[string]int{"v2": 100}) // at once
}

// TestPickWindows is the promise on real requests: any 100 in a row.
func TestPickWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 100), 1, 20).Draw(t, "weights")
		r, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		r.PutService(service("web"))
		sum := 0
		for i, w := range weights {
			r.PutInstance(instance("web:"+string(rune('a'+i)), w))
			sum += w
		}
		s, _ := r.Service("web")
		if sum == 0 {
			return
		}
		var picks []int
		for range 250 {
			picks = append(picks, int(s.Pick(nil).id[0]-'a'))
		}
		for start := 0; start+100 <= len(picks); start++ {
			got := make([]int, len(weights))
			for _, p := range picks[start : start+100] {
				got[p]++
			}
			for i, w := range weights {
				if d := got[i]*sum - 100*w; d > sum || -d > sum {
					t.Fatalf("weights %v, requests %d to %d: backend %d got %d", weights, start, start+99, i, got[i])
				}
			}
		}
	})
}
