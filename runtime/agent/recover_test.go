package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// TestRecover: the next agent finds every process again, gate open when Recover returns,
// port reserved, output attached, and goes on with it.
func TestRecover(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		for _, ref := range []api.Ref{ref1, ref2, ref3} {
			n.want(ref, api.DesiredRunning)
			n.expect(ref, api.StateRunning, gateOpen)
		}
		before := n.expect(ref1, api.StateRunning, gateOpen)
		n.crash(ref2)
		time.Sleep(time.Second)
		n.expect(ref2, api.StateRunning, gateOpen)
		n.stop()

		clear(n.gates)
		time.Sleep(time.Minute)
		n.crash(ref3) // nobody sees how
		n.open()
		if n.gateOf(ref1) != gateOpen || n.gateOf(ref2) != gateOpen {
			t.Error("a gate is not open when Recover returns")
		}
		after := n.expect(ref1, api.StateRunning, gateOpen)
		if after.PID != before.PID || !after.Since.Equal(before.Since) || *after.Endpoint != *before.Endpoint {
			t.Errorf("adopted as %+v, was %+v", after, before)
		}
		if o := n.expect(ref2, api.StateRunning, gateOpen); o.Restarts != 1 {
			t.Errorf("the restarts are forgotten: %+v", o)
		}
		o := n.expect(ref3, api.StateBackoff, gateDown)
		if o.Reason != "ended while ten was not running" {
			t.Errorf("reason %q", o.Reason)
		}
		time.Sleep(time.Second)
		n.expect(ref3, api.StateRunning, gateOpen)
		if n.started(ref1) != 1 || n.started(ref2) != 2 || n.started(ref3) != 2 {
			t.Errorf("starts: %v", n.starts)
		}
		if got := n.agent.ports.inUse(); got != 3 {
			t.Errorf("%d ports in use, want 3", got)
		}
		for _, ref := range []api.Ref{ref1, ref2, ref3} {
			if !slices.Contains(n.attached, ref) {
				t.Errorf("output of %s not attached", ref)
			}
		}
		if o := n.expect(ref2, api.StateRunning, gateOpen); n.process(ref2).pid != o.PID {
			t.Error("not the same process")
		}
	})
}

// TestRecoverTwice: adoption leaves records by which the one after adopts.
func TestRecoverTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		o := n.expect(ref1, api.StateRunning, gateOpen)
		for range 3 {
			n.stop()
			n.open()
			if got := n.expect(ref1, api.StateRunning, gateOpen); got.PID != o.PID {
				t.Fatalf("pid %d, want %d", got.PID, o.PID)
			}
		}
		n.crash(ref1)
		n.expect(ref1, api.StateBackoff, gateDown)
	})
}

// TestRecoverChangedMind: what was desired while no ten ran.
func TestRecoverChangedMind(t *testing.T) {
	for _, d := range []api.Desired{api.DesiredAsleep, api.DesiredStopped, wantGone} {
		t.Run(string(d), func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *node) {
				no := false
				n.put(func(s *api.Service) { s.StoragePersist = &no })
				n.open()
				n.want(ref1, api.DesiredRunning)
				n.expect(ref1, api.StateRunning, gateOpen)
				time.Sleep(time.Second)
				n.stop()
				n.agent = nil
				if d == wantGone {
					n.remove(ref1)
				} else {
					n.want(ref1, d)
				}
				n.open()
				switch d {
				case api.DesiredAsleep:
					n.expect(ref1, api.StateAsleep, gateAsleep)
				case api.DesiredStopped:
					n.expect(ref1, api.StateStopped, gateHeld)
				}
				synctest.Wait()
				if n.process(ref1) != nil || n.record(ref1) != nil {
					t.Error("the process, or its record, is left")
				}
				if n.hasData(ref1) {
					t.Errorf("has data: %t", n.hasData(ref1))
				}
			})
		})
	}
}

// TestRecoverWoken: an instance that is desired asleep and was woken by a request stays up.
func TestRecoverWoken(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestRecoverFallingAsleep: ten was killed while it put an instance to sleep; its end is
// not a crash, and an end that has not come is asked for again.
func TestRecoverFallingAsleep(t *testing.T) {
	for _, ended := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			n.put(plain)
			n.onTerm.set(func(*proc) {})
			n.open()
			n.want(ref1, api.DesiredRunning)
			n.expect(ref1, api.StateRunning, gateOpen)
			n.want(ref1, api.DesiredAsleep)
			n.expect(ref1, api.StateStopping, gateAsleep)
			n.stop()
			if ended {
				n.process(ref1).end(driver.Exit{})
			}
			n.onTerm.set(nil)
			n.open()
			n.expect(ref1, api.StateAsleep, gateAsleep)
		})
	}
}

// TestRecoverIntent: ten was killed between the start and the record of its handle.
func TestRecoverIntent(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			n.put(plain)
			n.open()
			n.want(ref1, api.DesiredRunning)
			o := n.expect(ref1, api.StateRunning, gateOpen)
			r := n.record(ref1)
			n.stop()
			r.Handle, r.Endpoint, r.slot = nil, nil, 1
			d, err := openRecords(filepath.Join(n.dirs, "run"))
			if err := errors.Join(err, d.save(r), d.close()); err != nil {
				t.Fatal(err)
			}
			if lost {
				n.crash(ref1)
			}
			n.open()
			if lost {
				n.expect(ref1, api.StateBackoff, gateDown)
				return
			}
			if got := n.expect(ref1, api.StateRunning, gateOpen); got.PID != o.PID || n.started(ref1) != 1 {
				t.Errorf("pid %d, want %d", got.PID, o.PID)
			}
			if r := n.record(ref1); r.Handle == nil || r.Endpoint == nil {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// TestRecoverStarting: a program that did not accept connections yet is waited for.
func TestRecoverStarting(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady.set(func(context.Context, *proc) bool { return false })
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateStarting, gateDown)
		n.stop()
		n.onReady.set(nil)
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		if n.started(ref1) != 1 {
			t.Errorf("started %d times, want 1", n.started(ref1))
		}
	})
}

// TestRecoverOtherBoot: nothing is adopted by a record of another boot; what ran runs
// again, what slept sleeps.
func TestRecoverOtherBoot(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.want(ref2, api.DesiredRunning)
		n.want(ref3, api.DesiredStopped)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.expect(ref2, api.StateRunning, gateOpen)
		if err := n.agent.Sleep(t.Context(), ref2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // reported
		n.stop()
		n.crash(ref1)
		n.boot = "boot-2"
		clear(n.gates)
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		n.expect(ref2, api.StateAsleep, gateAsleep)
		n.expect(ref3, "", gateHeld)
		if o, _ := n.agent.Observed(ref1); o.Restarts != 0 {
			t.Errorf("a boot counts as a crash: %+v", o)
		}
	})
}

// TestRecoverUnknown: when nobody can tell whether the process is there, it is not
// started again behind its back.
func TestRecoverUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.stop()
		a, err := New(Config{
			DataDir: filepath.Join(n.dirs, "data"), RunDir: filepath.Join(n.dirs, "run"), SocketDir: filepath.Join(n.dirs, "sock"),
			Specs: n, Gate: n, Output: fakeOutput{n}, Readiness: n, Checker: n, Reporter: n, BootID: n.boot,
		})
		if err != nil {
			t.Fatal(err)
		}
		n.agent = a
		if err := a.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if o, _ := a.Observed(ref1); o.State != api.StateFailed || !strings.Contains(o.Reason, "not supported") || n.gateOf(ref1) != gateDown {
			t.Errorf("observed %+v", o)
		}
		if n.record(ref1) == nil {
			t.Error("the record is gone")
		}
		n.stop()
		n.open() // with the driver it is found
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestRecoverEphemeral: data that does not persist goes also when its instance was
// removed while no ten ran.
func TestRecoverEphemeral(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		no := false
		n.put(func(s *api.Service) { s.StoragePersist = &no })
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := errors.Join(n.agent.Wake(t.Context(), ref1), n.agent.ask(t.Context(), ref1, onSleep)); err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.agent = nil
		n.remove(ref1)
		n.open()
		synctest.Wait()
		if n.hasData(ref1) {
			t.Error("the data is left")
		}
	})
}
