package agent

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func testService(persist bool) *api.Service {
	svc := &api.Service{Name: "web", Command: "/bin/web", Args: []string{}, Health: "/up", Isolation: api.IsolationProcess, StoragePersist: &persist}
	svc.SetDefaults()
	svc.Revision = 1
	return svc
}

func ruleName(r rule) string {
	name := runtime.FuncForPC(reflect.ValueOf(r).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// sample is a typical machine of a phase.
func sample(p phase, next target, persist bool) machine {
	m := machine{Service: testService(persist), Phase: p, Next: next, Want: api.DesiredRunning, Since: t0.Add(-time.Hour)}
	switch p {
	case starting, terminating, unhealthy, backoff:
		m.Deadline = t0
	case degraded:
		m.Fails = 1
	case fetching:
		m.DataOn = "n2"
	case fenced:
		m.Fenced = true
	case stopped:
		m.Want = api.DesiredStopped
	case gone:
		m.Want = wantGone
	}
	switch next {
	case toStopped:
		m.Want = api.DesiredStopped
	case toGone:
		m.Want = wantGone
	}
	return m
}

func targetsOf(p phase) []target {
	switch p {
	case draining, terminating, aborting, ending:
		return []target{toAsleep, toStart, toRetry, toStopped, toFailed, toGone}
	case unhealthy:
		return []target{toStart, toRetry, toFailed}
	case fetching:
		return []target{toAsleep, toStart, toStopped}
	default:
		return []target{toAsleep}
	}
}

var targetNames = [...]string{"asleep", "start", "retry", "stopped", "failed", "gone"}

// TestTransitions shows what every event does in every phase, for review.
func TestTransitions(t *testing.T) {
	var b bytes.Buffer
	for p := range phase(phaseCount) {
		m := sample(p, toAsleep, true)
		fmt.Fprintf(&b, "%s (%s)\n", p, m.state())
		for ev := range event(eventCount) {
			r := rules[p][ev]
			if r == nil {
				t.Fatalf("no case for %s while %s", ev, p)
			}
			kept, ephemeral := outcomes(p, ev, true), outcomes(p, ev, false)
			fmt.Fprintf(&b, "  %-16s %s%s\n", ev, ruleName(r), kept)
			if ephemeral != kept {
				fmt.Fprintf(&b, "    ephemeral data%s\n", ephemeral)
			}
		}
	}
	golden(t, "transitions.txt", b.Bytes())
}

// outcomes is one outcome, or one for each target where a stop is under way.
func outcomes(p phase, ev event, persist bool) string {
	var lines []string
	targets := targetsOf(p)
	for _, next := range targets {
		before := sample(p, next, persist)
		after, actions := before.step(ev, "detail", t0)
		var parts []string
		if after.Phase != p {
			parts = append(parts, "→ "+after.Phase.String())
		}
		switch after.Phase {
		case fetching, draining, terminating, aborting, ending, unhealthy:
			if after.Next != next || after.Phase != p {
				parts = append(parts, "to "+targetNames[after.Next])
			}
			if after.Purge && !before.Purge {
				parts = append(parts, "to purge")
			}
		}
		for _, a := range actions {
			parts = append(parts, "["+a.String()+"]")
		}
		if len(parts) > 0 {
			lines = append(lines, targetNames[next]+": "+strings.Join(parts, " "))
		}
	}
	switch {
	case len(lines) == 0:
		return ""
	case len(targets) == 1:
		_, one, _ := strings.Cut(lines[0], ": ")
		return ": " + one
	default:
		return "\n      " + strings.Join(lines, "\n      ")
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what the code does; run go test -update and review the change", path)
	}
}

// TestPhaseStates: each state of the vocabulary is some phase's.
func TestPhaseStates(t *testing.T) {
	seen := make(map[api.State]bool)
	for p := range phase(phaseCount) {
		m := machine{Phase: p}
		seen[m.state()] = true
	}
	for _, s := range api.States() {
		if !seen[s] {
			t.Errorf("no phase shows as %s", s)
		}
	}
}

func TestBackoff(t *testing.T) {
	svc := testService(true)
	for n, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 32 * time.Second,
		7: time.Minute, 1000: time.Minute,
	} {
		if got := backoffAfter(svc, n); got != want {
			t.Errorf("pause before restart %d is %s, want %s", n, got, want)
		}
	}
}

// TestRestartWindow: one restart more than allowed within the window is a failure; old
// ones don't count.
func TestRestartWindow(t *testing.T) {
	crashAt := func(m machine, at time.Time) machine {
		m.Phase = running
		m, _ = m.step(onExitFailed, "exit code 1", at)
		m, _ = m.step(onEnded, "", at)
		return m
	}
	m := machine{Service: testService(true), Want: api.DesiredRunning}
	for i := range 3 {
		m = crashAt(m, t0.Add(time.Duration(i)*time.Second))
		if m.Phase != backoff || len(m.Recent) != i+1 {
			t.Fatalf("after crash %d: %s with %d restarts, want backoff", i+1, m.Phase, len(m.Recent))
		}
	}
	if late := crashAt(m, t0.Add(301*time.Second)); late.Phase != backoff {
		t.Errorf("a crash after two of three restarts left the window: %s, want backoff", late.Phase)
	}
	m = crashAt(m, t0.Add(299*time.Second))
	if m.Phase != failed || !strings.Contains(m.Reason, "exit code 1; gave up after 3 restarts within 5m") {
		t.Errorf("after one crash too many: %s (%s), want failed", m.Phase, m.Reason)
	}
}

func TestRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		policy api.RestartPolicy
		exit   event
		want   api.Desired
		next   target
	}{
		{api.RestartAlways, onExitOK, api.DesiredRunning, toRetry},
		{api.RestartAlways, onExitFailed, api.DesiredRunning, toRetry},
		{api.RestartAlways, onExitUnknown, api.DesiredAsleep, toRetry},
		{api.RestartOnFailure, onExitOK, api.DesiredRunning, toStopped},
		{api.RestartOnFailure, onExitOK, api.DesiredAsleep, toAsleep},
		{api.RestartOnFailure, onExitFailed, api.DesiredRunning, toRetry},
		{api.RestartOnFailure, onExitUnknown, api.DesiredRunning, toRetry},
		{api.RestartNever, onExitOK, api.DesiredRunning, toStopped},
		{api.RestartNever, onExitFailed, api.DesiredRunning, toFailed},
		{api.RestartNever, onExitUnknown, api.DesiredRunning, toFailed},
	} {
		m := sample(running, toAsleep, true)
		m.Service = m.Service.Clone()
		m.Service.Restart, m.Want = c.policy, c.want
		after, _ := m.step(c.exit, "", t0)
		if after.Phase != ending || after.Next != c.next {
			t.Errorf("%s, %s, desired %s: %s to %s, want ending to %s", c.policy, c.exit, c.want,
				after.Phase, targetNames[after.Next], targetNames[c.next])
		}
	}
}

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

// TestDataOfTheFailed: data that went to another node while the program's end was put
// away are fetched before the instance rests, whatever brings it to rest.
func TestDataOfTheFailed(t *testing.T) {
	for _, policy := range []api.RestartPolicy{api.RestartAlways, api.RestartNever} {
		for _, ev := range []event{onSleep, onStop, onWantAsleep, onWantStopped} {
			svc := testService(true)
			svc.Restart = policy
			m := machine{Service: svc}
			for _, ev := range []event{onWantRunning, onGranted, onStartFailed, onFetch, onEnded, ev} {
				m, _ = m.step(ev, "n2", t0)
			}
			if m.Phase == ending { // the data of before are put away first
				m, _ = m.step(onEnded, "", t0)
			}
			if m.Phase != fetching || m.DataOn != "n2" {
				t.Errorf("%s, %s: %s, its data on %q; want it fetching from n2", policy, ev, m.Phase, m.DataOn)
			}
		}
	}
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
