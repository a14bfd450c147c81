package agent

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

// world is the rest of the universe as far as a machine can tell: what it set going and
// has not heard of yet, in no particular order.
type world struct {
	t       *rapid.T
	m       machine
	now     time.Time
	alive   bool // there is a process
	ready   bool // which accepts connections
	open    bool // the gate
	data    bool // the instance has written data
	discard bool // a user stopped it since, or it did so for good by itself
	waiting bool // somebody waits for it to be up
	running map[event]bool
	starts  []time.Time // by retries since the last other start
}

// answers are the events by which an operation may end.
var answers = map[verb][]event{
	doQueue: {onGranted}, doLaunch: {onStarted, onStartFailed, onStartRefused}, doAwait: {onReady},
	doFetch: {onDataHere}, doCheck: {onHealthOK, onHealthFailed}, doDrain: {onDrained}, doPutAway: {onEnded},
}

func (w *world) feed(ev event) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(w.t, "seconds")) * time.Second)
	if ev == onDeadline {
		w.now = w.m.Deadline
	}
	for _, evs := range answers {
		for _, e := range evs {
			if e == ev {
				for _, sibling := range evs {
					delete(w.running, sibling)
				}
			}
		}
	}
	switch ev {
	case onStarted:
		w.alive, w.data = true, true
	case onReady:
		w.ready = true
	case onExitOK, onExitFailed, onExitUnknown:
		w.alive, w.ready = false, false
	case onIdle:
		w.open = false
	case onStop, onWantAsleep, onWantStopped, onWantGone:
		w.discard = true
	case onWake, onRestart:
		w.waiting = true
	}
	before := w.m
	after, actions := before.step(ev, "detail", w.now)
	w.m = after
	if after.Phase != before.Phase { // a phase's operations end with it
		for _, e := range []event{onDataHere, onGranted, onReady, onHealthOK, onHealthFailed, onDrained} {
			delete(w.running, e)
		}
	}
	for _, a := range actions {
		w.act(a)
	}
	w.check(before, ev)
}

func (w *world) act(a action) {
	for _, ev := range answers[a.do] {
		w.running[ev] = true
	}
	switch a.do {
	case doGate:
		w.open = a.gate == gateOpen
	case doLaunch:
		w.discard = false
		if w.alive {
			w.t.Fatalf("started a second process")
		}
		if w.m.Fenced || w.m.DataOn != "" {
			w.t.Fatalf("started where it must not run, or without its data")
		}
	case doTerminate, doKill:
		if !w.alive {
			w.t.Fatalf("signalled a process that is gone")
		}
		if w.open {
			w.t.Fatalf("told a process to end that may still be given requests")
		}
	case doAnswer:
		if a.code == "" && w.m.Phase.serving() != w.open {
			w.t.Fatalf("answered before the gate was open")
		}
		w.waiting = false
	case doPutAway:
		if w.alive {
			w.t.Fatalf("put away what a live process uses")
		}
		if a.purge && !w.discard && w.m.Next != toStopped {
			w.t.Fatalf("removed data and nobody stopped the instance")
		}
		w.data = w.data && !a.purge
	case doComplain:
		w.t.Fatalf("an event was held to be impossible")
	}
}

func (w *world) check(before machine, ev event) {
	m := w.m
	fail := func(format string, args ...any) {
		w.t.Fatalf("%s × %s → %s to %s: %s", before.Phase, ev, m.Phase, targetNames[m.Next], fmt.Sprintf(format, args...))
	}
	if w.open && (!w.alive || !w.ready) {
		fail("the gate is open and nobody behind it")
	}
	if w.open != m.Phase.serving() {
		fail("the gate is open: %t", w.open)
	}
	if m.Fenced {
		w.checkFence(fail)
	}
	if m.Phase.atRest() {
		if m.DataOn != "" && m.Phase != failed {
			fail("at rest, and its data are elsewhere")
		}
		if w.alive || w.running[onStarted] {
			fail("at rest with a process")
		}
		if w.waiting {
			fail("at rest and somebody waits")
		}
	} else if len(w.running) == 0 && m.Deadline.IsZero() && m.Phase != fenced {
		fail("nothing will ever happen")
	}
	if m.Phase == backoff && ev == onEnded {
		pause := m.Deadline.Sub(w.now)
		if want := backoffAfter(m.Service, len(m.Recent)); pause != want {
			fail("backs off for %s, want %s", pause, want)
		}
	}
	w.checkRestarts(before, ev, fail)
}

// checkFence: what must not run ends by itself, and nobody waits for it.
func (w *world) checkFence(fail func(string, ...any)) {
	m := w.m
	switch m.Phase {
	case pending, launching, starting, running, degraded, draining:
		fail("goes on where it must not run")
	}
	if w.waiting {
		fail("somebody waits for what must not run")
	}
	if w.alive && m.Deadline.Sub(w.now) > m.Service.StopTimeout.Std() {
		fail("takes its time to end")
	}
}

// checkRestarts counts the starts that nobody asked for, in the world's own way.
func (w *world) checkRestarts(before machine, ev event, fail func(string, ...any)) {
	if w.m.Phase != pending || before.Phase == pending {
		return
	}
	if before.Phase != backoff || ev != onDeadline {
		w.starts = nil
		return
	}
	w.starts = append(w.starts, w.now)
	most := w.m.Service.MaxRestarts
	// A start comes at most backoff_max after the crash that it follows.
	window := w.m.Service.RestartWindow.Std() - w.m.Service.BackoffMax.Std()
	if n := len(w.starts); n > most && w.now.Sub(w.starts[n-1-most]) < window {
		fail("%d restarts within %s", most+1, window)
	}
}

// enabled lists what may happen next.
func (w *world) enabled(users bool) []event {
	var evs []event
	for ev := range event(eventCount) {
		switch {
		case w.running[ev]:
			evs = append(evs, ev)
		case ev == onDeadline && !w.m.Deadline.IsZero():
			evs = append(evs, ev)
		case w.alive && (ev == onExitOK || ev == onExitFailed || ev == onExitUnknown):
			evs = append(evs, ev)
		case users && ev == onFenced && !w.m.Fenced, users && ev == onUnfenced && w.m.Fenced, users && ev == onFetch && w.m.DataOn == "" && w.m.Want != wantGone:
			evs = append(evs, ev)
		case users && w.open && ev == onIdle:
			evs = append(evs, ev)
		case users && ev <= onWantGone && wantOf(ev) != w.m.Want:
			evs = append(evs, ev)
		case users && !w.alive && w.m.Phase == asleep && (ev == onAdopted || ev == onAdoptedStarting):
			evs = append(evs, ev)
		}
	}
	return evs
}

func wantOf(ev event) api.Desired {
	switch ev {
	case onWantRunning:
		return api.DesiredRunning
	case onWantAsleep:
		return api.DesiredAsleep
	case onWantStopped:
		return api.DesiredStopped
	case onWantGone:
		return wantGone
	}
	return "-"
}

// TestMachineKeepsItsPromises lets anything happen in any order, and then stops the
// instance: never two processes, never an open gate without a ready process, nobody
// waits for ever, a stop always ends with the process gone.
func TestMachineKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svc := testService(rapid.Bool().Draw(t, "persist"))
		svc.Restart = rapid.SampledFrom(api.RestartPolicies()).Draw(t, "policy")
		w := &world{t: t, now: t0, m: machine{Service: svc}, running: make(map[event]bool)}
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			evs := w.enabled(true)
			ev := rapid.SampledFrom(evs).Draw(t, "event")
			if ev == onAdopted || ev == onAdoptedStarting {
				w.alive, w.data, w.ready = true, true, ev == onAdopted
			}
			w.feed(ev)
		}
		last := rapid.SampledFrom([]event{onWantStopped, onWantGone, onWantAsleep, onStop}).Draw(t, "last")
		switch {
		case last == onStop && (w.m.Want == api.DesiredStopped || w.m.Want == wantGone):
			last = onWantAsleep // it has no say before
		case last == onWantAsleep && w.m.Want == api.DesiredAsleep:
			last = onStop // no news otherwise
		}
		if w.m.Want != wantOf(last) {
			w.feed(last)
		}
		for n := 0; !w.m.Phase.atRest(); n++ {
			if n == 50 {
				t.Fatalf("still %s", w.m.Phase)
			}
			evs := w.enabled(false)
			if n > 10 && w.m.Deadline.IsZero() == false && w.alive {
				evs = []event{onExitFailed} // SIGKILL works at last
			}
			w.feed(rapid.SampledFrom(evs).Draw(t, "ending"))
		}
		if want := map[event]phase{onWantStopped: stopped, onWantGone: gone, onWantAsleep: asleep, onStop: asleep}[last]; w.m.Phase != want &&
			(last != onStop || w.m.Phase != stopped) { // it had ended for good by itself
			t.Fatalf("ended up %s, want %s", w.m.Phase, want)
		}
		if w.data && !svc.Persist() {
			t.Fatal("data that does not persist is still there")
		}
	})
}

// TestMachineTakesAnything: no event upsets it, whenever it comes.
func TestMachineTakesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine{Service: testService(true)}
		for range 100 {
			m, _ = m.step(event(rapid.IntRange(0, eventCount-1).Draw(t, "event")), "", t0)
		}
	})
}
