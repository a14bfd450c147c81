package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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
		n.onReady = func(context.Context, *proc) bool { time.Sleep(time.Second); return true }
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
		n.onReady = func(context.Context, *proc) bool { time.Sleep(5 * time.Second); return true }
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

// TestCrash: a request that meets a crash waits for the restart and succeeds; crash
// after crash the pauses grow; then it is failed.
func TestCrash(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		for _, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			n.crash(ref1)
			o := n.expect(ref1, api.StateBackoff, gateDown)
			if o.Reason != "ended with exit code 3" || *o.ExitCode != 3 {
				t.Errorf("observed %+v", o)
			}
			began := time.Now()
			if err := n.agent.Wake(t.Context(), ref1); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != pause {
				t.Errorf("restarted after %s, want %s", got, pause)
			}
			n.expect(ref1, api.StateRunning, gateOpen)
		}
		n.crash(ref1)
		o := n.expect(ref1, api.StateFailed, gateDown)
		if o.Restarts != 3 {
			t.Errorf("%d restarts, want 3", o.Restarts)
		}
		if len(n.agent.supervisors) != 0 {
			t.Error("a failed instance has a supervisor")
		}
		if got := testutil.ToFloat64(n.agent.metrics.restarts); got != 3 {
			t.Errorf("counted %v restarts, want 3", got)
		}
	})
}

// TestFailedWake: a request is a reason to try a failed instance again, at most once per
// backoff.
func TestFailedWake(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.Restart = api.RestartNever })
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref1)
		n.expect(ref1, api.StateFailed, gateDown)
		time.Sleep(time.Second)

		err := n.agent.Wake(t.Context(), ref1)
		wantCode(t, err, api.CodeFailed)
		var e *api.Error
		if !errors.As(err, &e) || e.RetryAfter.Std() != 3*time.Second {
			t.Errorf("error %#v, want RetryAfter 3s", e)
		}
		if n.started(ref1) != 1 {
			t.Error("started before its backoff was over")
		}
		time.Sleep(3 * time.Second)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

func TestFailedRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.Restart = api.RestartNever })
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref1)
		n.expect(ref1, api.StateFailed, gateDown)
		if err := n.agent.Restart(t.Context(), ref1); err != nil { // at once: an operator's wish
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestStartFails: nobody waits for a program that can't be executed.
func TestStartFails(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onStart = func(driver.Spec) error { return errNo }
		n.open()
		n.want(ref1, api.DesiredAsleep)
		err := n.agent.Wake(t.Context(), ref1)
		wantCode(t, err, api.CodeFailed)
		if !strings.Contains(err.Error(), "start web:one: no") {
			t.Errorf("error %q does not say why", err)
		}
		n.expect(ref1, api.StateBackoff, gateDown)
		if n.agent.ports.inUse() != 0 {
			t.Error("a port is left allocated")
		}
		n.onStart = nil
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRefused: what this machine can't do is not tried again by itself.
func TestRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.Isolation = api.IsolationSandbox })
		n.open()
		n.want(ref1, api.DesiredRunning)
		o := n.expect(ref1, api.StateFailed, gateDown)
		if !strings.Contains(o.Reason, `isolation "sandbox"`) {
			t.Errorf("reason %q", o.Reason)
		}
		n.put(plain) // the service is corrected
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

func TestUnknownCommand(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.Command = "no-such-program-anywhere" })
		n.open()
		n.want(ref1, api.DesiredAsleep)
		err := n.agent.Wake(t.Context(), ref1)
		wantCode(t, err, api.CodeFailed)
		if !strings.Contains(err.Error(), `command: got "no-such-program-anywhere", want an executable in PATH=`) {
			t.Errorf("error %q", err)
		}
	})
}

// TestStartupTimeout: a program that never listens is ended and tried again.
func TestStartupTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady = func(context.Context, *proc) bool { return false }
		n.open()
		n.want(ref1, api.DesiredAsleep)
		began := time.Now()
		err := n.agent.Wake(t.Context(), ref1)
		wantCode(t, err, api.CodeTimeout)
		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("gave up after %s, want 10s", got)
		}
		o := n.expect(ref1, api.StateBackoff, gateDown)
		if o.Reason != "accepted no connections within 10s" {
			t.Errorf("reason %q", o.Reason)
		}
	})
}

// TestCrashWhileStarting: who waits goes on waiting.
func TestCrashWhileStarting(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady = func(_ context.Context, p *proc) bool {
			if n.started(ref1) < 3 {
				p.end(driver.Exit{Known: true, Code: 1})
				return false
			}
			return true
		}
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		if n.started(ref1) != 3 {
			t.Errorf("started %d times, want 3", n.started(ref1))
		}
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
		n.onTerm = func(*proc) {}
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.want(ref1, api.DesiredStopped)
		time.Sleep(4900 * time.Millisecond)
		n.expect(ref1, api.StateStopping, gateHeld)
		if !n.process(ref1).term {
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
		n.onTerm = func(*proc) {}
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
		n.onStart = func(driver.Spec) error { <-release; return nil }
	case "backoff":
		n.onReady = func(_ context.Context, p *proc) bool { p.end(driver.Exit{Known: true, Code: 1}); return false }
	default:
		n.onReady = func(context.Context, *proc) bool { return false }
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

// TestEphemeralData: data that does not persist survives sleep and crash, and goes when
// the instance is stopped or removed, awake or asleep, whatever links it holds.
func TestEphemeralData(t *testing.T) {
	for _, asleepFirst := range []bool{false, true} {
		for _, removed := range []bool{false, true} {
			t.Run(fmt.Sprintf("asleep first: %t, removed: %t", asleepFirst, removed), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *node) { ephemeralData(t, n, asleepFirst, removed) })
			})
		}
	}
}

func ephemeralData(t *testing.T, n *node, asleepFirst, removed bool) {
	no := false
	n.put(func(s *api.Service) { s.StoragePersist = &no })
	n.open()
	n.want(ref1, api.DesiredRunning)
	n.expect(ref1, api.StateRunning, gateOpen)
	outside := filepath.Join(n.dirs, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "f"), nil, 0o600),
		os.Symlink(outside, filepath.Join(n.dataDir(ref1), "link"))); err != nil {
		t.Fatal(err)
	}
	n.crash(ref1)
	time.Sleep(time.Second)
	n.expect(ref1, api.StateRunning, gateOpen)
	if asleepFirst {
		if err := n.agent.Sleep(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateAsleep, gateAsleep)
	}
	if !n.hasData(ref1) {
		t.Fatal("data is gone too early")
	}
	if removed {
		n.remove(ref1)
	} else {
		n.want(ref1, api.DesiredStopped)
	}
	synctest.Wait()
	if n.hasData(ref1) || n.record(ref1) != nil {
		t.Error("data, or its record, is left")
	}
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if !removed {
		n.expect(ref1, api.StateStopped, gateHeld)
	}
}

// TestPersistentData stays, whatever happens.
func TestPersistentData(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.remove(ref1)
		synctest.Wait()
		if !n.hasData(ref1) || n.process(ref1) != nil || n.record(ref1) != nil || n.agent.ports.inUse() != 0 {
			t.Error("not removed, or its data is")
		}
		if _, known := n.agent.Observed(ref1); known {
			t.Error("a removed instance is still known")
		}
	})
}

// TestMaxStarts: as many as allowed are being started at once, and all are in the end.
func TestMaxStarts(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady = func(context.Context, *proc) bool { time.Sleep(100 * time.Millisecond); return true }
		n.open(func(c *Config) { c.MaxStarts = 4 })
		var wg sync.WaitGroup
		for i := range 100 {
			ref := api.Ref{Service: "web", ID: fmt.Sprint("i", i)}
			n.want(ref, api.DesiredAsleep)
			wg.Go(func() {
				if err := n.agent.Wake(t.Context(), ref); err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if got := time.Since(began); got != 2500*time.Millisecond {
			t.Errorf("took %s, want 2.5s", got)
		}
		if n.most != 4 {
			t.Errorf("%d were started at once, want 4", n.most)
		}
	})
}

// TestSleepersCostNothing: no goroutine and no memory of the agent's own.
func TestSleepersCostNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		const many = 100_000
		for i := range many {
			ref := api.Ref{Service: "web", ID: fmt.Sprint("i", i)}
			n.insts[ref] = &api.Instance{Service: "web", ID: ref.ID, Desired: api.DesiredAsleep, Generation: 1,
				Observed: &api.Observed{State: api.StateAsleep, Desired: api.DesiredAsleep, Generation: 1}}
			n.gates[ref] = &gate{}
		}
		before := runtime.NumGoroutine()
		n.open()
		synctest.Wait()
		if extra := runtime.NumGoroutine() - before; extra > 3 {
			t.Errorf("%d goroutines for sleepers", extra)
		}
		if len(n.agent.supervisors) != 0 || len(n.agent.reports.pending) != 0 || len(n.reports) != 0 {
			t.Error("sleepers are held on to, or reported")
		}
	})
}

// TestCycles: nothing is left of many sleeps and wakes.
func TestCycles(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		before := runtime.NumGoroutine()
		for range 500 {
			if err := errors.Join(n.agent.Wake(t.Context(), ref1), n.agent.Sleep(t.Context(), ref1)); err != nil {
				t.Fatal(err)
			}
		}
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if runtime.NumGoroutine() > before || len(n.agent.supervisors) != 0 || n.agent.ports.inUse() != 0 {
			t.Error("something is left")
		}
		n.remove(ref1)
		synctest.Wait()
		if left, _ := os.ReadDir(filepath.Join(n.dirs, "sock")); len(left) != 0 {
			t.Errorf("%v is left of the sockets", left)
		}
		if fi, err := os.Stat(filepath.Join(n.dirs, "run", recordsFile)); err != nil || fi.Size() > slotSize {
			t.Errorf("the records have grown: %v, %v", fi, err)
		}
		if got := n.started(ref1); got != 500 {
			t.Errorf("started %d times, want 500", got)
		}
	})
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		reg := prometheus.NewRegistry()
		n.put(plain)
		n.open(func(c *Config) { c.Registerer = reg })
		n.want(ref1, api.DesiredRunning)
		n.want(ref2, api.DesiredAsleep)
		n.want(ref3, api.DesiredStopped)
		if err := n.agent.Wake(t.Context(), ref2); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
		err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tenement_ports_in_use Ports given to instances.
# TYPE tenement_ports_in_use gauge
tenement_ports_in_use 2
# HELP tenement_starts_in_flight Instances that are being started.
# TYPE tenement_starts_in_flight gauge
tenement_starts_in_flight 0
# HELP tenement_wakes_total Starts of instances that a request waited for.
# TYPE tenement_wakes_total counter
tenement_wakes_total 1
# HELP tenement_instances Instances on this node by state.
# TYPE tenement_instances gauge
tenement_instances{state="asleep"} 0
tenement_instances{state="backoff"} 0
tenement_instances{state="degraded"} 0
tenement_instances{state="failed"} 0
tenement_instances{state="pending"} 0
tenement_instances{state="running"} 2
tenement_instances{state="starting"} 0
tenement_instances{state="stopped"} 1
tenement_instances{state="stopping"} 0
tenement_instances{state="unhealthy"} 0
`), "tenement_ports_in_use", "tenement_starts_in_flight", "tenement_wakes_total", "tenement_instances")
		if err != nil {
			t.Error(err)
		}
		if got := testutil.CollectAndCount(n.agent.metrics.phases); got != 3 {
			t.Errorf("%d phases of starts are measured, want 3", got)
		}
	})
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "create agent: Config.") {
		t.Errorf("New with nothing set: %v", err)
	}
}

func TestClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady = func(context.Context, *proc) bool { return false }
		a := n.open()
		n.want(ref1, api.DesiredAsleep)
		woken := async(func() error { return a.Wake(t.Context(), ref1) })
		n.expect(ref1, api.StateStarting, gateDown)
		n.stop()
		wantCode(t, <-woken, api.CodeUnavailable)
		wantCode(t, a.Wake(t.Context(), ref1), api.CodeUnavailable)
		n.changed(ref1)
		if n.process(ref1) == nil {
			t.Error("closing ended a process")
		}
	})
}
