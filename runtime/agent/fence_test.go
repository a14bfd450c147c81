package agent

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

func single(s *api.Service) { s.OnDisconnect = api.DisconnectStop }

// endLease ends the node's lease without a word, as for a ten that was stopped.
func (n *node) endLease(ref api.Ref) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fenced[ref] = true
}

// TestNoStartWithoutLease: a ten that goes on after it was stopped has not heard yet that
// its lease has ended. It starts nothing all the same.
func TestNoStartWithoutLease(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(single)
		n.want(ref1, api.DesiredRunning)
		n.open()
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		n.endLease(ref1)
		n.crash(ref1)
		time.Sleep(time.Minute)
		if o := n.expect(ref1, api.StatePending, gateHeld); n.started(ref1) != 1 || o.Reason != reasonFenced {
			t.Errorf("started %d times, reason %q", n.started(ref1), o.Reason)
		}
		n.onStart.set(func(driver.Spec) error { n.endLease(ref1); return nil })
		n.fence(ref1, false)
		time.Sleep(time.Minute)
		if o := n.expect(ref1, api.StatePending, gateHeld); n.started(ref1) != 2 || n.process(ref1) != nil || o.Reason != reasonFenced {
			t.Errorf("started %d times, runs %t, reason %q", n.started(ref1), n.process(ref1) != nil, o.Reason)
		}
		n.onStart.set(nil)
		n.fence(ref1, false)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
	})
}

// TestKillFenced: of what is on record, what must not outlive the lease is killed, if that
// has ended, and nothing else.
func TestKillFenced(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(single)
		n.want(ref1, api.DesiredRunning)
		n.open()
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		run := filepath.Join(n.dirs, "run")
		kill := func(boot string, expired bool) (left int) {
			t.Helper()
			left, err := KillFenced(t.Context(), run, boot, map[api.Isolation]driver.Driver{api.IsolationProcess: n}, func() bool { return expired }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
			}
			return left
		}
		want := func(what string, fences, runs bool) {
			t.Helper()
			any, err := AnyFenced(run, n.boot)
			if any != fences || n.agent.Fences() != fences || err != nil || (n.process(ref1) != nil) != runs {
				t.Errorf("%s: fences %t and %t, runs %t, %v", what, any, n.agent.Fences(), n.process(ref1) != nil, err)
			}
		}
		want("started", true, true)
		kill(n.boot, false)
		want("the lease has not ended", true, true)
		kill("another", true)
		want("another boot's", true, true)
		n.put(plain)
		time.Sleep(time.Second)
		kill(n.boot, true)
		want("it may run twice now", false, true)
		n.put(single)
		time.Sleep(time.Second)
		want("it must not again", true, true)
		n.stop()
		n.open()
		time.Sleep(time.Second)
		want("adopted", true, true)
		n.stop() // ten is dead
		if left := kill(n.boot, true); left != 0 || n.process(ref1) != nil {
			t.Errorf("%d left, runs %t", left, n.process(ref1) != nil)
		}
		n.open()
	})
}
