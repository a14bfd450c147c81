package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

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
		n.onStart.set(func(driver.Spec) error { return errNo })
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
		n.onStart.set(nil)
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
		n.onReady.set(func(context.Context, *proc) bool { return false })
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
		n.onReady.set(func(_ context.Context, p *proc) bool {
			if n.started(ref1) < 3 {
				p.end(driver.Exit{Known: true, Code: 1})
				return false
			}
			return true
		})
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

// TestCrashAfterChange: a change from before the crash is no reason to skip the pause, or
// to go on after giving up; one from after it is.
func TestCrashAfterChange(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.put(func(s *api.Service) { s.MaxRestarts = 1 })
		n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref1)
		time.Sleep(900 * time.Millisecond)
		n.expect(ref1, api.StateBackoff, gateDown)
		n.put(func(s *api.Service) { s.MaxRestarts = 2 })
		n.expect(ref1, api.StateRunning, gateOpen)

		n.put(func(s *api.Service) { s.Restart = api.RestartNever })
		n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref1)
		time.Sleep(time.Hour)
		n.changed(ref1)
		n.expect(ref1, api.StateFailed, gateDown)
		n.put(plain)
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}
