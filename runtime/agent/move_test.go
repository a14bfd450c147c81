package agent

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func anew(i *api.Instance) { i.Generation++ }

// TestPlacedAnewHere: an instance that is placed again where it is goes on as it is, and is
// reported under the new placement at once.
func TestPlacedAnewHere(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, n *node)
		state  api.State
		gate   gatePosition
		starts int
	}{
		"running": {func(*testing.T, *node) {}, api.StateRunning, gateOpen, 1},
		"asleep":  {func(*testing.T, *node) { time.Sleep(2 * time.Minute) }, api.StateAsleep, gateAsleep, 1},
		"stopped": {func(_ *testing.T, n *node) { n.want(ref1, api.DesiredStopped) }, api.StateStopped, gateHeld, 1},
		"backoff": {func(_ *testing.T, n *node) { n.crash(ref1) }, api.StateBackoff, gateDown, 1},
		"stopping": {func(_ *testing.T, n *node) {
			n.onTerm.set(func(*proc) {})
			n.want(ref1, api.DesiredAsleep)
		}, api.StateStopping, gateAsleep, 1},
		// A new placement is a reason to try again.
		"failed": {func(_ *testing.T, n *node) {
			n.put(func(s *api.Service) { s.Restart = api.RestartNever })
			n.crash(ref1)
		}, api.StateRunning, gateOpen, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *node) {
				n.put(func(s *api.Service) { s.IdleTimeout = api.Duration(time.Minute) })
				n.open()
				n.want(ref1, api.DesiredRunning)
				n.expect(ref1, api.StateRunning, gateOpen)
				c.before(t, n)
				synctest.Wait()
				time.Sleep(reportEvery)
				before := n.process(ref1)
				n.place(ref1, anew)
				o := n.expect(ref1, c.state, c.gate)
				time.Sleep(reportEvery)
				synctest.Wait()
				if o.Generation != 2 || n.insts[ref1].Observed.Generation != 2 {
					t.Errorf("observed under %d, reported under %d; want 2", o.Generation, n.insts[ref1].Observed.Generation)
				}
				if n.starts[ref1] != c.starts || c.starts == 1 && n.process(ref1) != before {
					t.Errorf("%d starts, want %d", n.starts[ref1], c.starts)
				}
				n.onTerm.set(nil)
			})
		})
	}
}

// TestPlacedAnewWhileAway: ten was not there when the placement changed.
func TestPlacedAnewWhileAway(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(time.Second)
		n.stop()
		n.agent = nil
		n.place(ref1, anew)
		n.open()
		if o := n.expect(ref1, api.StateRunning, gateOpen); o.Generation != 2 || n.started(ref1) != 1 {
			t.Errorf("observed under %d after %d starts", o.Generation, n.started(ref1))
		}
	})
}

// TestMovedAway: what has moved is stopped here, and keeps its data for the new owner;
// who waits is told to look elsewhere, not that there is no such instance.
func TestMovedAway(t *testing.T) {
	for _, persist := range []bool{true, false} {
		inBubble(t, func(t *testing.T, n *node) {
			n.put(func(s *api.Service) { s.StoragePersist = &persist })
			n.onReady.set(func(context.Context, *proc) bool { return false })
			n.open()
			n.want(ref1, api.DesiredRunning)
			n.expect(ref1, api.StateStarting, gateDown)
			woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
			synctest.Wait()
			if n.agent.AtRest(ref1) {
				t.Error("at rest, and it runs")
			}
			n.moveAway(ref1)
			if err := <-woken; api.CodeOf(err) != api.CodeUnavailable {
				t.Errorf("Wake = %v, want unavailable", err)
			}
			synctest.Wait()
			if n.process(ref1) != nil || n.gateOf(ref1) != gateHeld || !n.agent.AtRest(ref1) {
				t.Error("it goes on here")
			}
			if n.hasData(ref1) != persist {
				t.Errorf("persistent: %t, has data: %t", persist, n.hasData(ref1))
			}
		})
	}
}

// TestMovedAwayAndBack: the stop is under way when the instance is placed here again.
func TestMovedAwayAndBack(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.onTerm.set(func(*proc) {})
		i := n.insts[ref1]
		n.moveAway(ref1)
		n.expect(ref1, api.StateStopping, gateHeld)
		n.place(ref1, func(back *api.Instance) { *back = *i.Clone(); back.Generation = 3 })
		n.expect(ref1, api.StateStopping, gateDown)
		n.crash(ref1)
		if o := n.expect(ref1, api.StateRunning, gateOpen); o.Generation != 3 || n.started(ref1) != 2 {
			t.Errorf("observed under %d after %d starts", o.Generation, n.started(ref1))
		}
		n.onTerm.set(nil)
	})
}

// TestLeaving: an instance that another node is to serve goes on with the program that it
// has, and is not started for it.
func TestLeaving(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.leaving.Store(true)
		n.open()
		n.want(ref1, api.DesiredRunning)
		synctest.Wait()
		if n.started(ref1) != 0 {
			t.Error("started what is about to leave")
		}
		n.leaving.Store(false)
		n.changed(ref1)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.leaving.Store(true)
		n.changed(ref1)
		n.stop()
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		n.moveAway(ref1)
		synctest.Wait()
		if n.process(ref1) != nil || n.started(ref1) != 1 {
			t.Error("it did not end when it was served elsewhere, or was started again")
		}
	})
}

// TestFence: without the lease an instance ends within its grace, does not start and keeps
// its data; with it, what ran runs again and what slept sleeps.
func TestFence(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			n.put(func(s *api.Service) { ephemeralService(s); s.StopTimeout = api.Seconds(5) })
			n.open()
			n.want(ref1, api.DesiredRunning)
			n.want(ref2, api.DesiredAsleep)
			n.expect(ref1, api.StateRunning, gateOpen)
			expectGate(t, n, ref2, gateAsleep)
			if deaf {
				n.onTerm.set(func(*proc) {})
				end := n.request(ref1) // which is not waited for
				defer end()
			}
			n.fence(ref1, true)
			n.fence(ref2, true)
			if deaf {
				n.expect(ref1, api.StateStopping, gateHeld)
				time.Sleep(5 * time.Second)
			}
			n.expect(ref1, api.StatePending, gateHeld)
			expectGate(t, n, ref2, gateHeld)
			for _, ref := range []api.Ref{ref1, ref2} {
				for _, ask := range []func(context.Context, api.Ref) error{n.agent.Wake, n.agent.Restart} {
					if err := ask(t.Context(), ref); api.CodeOf(err) != api.CodeUnavailable {
						t.Errorf("start of %s = %v, want unavailable", ref, err)
					}
				}
			}
			time.Sleep(time.Hour)
			expectGate(t, n, ref2, gateHeld)
			if n.process(ref1) != nil || n.started(ref1) != 1 || !n.hasData(ref1) {
				t.Error("it runs, or was started, or its data are gone")
			}
			n.fence(ref1, false)
			n.fence(ref2, false)
			n.expect(ref1, api.StateRunning, gateOpen)
			expectGate(t, n, ref2, gateAsleep)
			if n.started(ref2) != 0 {
				t.Error("the sleeper was started")
			}
			n.onTerm.set(nil)
		})
	}
}

func expectGate(t *testing.T, n *node, ref api.Ref, want gatePosition) {
	t.Helper()
	synctest.Wait()
	if got := n.gateOf(ref); got != want {
		t.Errorf("the gate of %s is %s, want %s", ref, got, want)
	}
}

// TestFenceReturnsDuringStop: the lease is back before the program has ended.
func TestFenceReturnsDuringStop(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.onTerm.set(func(*proc) {})
		n.fence(ref1, true)
		n.expect(ref1, api.StateStopping, gateHeld)
		n.fence(ref1, false)
		n.expect(ref1, api.StateStopping, gateDown)
		n.onTerm.set(nil)
		n.crash(ref1)
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

// TestFenceAtRecovery: a program of the former ten goes on with a lease and ends without;
// another ten that finds it gone starts it when there is a lease.
func TestFenceAtRecovery(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(time.Second)
		n.stop()
		n.open()
		n.expect(ref1, api.StateRunning, gateOpen)
		if n.started(ref1) != 1 {
			t.Error("restarted, and it had its lease")
		}
		n.stop()
		n.agent = nil
		n.fence(ref1, true)
		n.open()
		n.expect(ref1, api.StatePending, gateHeld)
		time.Sleep(time.Second)
		n.stop()
		n.open()
		n.expect(ref1, api.StatePending, gateHeld)
		n.fence(ref1, false)
		n.expect(ref1, api.StateRunning, gateOpen)
		if !n.hasData(ref1) || n.started(ref1) != 2 {
			t.Errorf("has data: %t, %d starts", n.hasData(ref1), n.started(ref1))
		}
	})
}

// TestFencedAndRemoved: what is cut off can be removed, and put to sleep by ten's end.
func TestFencedAndRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.want(ref2, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.fence(ref1, true)
		n.fence(ref2, true)
		n.expect(ref1, api.StatePending, gateHeld)
		n.remove(ref1)
		synctest.Wait()
		if _, err := os.Stat(n.dataDir(ref1)); err == nil {
			t.Error("data are left")
		}
		if err := n.agent.StopAll(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
