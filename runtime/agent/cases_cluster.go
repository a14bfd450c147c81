package agent

import "github.com/tenement-fleet/tenement/api"

// The cases that only a cluster of several nodes has.

// The fence: an instance of a node that is cut off from the cluster, where it might be
// taken for lost and be started elsewhere. It must have ended soon, so there is no draining.

// refuseFenced takes the place of all that would start something.
func refuseFenced(s *step) { s.answer(api.CodeUnavailable) }

func fenceWaiting(s *step) { s.queue() }

func fenceLaunch(s *step) {
	s.Reason = reasonFenced
	s.Restarts++
	abort(s, toStart, api.CodeUnavailable)
}

func fenceProcess(s *step) {
	s.Restarts++
	s.answer(api.CodeUnavailable)
	endFenced(s)
}

func endFenced(s *step) {
	s.Reason = reasonFenced
	s.terminate(toStart)
}

// fenceStop lets the stop under way lead where it leads, but soon. Nobody waits for it:
// where it leads may yet change to a start.
func fenceStop(s *step) {
	s.answer(api.CodeUnavailable)
	if by := s.now.Add(s.Service.StopTimeout.Std()); s.Deadline.After(by) {
		s.Deadline = by
	}
}

func fenceDrain(s *step) {
	fenceStop(s)
	drained(s)
}

func unfence(s *step) { s.queue() }

// The data: an instance is started, and may sleep, only where they are.

func fetchAsleep(s *step)  { s.fetch(toAsleep) }
func fetchStopped(s *step) { s.fetch(toStopped) }
func fetchWaiting(s *step) { s.fetch(toStart) }
func fetchAgain(s *step)   { s.fetch(s.Next) }

func fetchFailed(s *step) {
	if s.Want == api.DesiredStopped {
		s.fetch(toStopped)
	} else {
		s.fetch(toAsleep)
	}
}

// fetchLaunch, fetchStarting and fetchRunning: the program works on data that have
// been left behind by those of another node.
func fetchLaunch(s *step)   { abort(s, toStart, "") }
func fetchStarting(s *step) { s.terminate(toStart) }
func fetchRunning(s *step)  { s.drain(toStart) }

func fetchedData(s *step) {
	if s.Purge {
		s.end(s.Next)
	} else {
		complete(s)
	}
}

func sleepFetching(s *step) {
	if s.Next == toStart {
		s.answer(api.CodeUnavailable)
		s.Next = toAsleep
	}
}

func stopFetching(s *step) {
	s.discard()
	sleepFetching(s)
}

func wantRunningFetching(s *step) {
	s.Want = api.DesiredRunning
	s.Recent, s.Next = nil, toStart
}

func wantAsleepFetching(s *step) {
	s.Want = api.DesiredAsleep
	s.discard()
	s.answer(api.CodeUnavailable)
	s.Next = toAsleep
}

func wantStoppedFetching(s *step) {
	s.Want = api.DesiredStopped
	s.answer(api.CodeUnavailable)
	s.aim(toStopped)
}
