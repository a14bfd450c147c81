package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// recoverAtOnce is how many processes are looked for at the same time.
const recoverAtOnce = 16

// Recover adopts every process that an earlier ten has left running, opens the gates of
// those that accept connections, and then starts what should run and does not. It is
// called once, before requests are let in.
//
// An instance of which nobody can tell whether its process is there becomes failed, and
// is not started again behind the process's back. That is no error of Recover.
func (a *Agent) Recover(ctx context.Context) error {
	recs, err := a.records.load(func(slot int64, err error) {
		a.cfg.Logger.Error("damaged run record", "slot", slot, "error", err)
	})
	if err != nil {
		return fmt.Errorf("recover instances: %w", err)
	}
	var g errgroup.Group
	g.SetLimit(recoverAtOnce)
	for _, r := range recs {
		g.Go(func() error { return a.recover(ctx, r) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("recover instances: %w", err)
	}
	close(a.recovered)
	a.finishArrivals()
	a.finishRemovals(recs)
	for asg := range a.cfg.Specs.Assigned {
		a.converge(asg.Instance.Ref(), asg)
	}
	return nil
}

// finishArrivals finishes what an interrupted fetch of data has left.
func (a *Agent) finishArrivals() {
	for ref := range a.arrivals.recover(a.logError) {
		if _, assigned := a.cfg.Specs.Assignment(ref); !assigned {
			a.vanished(ref)
		}
	}
}

// finishRemovals removes the data that should have gone with its instance, or when that
// was stopped, and that no run on record holds.
func (a *Agent) finishRemovals(recs []*record) {
	marked := a.fates.marked()
	for _, r := range recs {
		if r.BootID == a.cfg.BootID {
			delete(marked, r.Ref) // its supervisor does, when the process is gone
		}
	}
	for ref, fate := range marked {
		if fate == condemned {
			a.logError("data not removed", ref, a.purge(ref))
		}
		if _, assigned := a.cfg.Specs.Assignment(ref); !assigned {
			a.vanished(ref)
		}
	}
}

// recover goes on from one record.
func (a *Agent) recover(ctx context.Context, r *record) error {
	if r.BootID != a.cfg.BootID {
		return a.records.remove(r) // the machine has been started again since
	}
	asg, assigned := a.cfg.Specs.Assignment(r.Ref)
	if !assigned {
		asg = api.Assignment{Service: r.service()}
	}
	return a.adopt(ctx, asg, r)
}

// adopt has a supervisor go on with a recorded process, dead or alive.
func (a *Agent) adopt(ctx context.Context, asg api.Assignment, r *record) error {
	proc, err := a.find(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case errors.Is(err, driver.ErrGone):
		proc, err = nil, nil
	case err != nil:
		a.cfg.Logger.Error("process not recovered: it may run unsupervised", "instance", r.Ref, "error", err)
	}
	adopted := make(chan struct{})
	if !a.handOver(asg, r, func(s *supervisor) { s.adopt(r, proc, err); close(adopted) }) {
		if proc != nil {
			proc.Release()
		}
		return errClosing(r.Ref)
	}
	select {
	case <-adopted:
	case <-a.ctx.Done():
	}
	return nil
}

func (a *Agent) handOver(asg api.Assignment, r *record, f func(*supervisor)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.supervisors[r.Ref]
	if s == nil {
		s = a.supervise(r.Ref, asg)
	}
	return s != nil && s.post(func() { f(s) })
}

// find looks for the process of a record.
func (a *Agent) find(ctx context.Context, r *record) (driver.Process, error) {
	drv := a.cfg.Drivers[r.Driver]
	if drv == nil {
		return nil, fmt.Errorf("recover %s: isolation %q: %w", r.Ref, r.Driver, driver.ErrUnsupported)
	}
	if r.Handle == nil { // ten was killed between the start and its record
		h, err := drv.FindStart(ctx, r.Start)
		if err != nil {
			return nil, fmt.Errorf("recover %s: %w", r.Ref, err)
		}
		r.Handle = &h
	}
	proc, err := drv.Recover(ctx, *r.Handle)
	if err != nil {
		return nil, fmt.Errorf("recover %s: %w", r.Ref, err)
	}
	return proc, nil
}

// adopt takes over where the former ten left off. proc is nil when the process has ended
// since; err says that nobody knows.
func (s *supervisor) adopt(r *record, proc driver.Process, err error) {
	o := s.observed.Load()
	if o == nil {
		o = &api.Observed{}
	}
	s.m.Phase = asleep
	s.sum, s.revision = r.SpecSum, r.ServiceRevision
	s.m.Restarts, s.m.Recent = r.Restarts, r.Recent
	s.m.Want = cmp.Or(o.Desired, api.DesiredRunning)
	if o.Desired == "" && s.instance != nil {
		s.m.Want = s.instance.Desired
	}
	if s.m.Want == api.DesiredStopped {
		s.m.Want = "" // the stop is not over: it is news again
	}
	if err != nil {
		s.m.Phase, s.m.Reason, s.m.Since = failed, err.Error(), s.agent.cfg.Now()
		s.revision, s.checked = s.m.Service.Revision, s.m.Service.Revision
		s.agent.moveGate(s.ref, gateDown, api.Endpoint{})
		s.sync()
		return
	}
	s.m.Purge = s.agent.fates.of(s.ref) == condemned
	s.run = &run{rec: *r, proc: proc}
	s.agent.ports.reserve(r.Port)
	if err := s.agent.cfg.Output.Attach(s.ref); err != nil {
		s.agent.cfg.Logger.Error("output not captured", "instance", s.ref, "error", err)
	}
	if proc == nil {
		s.adoptEnded(r)
	} else {
		s.adoptLive(r, o)
	}
	s.sync()
}

func (s *supervisor) adoptEnded(r *record) {
	switch {
	case r.ToSleep:
		s.m.Phase, s.m.Next = terminating, toAsleep
	case r.Endpoint != nil:
		s.m.Phase = running
	default:
		s.m.Phase = starting
	}
	s.handle(onExitUnknown, "ended while ten was not running")
	s.agent.moveGate(s.ref, s.m.gate(), api.Endpoint{})
}

func (s *supervisor) adoptLive(r *record, o *api.Observed) {
	if r.Endpoint == nil {
		s.handle(onAdoptedStarting, "")
	} else {
		s.handle(onAdopted, "")
		s.verify()
	}
	if o.State == s.m.state() { // nothing has changed for those who look on
		s.m.Since = o.Since
		s.m.Healthy = s.m.Healthy || o.Healthy
	}
	s.saveRecord() // a handle that was found
	switch {
	case r.ToSleep:
		s.handle(onSleep, "")
	case s.m.Purge: // it was to end, and to start again without its data unless that is news
		s.handle(onRestart, "")
	}
}
