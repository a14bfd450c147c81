package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// supervisor drives the machine of one instance: it feeds it with events and does what
// the machine says. It exists from the moment that something must be done until the
// instance is at rest.
type supervisor struct {
	agent *Agent
	ref   api.Ref

	kick chan struct{} // capacity 1
	mu   sync.Mutex
	// inbox is what others want done in the supervisor's goroutine; closed when it has none.
	inbox  []func()
	closed bool

	observed atomic.Pointer[api.Observed] // as last published

	// The rest belongs to the supervisor's goroutine.

	m        machine
	instance *api.Instance // as last seen
	checked  uint64        // the service revision that was last looked at
	revision uint64        // the one that the run was started from, or given up with
	sum      string        // and its specSum
	exitCode *int          // of the last run
	saidHere bool          // the last report said so of the present one
	dataHere uint64        // the generation for which its data have been fetched, as the cluster should know

	run      *run
	launched chan launchResult // not nil while the driver is starting the program
	slot     bool              // holds a start slot

	up, down []*ticket // who waits for it to be up; to be at rest

	// An operation lasts at most as long as the phase that began it: phaseSeq tells
	// phases apart, phaseCtx ends with the phase.
	phaseSeq    uint64
	phaseCtx    context.Context //nolint:containedctx // see above
	cancelPhase context.CancelFunc
	cancelFetch context.CancelFunc // never nil
	phaseBegan  time.Time

	checkAt, idleAt time.Time // zero never
	timer           *time.Timer
}

// ticket is one caller who waits.
type ticket struct {
	ctx    context.Context //nolint:containedctx // to tell who still waits
	answer chan error      // capacity 1
}

func newSupervisor(a *Agent, ref api.Ref, asg api.Assignment) *supervisor {
	o := a.lastObserved(ref, asg.Instance)
	s := &supervisor{
		agent:    a,
		ref:      ref,
		kick:     make(chan struct{}, 1),
		m:        rest(asg, o),
		instance: asg.Instance,
		timer:    time.NewTimer(time.Hour),

		cancelFetch: func() {},
	}
	if o != nil {
		s.revision, s.exitCode = o.ServiceRevision, o.ExitCode
		s.observed.Store(o)
	}
	if s.m.Phase == failed {
		s.checked = s.revision
	}
	s.beginPhase()
	return s
}

// post has f done in the supervisor's goroutine; false when it has none any more.
func (s *supervisor) post(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.inbox = append(s.inbox, f)
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return true
}

func (s *supervisor) takeInbox() []func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.inbox
	s.inbox = nil
	return all
}

func (s *supervisor) execute() {
	defer s.timer.Stop()
	defer func() { s.cancelPhase() }()
	for !s.retire() {
		s.setTimer()
		var exited <-chan struct{}
		if s.run != nil && s.run.proc != nil {
			exited = s.run.proc.Done()
		}
		select {
		case <-s.agent.ctx.Done():
			s.letGo()
			return
		case <-s.kick:
			for _, f := range s.takeInbox() {
				f()
			}
		case r := <-s.launched:
			s.onLaunched(r)
		case <-exited:
			s.onExited()
		case <-s.timer.C:
			s.tick()
		}
	}
}

// retire ends the supervisor of an instance at rest, unless there is more to do.
func (s *supervisor) retire() bool {
	if !s.m.Phase.atRest() {
		return false
	}
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inbox) > 0 {
		return false
	}
	s.closed = true
	delete(s.agent.supervisors, s.ref)
	return true
}

// letGo leaves everything running for the next ten to find.
func (s *supervisor) letGo() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancelPhase()
	if s.launched != nil {
		r := <-s.launched
		s.run = r.run
		if r.err != nil {
			s.agent.putAway(s.ref, s.run, false, false)
		}
	}
	if s.run != nil && s.run.proc != nil {
		s.run.proc.Release()
	}
}

// handle takes the machine one step further and does what it says.
func (s *supervisor) handle(ev event, detail string) {
	now := s.agent.cfg.Now()
	before := s.m
	next, actions := before.step(ev, detail, now)
	s.m = next
	if next.Phase != before.Phase {
		s.changePhase(before.Phase, now)
	}
	s.agent.metrics.restarts.Add(float64(next.Restarts - before.Restarts))
	if next.Purge && !before.Purge {
		s.agent.logError("data not marked for removal", s.ref, s.agent.fates.condemn(s.ref))
	}
	for _, a := range actions {
		s.do(a, ev)
	}
	s.keepIntent()
	s.publish()
	if next.Phase.idle() || next.Phase.serving() {
		s.down = answerAll(s.down, nil)
	}
}

func (s *supervisor) beginPhase() {
	s.phaseSeq++
	s.phaseBegan = s.agent.cfg.Now()
	s.phaseCtx, s.cancelPhase = context.WithCancel(s.agent.ctx)
}

func (s *supervisor) changePhase(from phase, now time.Time) {
	to := s.m.Phase
	switch {
	case from == pending && to == launching:
		s.agent.metrics.phase(waitQueued, now.Sub(s.phaseBegan))
	case from == launching && to == starting:
		s.agent.metrics.phase(waitStarting, now.Sub(s.phaseBegan))
	case from == starting && to == running:
		s.agent.metrics.phase(waitReady, now.Sub(s.phaseBegan))
	}
	s.cancelPhase()
	s.beginPhase()
	if s.slot && to != launching && to != starting {
		s.slot = false
		s.agent.slots.Release(1)
	}
	if to == failed {
		s.revision = s.m.Service.Revision // a later one is a reason to try again
	}
	if !to.serving() {
		s.checkAt, s.idleAt = time.Time{}, time.Time{}
	} else if !from.serving() {
		s.idleIn(s.m.Service.IdleTimeout.Std())
	}
	level := slog.LevelDebug
	if to == backoff || to == failed || to == unhealthy {
		level = slog.LevelWarn // the operator's to know
	}
	s.agent.cfg.Logger.Log(s.phaseCtx, level, "instance "+to.String(), "instance", s.ref, "from", from.String(), "reason", s.m.Reason)
}

// during does work while the present phase lasts, and then, in the supervisor's
// goroutine, what work returned.
func (s *supervisor) during(work func(ctx context.Context) (then func())) {
	seq := s.phaseSeq
	s.inBackground(func(ctx context.Context) {
		then := work(ctx)
		s.post(func() {
			if s.phaseSeq == seq {
				then()
			}
		})
	})
}

// inBackground does work in a goroutine of the agent's; ctx ends with the present phase,
// whatever context the caller may have, or with cancel.
//
//nolint:contextcheck // see above
func (s *supervisor) inBackground(work func(ctx context.Context)) (cancel context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.phaseCtx)
	s.agent.wg.Go(func() {
		defer cancel()
		work(ctx)
	})
	return cancel
}

func (s *supervisor) setTimer() {
	var next time.Time
	for _, t := range []time.Time{s.m.Deadline, s.checkAt, s.idleAt} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		s.timer.Stop()
		return
	}
	s.timer.Reset(next.Sub(s.agent.cfg.Now()))
}

// due reports whether t has come.
func due(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

func (s *supervisor) tick() {
	now := s.agent.cfg.Now()
	if due(s.m.Deadline, now) {
		s.handle(onDeadline, "")
	}
	if due(s.checkAt, now) {
		s.checkAt = time.Time{}
		s.check()
	}
	if due(s.idleAt, now) {
		s.idleAt = time.Time{}
		s.tryIdle()
	}
}

// idleIn asks whether the instance is idle after d; never when it may not sleep.
func (s *supervisor) idleIn(d time.Duration) {
	s.idleAt = time.Time{}
	if s.m.Service.IdleTimeout > 0 {
		s.idleAt = s.agent.cfg.Now().Add(d)
	}
}

func (s *supervisor) tryIdle() {
	wait, closed := s.agent.cfg.Gate.TryClose(s.ref, s.m.Service.IdleTimeout.Std())
	if closed {
		s.handle(onIdle, "")
		return
	}
	s.idleIn(max(wait, 10*time.Millisecond))
}

// sync hears what is desired now.
func (s *supervisor) sync() {
	asg, ok := s.agent.cfg.Specs.Assignment(s.ref)
	if !ok {
		if s.m.Want != wantGone {
			s.m.Moved = s.agent.cfg.Specs.Exists(s.ref)
			s.handle(onWantGone, "")
		}
		return
	}
	before := s.instance
	s.instance, s.m.Service = asg.Instance, asg.Service
	s.markFence()
	if asg.Fenced && !s.m.Fenced {
		s.handle(onFenced, "")
	}
	if want := asg.Instance.Desired; want != s.m.Want {
		s.handle(wantEvent(want), "")
	}
	s.syncData(before)
	if !asg.Fenced && s.m.Fenced {
		s.handle(onUnfenced, "")
	}
	s.compareSpec()
	s.publish()
}

// syncData hears where the instance's data are.
func (s *supervisor) syncData(before *api.Instance) {
	from, i := s.agent.dataOn(s.instance), s.instance
	switch {
	case from == "" && s.m.DataOn != "":
		s.agent.logError("fetched data not noted", s.ref, s.agent.arrivals.known(s.ref))
		s.handle(onDataHere, "")
	case from == "":
	case (s.run != nil || s.launched != nil) && s.agent.arrivals.has(s.ref, i.Generation):
		s.dataHere = i.Generation // the program works on them; the cluster has not heard yet
	case from != s.m.DataOn, s.m.Phase == fetching && before != nil && before.Generation != i.Generation:
		s.handle(onFetch, from)
	}
}

func wantEvent(d api.Desired) event {
	switch d {
	case api.DesiredAsleep:
		return onWantAsleep
	case api.DesiredStopped:
		return onWantStopped
	default:
		return onWantRunning
	}
}

// compareSpec sees to a changed service: what a program is started from rolls, or is a
// reason to try a failing one again; the rest applies at once.
func (s *supervisor) compareSpec() {
	svc := s.m.Service
	if s.checked == svc.Revision {
		return
	}
	s.checked = svc.Revision
	switch p := s.m.Phase; {
	case p == failed, p == backoff:
		s.handle(onRoll, "")
	case p.serving():
		s.idleIn(0)
		if soon := s.agent.cfg.Now().Add(svc.HealthInterval.Std()); soon.Before(s.checkAt) {
			s.checkAt = soon
		}
	}
	if s.outdated() {
		s.agent.roll(s.ref)
	}
}

// outdated reports whether the program was started from another spec than the present one.
func (s *supervisor) outdated() bool {
	return (s.launched != nil || s.run != nil) && s.sum != specSum(s.m.Service)
}

// ask hands the machine an event whose outcome somebody waits for.
func (s *supervisor) ask(t *ticket, ev event) {
	s.sync()
	if ev == onRoll && !s.outdated() {
		t.answer <- nil
		return
	}
	if ev == onSleep || ev == onStop {
		s.down = append(s.down, t)
	} else {
		if len(s.up) == cap(s.up) { // who gave up should not pile up
			s.up = slices.DeleteFunc(s.up, func(t *ticket) bool { return t.ctx.Err() != nil })
		}
		s.up = append(s.up, t)
	}
	before := s.m.Phase
	s.handle(ev, "")
	if ev == onWake && before.atRest() && s.m.Phase == pending {
		s.agent.metrics.wakes.Inc()
	}
}

func answerAll(tickets []*ticket, err error) []*ticket {
	for _, t := range tickets {
		t.answer <- err
	}
	return nil
}

// answer lets go of everybody who waits for the instance to be up.
func (s *supervisor) answer(a action) {
	if len(s.up) == 0 {
		return
	}
	var err error
	if a.code != "" {
		e := api.Errorf(a.code, "start %s: %s", s.ref, s.why(a.code))
		e.RetryAfter = api.Duration(a.after)
		err = e
	}
	s.up = answerAll(s.up, err)
}

func (s *supervisor) why(code api.Code) string {
	switch {
	case code == api.CodeNotFound:
		return "it was removed"
	case code == api.CodeUnavailable && s.m.Want == wantGone:
		return "it has moved to another node"
	case code == api.CodeUnavailable && s.m.Fenced:
		return reasonFenced
	case code == api.CodeUnavailable && s.m.Want == api.DesiredStopped:
		return "it is stopped"
	case code == api.CodeUnavailable:
		return "it was put to sleep meanwhile"
	default:
		return cmp.Or(s.m.Reason, "it ended before it accepted connections")
	}
}

// publish makes what is observed known, if it changed.
func (s *supervisor) publish() {
	if s.m.Phase == gone {
		s.agent.reports.forget(s.ref)
		return
	}
	o := &api.Observed{
		State: s.m.state(), Reason: s.m.Reason, Restarts: s.m.Restarts, ExitCode: s.exitCode,
		Since: s.m.Since, ServiceRevision: s.revision, Desired: s.m.Want,
	}
	if s.m.Want == wantGone {
		o.Desired = ""
	}
	if s.instance != nil {
		o.Generation = s.instance.Generation
	}
	if r := s.run; r != nil && r.proc != nil {
		o.PID = r.proc.Handle().PID
		if s.m.Phase.serving() {
			o.Endpoint, o.Healthy = r.rec.Endpoint, s.m.Healthy
		}
	}
	r := api.Report{Ref: s.ref, Observed: *o, DataHere: s.dataHere != 0 && s.dataHere == o.Generation}
	if old := s.observed.Load(); old != nil && reflect.DeepEqual(old, o) && r.DataHere == s.saidHere {
		return
	}
	s.saidHere = r.DataHere
	s.observed.Store(o)
	s.agent.reports.put(r)
}

// complain logs an event that can't be.
func (s *supervisor) complain(ev event) {
	s.agent.cfg.Logger.Error("impossible event", "instance", s.ref, "phase", s.m.Phase, "event", ev,
		"error", fmt.Sprintf("%s while %s", ev, s.m.Phase))
}
