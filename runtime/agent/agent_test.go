package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

func wantCode(t *testing.T, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Fatalf("error %v has code %q, want %q", err, got, want)
	}
}

func plain(*api.Service) {}

// TestDeclaredRunning: starts when declared, reports what it does, and is known by it.
func TestDeclaredRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		o := n.expect(ref1, api.StateRunning, gateOpen)
		if !o.Healthy || o.Endpoint == nil || o.ServiceRevision != 1 || o.Generation != 1 || o.Desired != api.DesiredRunning || o.Restarts != 0 {
			t.Errorf("observed %+v", o)
		}
		r := n.record(ref1)
		if r == nil || r.Handle == nil || r.Endpoint == nil || r.Port < minPort || r.Port > maxPort {
			t.Errorf("recorded %+v", r)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := n.insts[ref1].Observed; got == nil || got.State != api.StateRunning {
			t.Errorf("reported %+v", got)
		}
	})
}

// TestDeclaredAsleep and stopped: nothing is started, and nothing costs anything.
func TestDeclaredAtRest(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		n.want(ref2, api.DesiredStopped)
		n.expect(ref1, "", gateAsleep)
		n.expect(ref2, "", gateHeld)
		wantCode(t, n.agent.Wake(t.Context(), ref2), api.CodeUnavailable)
		wantCode(t, n.agent.Restart(t.Context(), ref2), api.CodeUnavailable)
		wantCode(t, n.agent.Wake(t.Context(), ref3), api.CodeNotFound)
		synctest.Wait()
		if n.started(ref1)+n.started(ref2) != 0 || len(n.agent.supervisors) != 0 {
			t.Error("something was started")
		}
		n.want(ref2, api.DesiredAsleep)
		n.expect(ref2, api.StateAsleep, gateAsleep)
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestOneWake: however many wake an instance, it is started once, and all go on when it
// accepts connections.
func TestOneWake(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady.set(func(context.Context, *proc) bool { time.Sleep(time.Second); return true })
		n.open()
		n.want(ref1, api.DesiredAsleep)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if err := n.agent.Wake(t.Context(), ref1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n.expect(ref1, api.StateRunning, gateOpen)
		if got := n.started(ref1); got != 1 {
			t.Errorf("started %d times, want 1", got)
		}
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Errorf("wake of a running instance: %v", err)
		}
	})
}

// TestWakeGivenUp: a caller who leaves does not end the wake.
func TestWakeGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady.set(func(context.Context, *proc) bool { time.Sleep(5 * time.Second); return true })
		n.open()
		n.want(ref1, api.DesiredAsleep)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := n.agent.Wake(ctx, ref1)
		wantCode(t, err, api.CodeTimeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v hides why", err)
		}
		time.Sleep(5 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestIdle: sleeps when no request was open for idle_timeout, keeps its data, and wakes.
func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.IdleTimeout = api.Seconds(60) })
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(50 * time.Second)
		end := n.request(ref1)
		time.Sleep(200 * time.Second) // a long stream
		n.expect(ref1, api.StateRunning, gateOpen)
		end()
		time.Sleep(59 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(62 * time.Second)
		o := n.expect(ref1, api.StateAsleep, gateAsleep)
		if o.Desired != api.DesiredRunning || n.record(ref1) != nil || n.agent.ports.inUse() != 0 {
			t.Errorf("asleep: observed %+v, record %v", o, n.record(ref1))
		}
		if !n.hasData(ref1) || len(n.agent.supervisors) != 0 {
			t.Error("sleep took the data, or has a supervisor")
		}
		n.changed(ref1) // its own report comes back: no reason to wake
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		o = n.expect(ref1, api.StateRunning, gateOpen)
		if o.Restarts != 0 {
			t.Errorf("a wake counts as a restart")
		}
	})
}

// TestStop: desired asleep and stopped drain first, bounded; a second wish is heard.
func TestDesired(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.StopTimeout = api.Seconds(5) })
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)

		end := n.request(ref1)
		n.want(ref1, api.DesiredAsleep)
		n.expect(ref1, api.StateStopping, gateAsleep)
		end()
		n.expect(ref1, api.StateAsleep, gateAsleep)

		if err := n.agent.Wake(t.Context(), ref1); err != nil { // its own host still wakes it
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)

		defer n.request(ref1)() // never ends
		n.want(ref1, api.DesiredStopped)
		time.Sleep(4 * time.Second)
		n.expect(ref1, api.StateStopping, gateHeld)
		time.Sleep(2 * time.Second)
		n.expect(ref1, api.StateStopped, gateHeld)

		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.want(ref1, api.DesiredStopped)
		n.expect(ref1, api.StateStopping, gateHeld)
		n.want(ref1, api.DesiredRunning) // while the stop is under way
		time.Sleep(6 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
		if got := n.started(ref1); got != 4 {
			t.Errorf("started %d times, want 4", got)
		}
	})
}

// TestGrace: SIGTERM, stop_timeout, SIGKILL.
func TestGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.StopTimeout = api.Seconds(5) })
		n.onTerm.set(func(*proc) {})
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.want(ref1, api.DesiredStopped)
		time.Sleep(4900 * time.Millisecond)
		n.expect(ref1, api.StateStopping, gateHeld)
		if !n.process(ref1).term.Load() {
			t.Error("not asked to end")
		}
		time.Sleep(200 * time.Millisecond)
		o := n.expect(ref1, api.StateStopped, gateHeld)
		if *o.ExitCode != 137 {
			t.Errorf("exit code %d, want 137", *o.ExitCode)
		}
	})
}

// TestWakeDuringStop: the stop is finished, then it is started again.
func TestWakeDuringStop(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onTerm.set(func(*proc) {})
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		old := n.process(ref1)
		slept := async(func() error { return n.agent.Sleep(t.Context(), ref1) })
		n.expect(ref1, api.StateStopping, gateAsleep)
		woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
		n.expect(ref1, api.StateStopping, gateDown)
		old.end(driver.Exit{Known: true})
		if err := errors.Join(<-woken, <-slept); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
		if n.process(ref1) == old {
			t.Error("the stop was not finished")
		}
	})
}

// TestStopDuringWake: who waits gets an error, and the process is gone.
func TestStopDuringWake(t *testing.T) {
	for _, during := range []string{"pending", "launching", "starting", "backoff"} {
		for _, d := range []api.Desired{api.DesiredAsleep, api.DesiredStopped, wantGone} {
			t.Run(during+" "+string(d), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *node) { stopDuringWake(t, n, during, d) })
			})
		}
	}
}

func stopDuringWake(t *testing.T, n *node, during string, d api.Desired) {
	n.put(plain)
	release := make(chan struct{})
	switch during {
	case "launching":
		n.onStart.set(func(driver.Spec) error { <-release; return nil })
	case "backoff":
		n.onReady.set(func(_ context.Context, p *proc) bool { p.end(driver.Exit{Known: true, Code: 1}); return false })
	default:
		n.onReady.set(func(context.Context, *proc) bool { return false })
	}
	n.open(func(c *Config) { c.MaxStarts = 1 })
	n.want(ref2, api.DesiredAsleep)
	var woken2 <-chan error
	if during == "pending" { // another one has the only slot
		woken2 = async(func() error { return n.agent.Wake(t.Context(), ref2) })
		synctest.Wait()
	}
	n.want(ref1, api.DesiredRunning)
	woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
	want := map[string]api.State{"pending": api.StatePending, "backoff": api.StateBackoff}[during]
	if want == "" {
		want = api.StateStarting
	}
	n.expect(ref1, want, gateDown)
	if d == wantGone {
		n.remove(ref1)
		wantCode(t, <-woken, api.CodeNotFound)
	} else {
		n.want(ref1, d)
		wantCode(t, <-woken, api.CodeUnavailable)
	}
	close(release)
	synctest.Wait()
	if n.process(ref1) != nil {
		t.Error("its process was not ended")
	}
	switch d {
	case api.DesiredAsleep:
		n.expect(ref1, api.StateAsleep, gateAsleep)
	case api.DesiredStopped:
		n.expect(ref1, api.StateStopped, gateHeld)
	}
	if woken2 != nil {
		wantCode(t, <-woken2, api.CodeTimeout)
	}
}

// TestRestart: stop, start, and back when it accepts connections.
func TestRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		old := n.process(ref1)
		end := n.request(ref1)
		done := async(func() error { return n.agent.Restart(t.Context(), ref1) })
		n.expect(ref1, api.StateStopping, gateDown)
		end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		o := n.expect(ref1, api.StateRunning, gateOpen)
		if n.process(ref1) == old || o.Restarts != 1 {
			t.Errorf("observed %+v", o)
		}
	})
}

// TestStopAll ends every process; the next ten starts again what ran, and nothing else.
func TestStopAll(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.want(ref2, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.expect(ref2, api.StateRunning, gateOpen)
		if err := n.agent.Sleep(t.Context(), ref2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := n.agent.StopAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.changed(ref1, ref2)
		synctest.Wait()
		if n.process(ref1) != nil || n.process(ref2) != nil {
			t.Error("a process is left")
		}
		n.stop()
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		n.expect(ref2, api.StateAsleep, gateAsleep)
	})
}
