package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// phase is where the supervisor of one instance stands. It is finer than [api.State]:
// several phases show as one state.
type phase uint8

const (
	asleep      phase = iota // at rest: the next request starts it
	fetching                 // its data are on another node, and on their way
	fenced                   // would be started, but must not run here for now
	pending                  // waits for a start slot
	launching                // the driver is starting the program
	starting                 // the program runs, but does not accept connections yet
	running                  // accepts connections
	degraded                 // 1 or 2 health checks failed in a row
	unhealthy                // 3 failed: told to end
	draining                 // no new requests; the accepted ones finish
	terminating              // told to end
	aborting                 // to be stopped, but the driver is still starting it
	ending                   // nothing runs; what the run left behind is put away
	backoff                  // waits to be started again
	stopped                  // at rest: stays down
	failed                   // at rest: gave up
	gone                     // at rest: the instance was removed
	phaseCount  = iota
)

var phaseNames = [phaseCount]string{
	"asleep", "fetching", "fenced", "pending", "launching", "starting", "running", "degraded", "unhealthy", "draining",
	"terminating", "aborting", "ending", "backoff", "stopped", "failed", "gone",
}

func (p phase) String() string { return phaseNames[p] }

// atRest reports whether an instance in this phase needs no supervisor.
func (p phase) atRest() bool { return p == asleep || p == stopped || p == failed || p == gone }

// idle reports whether an instance in this phase has no process and needs none to end
// for it to stay so.
func (p phase) idle() bool { return p.atRest() || p == fetching || p == fenced }

// serving reports whether the program accepts connections and may be given requests.
func (p phase) serving() bool { return p == running || p == degraded }

// event is something that happened to an instance.
type event uint8

const (
	onWake            event = iota // a request wants it up
	onRestart                      // a user wants it started afresh
	onRoll                         // what the program is started from has changed
	onSleep                        // it has to sleep now
	onStop                         // a user wants it to sleep now
	onWantRunning                  // desired changed
	onWantAsleep                   //
	onWantStopped                  //
	onWantGone                     // the instance was removed, or has moved to another node
	onFenced                       // it must not run here for now
	onUnfenced                     // it may again
	onFetch                        // its data must be fetched from another node, which the detail names
	onDataHere                     // the cluster knows that its data are here
	onGranted                      // a start slot is free
	onStarted                      // the driver has started the program
	onStartFailed                  // the driver could not
	onStartRefused                 // and never will: this machine lacks what it needs
	onReady                        // the program accepts connections
	onDeadline                     // startup_timeout, grace or backoff has passed, by phase
	onHealthOK                     //
	onHealthFailed                 //
	onExitOK                       // the process and its group ended, exit code 0
	onExitFailed                   // … with another
	onExitUnknown                  // … an adopted one, nobody knows how
	onIdle                         // no request for idle_timeout; the gate has closed itself
	onDrained                      // accepted requests have finished, or were waited for long enough
	onEnded                        // what the run left behind has been put away
	onAdopted                      // an earlier ten's process was found, accepting connections
	onAdoptedStarting              // … not accepting connections yet
	eventCount        = iota
)

var eventNames = [eventCount]string{
	"wake", "restart", "roll", "sleep", "stop", "want running", "want asleep", "want stopped", "want gone",
	"fenced", "unfenced", "fetch", "data here",
	"granted", "started", "start failed", "start refused", "ready", "deadline", "health ok",
	"health failed", "exit ok", "exit failed", "exit unknown", "idle", "drained", "ended",
	"adopted", "adopted starting",
}

func (e event) String() string { return eventNames[e] }

// target is where the stop under way leads once the process is gone.
type target uint8

const (
	toAsleep target = iota
	toStart
	toRetry // start again after the backoff
	toStopped
	toFailed
	toGone
)

// wantGone is what is desired of an instance that was removed or has moved away.
const wantGone api.Desired = "gone"

const (
	unhealthyAfter = 3                      // failed checks in a row
	firstRecheck   = 100 * time.Millisecond // while the program warms up, doubling
)

// machine is all that decides what a supervisor does next. It is a value: [machine.step]
// maps it and an event to its successor and the actions to take, and does nothing else.
type machine struct {
	Service *api.Service // what the instance should be started from; shared, read-only

	Phase    phase
	Next     target      // while a stop, or a fetch, is under way
	Want     api.Desired // as last heard; empty before
	Moved    bool        // who is gone lives on another node
	Fenced   bool        // it must not run here for now
	DataOn   string      // the node from which its data must be fetched first; empty: none
	Reason   string      // why, for failures
	Obstacle string      // what else is in the way of the program that starts
	Since    time.Time   // when the visible state was entered
	Deadline time.Time   // when onDeadline is due; zero never

	Healthy   bool
	Fails     int           // failed checks in a row
	WarmUntil time.Time     // until then, and until the first good check, failed ones don't count
	Recheck   time.Duration // the pause before the next check of a program that warms up

	Restarts int         // starts after the first that were not wakes
	Recent   []time.Time // restarts after a crash, within the window; never changed in place

	Purge   bool // the data must go before the stop under way is complete
	Purging bool // and is going
}

// step is one transition while it is worked out.
type step struct {
	machine
	now     time.Time
	detail  string // what the event's source said about it
	actions []action
}

// step returns the machine after ev and what there is to do, in order. Whenever the
// gate's position changes, moving it comes first: no process is told to end while it
// may still be given requests, and no waiter is let go before the gate is open.
func (m machine) step(ev event, detail string, now time.Time) (machine, []action) {
	s := step{machine: m, now: now, detail: detail}
	switch ev { // what these say is so in any phase
	case onFenced, onUnfenced:
		s.Fenced = ev == onFenced
	case onFetch:
		s.DataOn = detail
	case onDataHere, onWantGone:
		s.DataOn = ""
	}
	if m.Fenced && (ev == onWake || ev == onRestart || ev == onRoll) {
		refuseFenced(&s)
	} else {
		rules[m.Phase][ev](&s)
	}
	if s.state() != m.state() {
		s.Since = now
	}
	if g := s.gate(); g != m.gate() {
		s.actions = slices.Insert(s.actions, 0, action{do: doGate, gate: g})
	}
	return s.machine, s.actions
}

// state is what users see of the phase.
func (m *machine) state() api.State {
	switch m.Phase {
	case asleep:
		return api.StateAsleep
	case fetching:
		switch m.Next {
		case toAsleep:
			return api.StateAsleep
		case toStopped:
			return api.StateStopped
		}
		return api.StatePending
	case fenced, pending:
		return api.StatePending
	case launching, starting:
		return api.StateStarting
	case running:
		return api.StateRunning
	case degraded:
		return api.StateDegraded
	case unhealthy:
		return api.StateUnhealthy
	case backoff:
		return api.StateBackoff
	case stopped, gone:
		return api.StateStopped
	case failed:
		return api.StateFailed
	case ending:
		if m.Next == toRetry {
			return api.StateBackoff
		}
	}
	return api.StateStopping
}

// gate is where the traffic gate stands: open only for a process that accepts connections.
func (m *machine) gate() gatePosition {
	if m.Fenced && !m.Phase.serving() {
		return gateHeld
	}
	switch m.Phase {
	case running, degraded:
		return gateOpen
	case asleep:
		return gateAsleep
	case stopped, gone:
		return gateHeld
	case fetching, draining, terminating, aborting, ending:
		switch m.Next {
		case toAsleep:
			return gateAsleep
		case toStopped, toGone:
			return gateHeld
		}
	}
	return gateDown
}

// backoffAfter is the pause before the nth restart within the window.
func backoffAfter(svc *api.Service, n int) time.Duration {
	d, most := svc.BackoffBase.Std(), svc.BackoffMax.Std()
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}

// retryAt is when a failed instance may be started again for a request.
func (m *machine) retryAt() time.Time {
	return m.Since.Add(backoffAfter(m.Service, m.Service.MaxRestarts))
}

// rest returns the machine of an instance without a process, from what was last
// observed of it. Instance is nil for one that was removed.
func rest(asg api.Assignment, o *api.Observed) machine {
	m := machine{Service: asg.Service, Fenced: asg.Fenced}
	if o == nil {
		if i := asg.Instance; i != nil && i.Desired != api.DesiredRunning {
			m.Want = i.Desired
		}
		if m.Want == api.DesiredStopped {
			m.Phase = stopped
		}
		return m
	}
	m.Want, m.Reason, m.Since, m.Restarts = o.Desired, o.Reason, o.Since, o.Restarts
	placedAnew := asg.Instance != nil && o.Generation != asg.Instance.Generation
	switch {
	case o.State == api.StateAsleep:
	case o.State == api.StateStopped:
		m.Phase = stopped
	case o.State == api.StateFailed && !placedAnew:
		m.Phase = failed
	default: // it had a process and has none: what is desired is news again
		if o.Desired != api.DesiredAsleep { // which is no news: it sleeps now
			m.Want = ""
		}
	}
	return m
}

func (s *step) emit(a action) { s.actions = append(s.actions, a) }

// enter goes to phase p. A deadline belongs to one phase.
func (s *step) enter(p phase) { s.Phase, s.Deadline = p, time.Time{} }

// answer lets everybody go who waits for the instance to be up.
func (s *step) answer(code api.Code) { s.emit(action{do: doAnswer, code: code}) }

// queue goes all the way to the start of the program.
func (s *step) queue() {
	s.Reason = ""
	if s.Fenced {
		s.answer(api.CodeUnavailable)
	}
	switch {
	case s.DataOn != "":
		s.fetch(toStart)
	case s.Fenced:
		s.Reason = reasonFenced
		s.enter(fenced)
	default:
		s.enter(pending)
		s.emit(action{do: doQueue})
	}
}

// reasonFenced is why an instance must not run.
const reasonFenced = `its node has lost touch with the cluster, and on_disconnect is "stop"`

// fetch has the data fetched, and then goes to t.
func (s *step) fetch(t target) {
	s.Next, s.Reason = t, ""
	s.enter(fetching)
	s.emit(action{do: doFetch})
}

// settle stays down, asleep or stopped, as soon as the data are here.
func (s *step) settle(t target) {
	switch {
	case s.DataOn != "":
		s.fetch(t)
	case t == toAsleep:
		s.enter(asleep)
	default:
		s.enter(stopped)
	}
}

// answerGone tells who waits that the instance is not here any more.
func (s *step) answerGone() {
	if s.Moved {
		s.answer(api.CodeUnavailable)
	} else {
		s.answer(api.CodeNotFound)
	}
}

// end puts away what is left and then goes to t.
func (s *step) end(t target) {
	s.aim(t)
	s.enter(ending)
	s.putAway()
}

func (s *step) putAway() {
	s.Purging = s.Purge
	s.emit(action{do: doPutAway, purge: s.Purge})
}

// aim sets where the stop leads. Data that does not persist goes when the instance is
// stopped or removed, whatever somebody wants afterwards.
func (s *step) aim(t target) {
	s.Next = t
	if t == toStopped || t == toGone {
		s.discard()
	}
}

// discard has data that does not persist removed before the stop under way is complete.
// Only what a user says leads here: who falls asleep keeps his data.
func (s *step) discard() { s.Purge = s.Purge || !s.Service.Persist() }

// restDiscarding goes to sleep without a process.
func (s *step) restDiscarding() {
	s.Reason = ""
	s.discard()
	if s.Purge {
		s.end(toAsleep)
	} else {
		s.settle(toAsleep)
	}
}

func (s *step) drain(t target) {
	s.aim(t)
	s.Reason = ""
	s.enter(draining)
	s.emit(action{do: doDrain})
}

func (s *step) terminate(t target) {
	s.aim(t)
	s.enter(terminating)
	s.tellToEnd()
}

// tellToEnd sends SIGTERM and gives it the grace.
func (s *step) tellToEnd() {
	s.Deadline = s.now.Add(s.Service.StopTimeout.Std())
	s.emit(action{do: doTerminate})
}

// crash decides what follows a program that ended, or must end, by itself.
func (s *step) crash(success bool) target {
	switch {
	case success && s.Service.Restart == api.RestartAlways, !success && s.Service.Restart != api.RestartNever:
		return s.retry()
	case !success:
		return toFailed
	case s.Want == api.DesiredAsleep:
		return toAsleep
	default:
		return toStopped
	}
}

// retry counts a restart, unless that is one too many.
func (s *step) retry() target {
	since := s.now.Add(-s.Service.RestartWindow.Std())
	s.Recent = slices.DeleteFunc(slices.Clone(s.Recent), func(t time.Time) bool { return !t.After(since) })
	if n := len(s.Recent); n >= s.Service.MaxRestarts {
		s.Reason = fmt.Sprintf("%s; gave up after %d restarts within %s", s.Reason, n, s.Service.RestartWindow)
		return toFailed
	}
	s.Recent = append(s.Recent, s.now)
	return toRetry
}

// up is the program accepting connections.
func (s *step) up(warm time.Duration) {
	s.enter(running)
	s.Reason, s.Fails, s.Recheck = "", 0, firstRecheck
	s.Healthy = s.Service.Health == ""
	s.WarmUntil = s.now.Add(warm)
	s.answer("")
	if s.Healthy {
		s.checkIn(s.Service.HealthInterval.Std())
	} else {
		s.checkIn(0)
	}
}

func (s *step) checkIn(d time.Duration) { s.emit(action{do: doCheck, after: d}) }
