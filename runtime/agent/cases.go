package agent

import (
	"fmt"

	"github.com/tenement-fleet/tenement/api"
)

// The cases that [rules] names, in the order of an instance's life.

func stay(*step)         {}
func late(*step)         {}
func impossible(s *step) { s.emit(action{do: doComplain}) }

// agree: it already is as asked.
func agree(s *step) { s.answer("") }

func noteRunning(s *step) { s.Want = api.DesiredRunning }

// At rest.

func startAfresh(s *step) {
	s.Recent = nil
	s.queue()
}

func startWanted(s *step) {
	s.Want = api.DesiredRunning
	startAfresh(s)
}

func startIfWanted(s *step) {
	if s.Want == api.DesiredRunning {
		startAfresh(s)
		return
	}
	s.settle(toAsleep)
	s.answer("")
}

func startUnlessHeld(s *step) {
	if s.Want == api.DesiredStopped {
		s.answer(api.CodeUnavailable)
		return
	}
	startAfresh(s)
}

// startAfterDelay lets a request try a failed instance again, but no more often than
// the backoff would have.
func startAfterDelay(s *step) {
	if wait := s.retryAt().Sub(s.now); wait > 0 {
		s.emit(action{do: doAnswer, code: api.CodeFailed, after: wait})
		return
	}
	startUnlessHeld(s)
}

func sleepUnlessHeld(s *step) {
	if s.Want != api.DesiredStopped {
		s.Reason = ""
		s.settle(toAsleep)
	}
}

func stopToSleep(s *step) { s.restDiscarding() }

func stopUnlessHeld(s *step) {
	if s.Want != api.DesiredStopped {
		s.restDiscarding()
	}
}

func restAsleep(s *step) {
	s.Want = api.DesiredAsleep
	s.restDiscarding()
}

func restStopped(s *step) {
	s.Want, s.Reason = api.DesiredStopped, ""
	s.settle(toStopped)
}

func stopAtRest(s *step) {
	s.Want, s.Reason = api.DesiredStopped, ""
	s.end(toStopped)
}

func removeAtRest(s *step) {
	s.Want = wantGone
	s.end(toGone)
}

func answerGone(s *step) { s.answerGone() }

// adopt goes on with the process of an earlier ten, unless it must not run.
func adopt(s *step) {
	if s.Fenced {
		endFenced(s)
	} else {
		s.up(0)
	}
}

func adoptStarting(s *step) {
	if s.Fenced {
		endFenced(s)
	} else {
		await(s)
	}
}

// Waiting for a start slot, or for the backoff: there is no process.

func leaveToSleep(s *step) {
	s.answer(api.CodeUnavailable)
	s.Reason = ""
	s.settle(toAsleep)
}

func leaveAndDiscard(s *step) {
	s.answer(api.CodeUnavailable)
	s.restDiscarding()
}

func leaveAsleep(s *step) {
	s.Want = api.DesiredAsleep
	leaveAndDiscard(s)
}

func leaveStopped(s *step) {
	s.answer(api.CodeUnavailable)
	stopAtRest(s)
}

func leaveGone(s *step) {
	s.answerGone()
	removeAtRest(s)
}

func launch(s *step) {
	s.enter(launching)
	s.emit(action{do: doLaunch})
}

func retryNow(s *step) {
	s.Restarts++
	s.queue()
}

func restartNow(s *step) {
	s.Recent = nil
	retryNow(s)
}

// While the driver starts the program: its answer must be heard before anything else.

func abort(s *step, t target, code api.Code) {
	if code != "" {
		s.answer(code)
	}
	s.aim(t)
	s.enter(aborting)
}

func abortToRoll(s *step)  { abort(s, toStart, "") }
func abortToSleep(s *step) { abort(s, toAsleep, api.CodeUnavailable) }

func abortAndDiscard(s *step) {
	s.discard()
	abortToSleep(s)
}

func abortAsleep(s *step) {
	s.Want = api.DesiredAsleep
	abortAndDiscard(s)
}

func abortStopped(s *step) {
	s.Want = api.DesiredStopped
	abort(s, toStopped, api.CodeUnavailable)
}

func abortGone(s *step) {
	s.Want = wantGone
	s.answerGone()
	abort(s, toGone, "")
}

func await(s *step) {
	s.enter(starting)
	s.Obstacle = ""
	s.Deadline = s.now.Add(s.Service.StartupTimeout.Std())
	s.emit(action{do: doAwait})
}

// retryStart: nobody waits for a program that can't even be executed.
func retryStart(s *step) {
	s.Reason = s.detail
	s.answer(api.CodeFailed)
	s.end(s.crash(false))
}

func refuseStart(s *step) {
	s.Reason = s.detail
	s.answer(api.CodeFailed)
	s.end(toFailed)
}

func withObstacle(reason, obstacle string) string {
	if obstacle == "" {
		return reason
	}
	return reason + ": " + obstacle
}

// endStarted: the start that was given up has come through all the same.
func endStarted(s *step) {
	s.enter(terminating)
	s.tellToEnd()
}

// While the program runs but does not accept connections.

func endToRoll(s *step) {
	s.Restarts++
	s.terminate(toStart)
}

func endToSleep(s *step) {
	s.answer(api.CodeUnavailable)
	s.terminate(toAsleep)
}

func endAndDiscard(s *step) {
	s.discard()
	endToSleep(s)
}

func endAsleep(s *step) {
	s.Want = api.DesiredAsleep
	endAndDiscard(s)
}

func endStopped(s *step) {
	s.Want = api.DesiredStopped
	s.answer(api.CodeUnavailable)
	s.terminate(toStopped)
}

func endGone(s *step) {
	s.Want = wantGone
	s.answerGone()
	s.terminate(toGone)
}

func openUp(s *step) { s.up(s.Deadline.Sub(s.now)) }

func startupTimeout(s *step) {
	s.Reason = withObstacle(fmt.Sprintf("accepted no connections within %s", s.Service.StartupTimeout), s.Obstacle)
	s.answer(api.CodeTimeout)
	s.terminate(s.crash(false))
}

// While it accepts connections.

func drainToRestart(s *step) {
	s.Restarts++
	s.Recent = nil
	s.drain(toStart)
}

func drainToSleep(s *step) { s.drain(toAsleep) }

func drainAndDiscard(s *step) {
	s.discard()
	s.drain(toAsleep)
}

func drainAsleep(s *step) {
	s.Want = api.DesiredAsleep
	drainAndDiscard(s)
}

func drainStopped(s *step) {
	s.Want = api.DesiredStopped
	s.drain(toStopped)
}

func drainGone(s *step) {
	s.Want = wantGone
	s.drain(toGone)
}

func fallAsleep(s *step) {
	s.Reason = ""
	s.terminate(toAsleep)
}

func passCheck(s *step) {
	if s.Phase == degraded {
		s.enter(running)
		s.Reason = ""
	}
	s.Healthy, s.Fails = true, 0
	s.checkIn(s.Service.HealthInterval.Std())
}

func failCheck(s *step) {
	interval := s.Service.HealthInterval.Std()
	if s.Phase == running && !s.Healthy && s.now.Before(s.WarmUntil) {
		s.checkIn(min(s.Recheck, interval))
		s.Recheck = min(2*s.Recheck, interval)
		return
	}
	s.Healthy, s.Reason = false, s.detail
	s.Fails++
	if s.Fails < unhealthyAfter {
		s.enter(degraded)
		s.checkIn(interval)
		return
	}
	s.aim(s.crash(false))
	s.enter(unhealthy)
	s.tellToEnd()
}

// exitedWell and exitedBadly: the program has ended by itself. Who waits goes on
// waiting when it will be started again.
func exitedWell(s *step)  { exited(s, true) }
func exitedBadly(s *step) { exited(s, false) }

func exited(s *step, success bool) {
	s.Reason = s.detail
	if s.Phase == starting {
		s.Reason = withObstacle(s.detail, s.Obstacle)
	}
	next := s.crash(success)
	if next != toRetry {
		s.answer(api.CodeFailed)
	}
	s.end(next)
}

// While a stop is under way: it is finished in any case; what changes is what follows.

func wakeDuringStop(s *step) {
	switch s.Next {
	case toAsleep:
		s.Next = toStart
	case toStopped:
		if s.Want == api.DesiredStopped {
			s.answer(api.CodeUnavailable)
		} else {
			s.Next = toStart
		}
	case toGone:
		s.answerGone()
	}
}

func restartDuringStop(s *step) {
	switch s.Next {
	case toRetry, toFailed:
		s.Restarts++
		s.Recent, s.Next = nil, toStart
	default:
		wakeDuringStop(s)
	}
}

func rollDuringStop(s *step) {
	switch s.Next {
	case toRetry, toFailed:
		restartDuringStop(s)
	case toAsleep, toStopped, toGone:
		s.answer("")
	}
}

func sleepDuringStop(s *step) {
	switch s.Next {
	case toStart, toRetry, toFailed:
		s.answer(api.CodeUnavailable)
		redirect(s, toAsleep)
	}
}

func stopDuringStop(s *step) {
	s.discard()
	sleepDuringStop(s)
}

func runningDuringStop(s *step) {
	s.Want = api.DesiredRunning
	if s.Next != toRetry {
		s.Recent, s.Next = nil, toStart
	}
}

func asleepDuringStop(s *step) {
	s.Want = api.DesiredAsleep
	s.discard()
	s.answer(api.CodeUnavailable)
	redirect(s, toAsleep)
}

func stoppedDuringStop(s *step) {
	s.Want = api.DesiredStopped
	s.answer(api.CodeUnavailable)
	redirect(s, toStopped)
}

func goneDuringStop(s *step) {
	s.Want = wantGone
	s.answerGone()
	redirect(s, toGone)
}

// redirect lets the stop lead to rest. The grace that has begun goes on.
func redirect(s *step, t target) {
	s.aim(t)
	s.Reason = ""
	if s.Phase == unhealthy {
		s.Phase = terminating
	}
}

func drained(s *step) {
	s.enter(terminating)
	s.tellToEnd()
}

// killLate repeats itself, so that whatever escapes one SIGKILL meets the next.
func killLate(s *step) {
	s.Deadline = s.now.Add(s.Service.StopTimeout.Std())
	s.emit(action{do: doKill})
}

func exitedDuringStop(s *step) {
	s.enter(ending)
	s.putAway()
}

func complete(s *step) {
	if s.Purge && !s.Purging { // asked for after the putting away had begun
		s.putAway()
		return
	}
	s.Purge, s.Purging = false, false
	switch s.Next {
	case toAsleep, toStopped:
		s.settle(s.Next)
	case toGone:
		s.enter(gone)
	case toStart:
		s.queue()
	case toRetry:
		s.enter(backoff)
		s.Deadline = s.now.Add(backoffAfter(s.Service, len(s.Recent)))
	case toFailed:
		s.enter(failed)
		s.Since = s.now
		s.emit(action{do: doAnswer, code: api.CodeFailed, after: s.retryAt().Sub(s.now)})
	}
}
