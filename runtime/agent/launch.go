package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// run is one run of a program: from before its start until everything is put away.
type run struct {
	rec  record
	proc driver.Process // nil unless it runs
}

// launchResult is a started program, or why it was not started and what is left of it.
type launchResult struct {
	run *run
	err error
}

// do takes one action. Whatever may block goes on in another goroutine.
func (s *supervisor) do(a action, ev event) {
	switch a.do {
	case doGate:
		var ep api.Endpoint
		if a.gate == gateOpen {
			ep = *s.run.rec.Endpoint
		}
		s.agent.moveGate(s.ref, a.gate, ep)
	case doFetch:
		s.fetch()
	case doQueue:
		s.queue()
	case doLaunch:
		s.launch()
	case doAwait:
		s.await()
	case doCheck:
		s.checkIn(a.after)
	case doDrain:
		s.drain()
	case doTerminate:
		s.signal("terminate", s.run.proc.Terminate)
	case doKill:
		s.signal("kill", s.run.proc.Kill)
	case doPutAway:
		s.putAway(a.purge)
	case doAnswer:
		s.answer(a)
	case doComplain:
		s.complain(ev)
	}
}

// queue waits for a start slot. One that comes when nobody waits any more is given back.
func (s *supervisor) queue() {
	seq, slots := s.phaseSeq, s.agent.slots
	granted := func() {
		if s.phaseSeq != seq {
			slots.Release(1)
			return
		}
		s.slot = true
		s.handle(onGranted, "")
	}
	if slots.TryAcquire(1) {
		s.post(granted)
		return
	}
	s.inBackground(func(ctx context.Context) {
		if slots.Acquire(ctx, 1) == nil && !s.post(granted) {
			slots.Release(1)
		}
	})
}

// launch has the program started; the answer comes through s.launched.
func (s *supervisor) launch() {
	svc := s.m.Service
	s.revision, s.sum, s.checked = svc.Revision, specSum(svc), svc.Revision
	rec := record{
		Ref: s.ref, BootID: s.agent.cfg.BootID, Start: rand.Text(), Driver: svc.Isolation,
		ServiceRevision: svc.Revision, SpecSum: s.sum, StopTimeout: svc.StopTimeout,
		Restarts: s.m.Restarts, Recent: s.m.Recent, Ephemeral: !svc.Persist(), Fence: fences(svc),
	}
	answer := make(chan launchResult, 1)
	s.launched = answer
	s.inBackground(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, svc.StartupTimeout.Std())
		defer cancel()
		r := &run{rec: rec}
		answer <- launchResult{run: r, err: s.agent.launch(ctx, svc, r)}
	})
}

func (s *supervisor) onLaunched(r launchResult) {
	s.launched, s.run = nil, r.run
	detail := ""
	s.markFence() // it may have changed meanwhile
	if r.err != nil {
		s.agent.cfg.Logger.Warn("start failed", "instance", s.ref, "error", r.err)
		detail = strings.TrimPrefix(r.err.Error(), "start "+s.ref.String()+": ") // said by whoever shows it
	}
	if errors.Is(r.err, errFenced) {
		s.sync() // as soon as that is known, nothing else is to be said of the start
	}
	switch {
	case r.err == nil:
		s.exitCode = nil
		s.handle(onStarted, "")
	case errors.Is(r.err, driver.ErrUnsupported):
		s.handle(onStartRefused, detail)
	default:
		s.handle(onStartFailed, detail)
	}
}

// launch prepares and starts the program of a run, whose record is on disk before the
// program exists. What is left of a start that failed, putAway frees.
func (a *Agent) launch(ctx context.Context, svc *api.Service, r *run) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("prepare program: %w", err)
	}
	ref := r.rec.Ref
	drv := a.cfg.Drivers[svc.Isolation]
	if drv == nil {
		return fmt.Errorf("isolation %q: %w", svc.Isolation, driver.ErrUnsupported)
	}
	port, err := a.ports.take()
	if err != nil {
		return err
	}
	r.rec.Port = port
	arrived, err := a.arrivals.acquire(ctx, ref) // a fetch that was called off may not have ended yet
	if err != nil {
		return fmt.Errorf("prepare program: %w", err)
	}
	defer arrived()
	if a.fates.of(ref) == condemned { // it could not be removed when it should have been
		if err := a.purge(ref); err != nil {
			return err
		}
	}
	if err := a.fates.mark(ref, r.rec.Ephemeral); err != nil {
		return err
	}
	p, err := a.prepare(ref, svc, port)
	if err != nil {
		return err
	}
	r.rec.Socket = p.socket
	spec, err := a.spec(ref, svc, p, r.rec.Start)
	if err != nil {
		return fmt.Errorf("prepare program: %w", err)
	}
	if err := a.records.save(&r.rec); err != nil {
		return err
	}
	spec.Stdout, spec.Stderr, err = a.cfg.Output.Open(ref)
	if err != nil {
		return fmt.Errorf("capture output: %w", err)
	}
	var proc driver.Process
	if err = a.mayStart(&r.rec); err == nil {
		proc, err = drv.Start(ctx, spec)
	}
	err = errors.Join(err, spec.Stdout.Close(), spec.Stderr.Close())
	if proc == nil {
		return err
	}
	r.proc = proc
	a.endIfFenced(r)
	handle := proc.Handle()
	r.rec.Handle = &handle
	if err := a.records.save(&r.rec); err != nil {
		// The intent is on disk: the next ten would find the process by its Start.
		a.cfg.Logger.Error("handle not recorded", "instance", ref, "error", err)
	}
	return nil
}

// await waits until the program accepts connections.
func (s *supervisor) await() {
	rec := &s.run.rec
	port, socket, owns := rec.Port, rec.Socket, s.owns()
	s.during(func(ctx context.Context) func() {
		ep, err := s.agent.cfg.Readiness.Wait(ctx, port, socket, owns)
		return func() {
			if err != nil { // startup_timeout does the rest
				s.agent.cfg.Logger.Error("readiness unknown", "instance", s.ref, "error", err)
				return
			}
			s.run.rec.Endpoint = &ep
			s.handle(onReady, "")
			s.saveRecord()
		}
	})
}

// owns tells the program's own listeners from those of a stranger, who may be there first
// on its port; nil when its process can't tell.
func (s *supervisor) owns() func(inode uint64) bool {
	owner, ok := s.run.proc.(driver.SocketOwner)
	if !ok {
		return nil
	}
	port, start := s.run.rec.Port, s.run.rec.Start
	return func(inode uint64) bool {
		owned, holder := owner.OwnsSocket(inode)
		if !owned {
			s.post(func() {
				if s.run != nil && s.run.rec.Start == start {
					s.meetStranger(port, holder)
				}
			})
		}
		return owned
	}
}

// meetStranger hears that another process listens on the instance's port.
func (s *supervisor) meetStranger(port, pid int) {
	s.m.Obstacle = fmt.Sprintf("another process listens on port %d, which is this instance's", port)
	if pid != 0 {
		s.m.Obstacle = fmt.Sprintf("another process (pid %d) listens on port %d, which is this instance's", pid, port)
	}
	s.agent.cfg.Logger.Warn("stranger on port", "instance", s.ref, "port", port, "pid", pid)
}

// verifyIn is how long the listener of an adopted instance may stay out of sight.
const verifyIn = 500 * time.Millisecond

// verify makes sure that the port of an adopted instance has not become a stranger's.
func (s *supervisor) verify() {
	ep, port, owns := s.run.rec.Endpoint, s.run.rec.Port, s.owns()
	if owns == nil || ep.Network != "tcp" {
		return
	}
	s.during(func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, verifyIn)
		defer cancel()
		_, err := s.agent.cfg.Readiness.Wait(ctx, port, "", owns)
		return func() {
			if err != nil && s.m.Obstacle != "" { // else whether it is well is for the checks to say
				s.handle(onRestart, "")
			}
		}
	})
}

// checkIn has the health checked after d, give or take a tenth, so that instances that
// were started together are not checked together for ever.
func (s *supervisor) checkIn(d time.Duration) {
	if d > 0 {
		d = time.Duration(float64(d) * (0.9 + 0.2*s.agent.cfg.Random()))
	}
	s.checkAt = s.agent.cfg.Now().Add(max(d, 0))
}

func (s *supervisor) check() {
	ep, path := *s.run.rec.Endpoint, s.m.Service.Health
	s.during(func(ctx context.Context) func() {
		err := s.agent.cfg.Checker.Check(ctx, ep, path)
		return func() {
			if err != nil {
				s.handle(onHealthFailed, err.Error())
			} else {
				s.handle(onHealthOK, "")
			}
		}
	})
}

func (s *supervisor) drain() {
	bound := s.m.Service.StopTimeout.Std()
	s.during(func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		err := s.agent.cfg.Gate.Drain(ctx, s.ref)
		return func() {
			if err != nil {
				s.agent.cfg.Logger.Info("requests cut off", "instance", s.ref, "error", err)
			}
			s.handle(onDrained, "")
		}
	})
}

func (s *supervisor) signal(what string, send func() error) {
	if err := send(); err != nil {
		s.agent.cfg.Logger.Error("signal not sent", "instance", s.ref, "signal", what, "error", err)
	}
}

// onExited hears that the process and its group are gone.
func (s *supervisor) onExited() {
	exit := s.run.proc.Exit()
	s.run.proc.Release()
	s.run.proc = nil
	s.exitCode = nil
	if exit.Known {
		code := exit.Code
		s.exitCode = &code
	}
	switch {
	case exit.Success():
		s.handle(onExitOK, "ended with exit code 0")
	case !exit.Known:
		s.handle(onExitUnknown, "ended while ten could not see how")
	case exit.Signal != 0:
		s.handle(onExitFailed, fmt.Sprintf("ended by signal %d (%s)", int(exit.Signal), exit.Signal))
	default:
		s.handle(onExitFailed, fmt.Sprintf("ended with exit code %d", exit.Code))
	}
}

// putAway frees what the run held, also one that was not quite started.
func (s *supervisor) putAway(purge bool) {
	r, removed := s.run, s.m.Next == toGone
	s.run = nil
	s.during(func(context.Context) func() {
		s.agent.putAway(s.ref, r, purge, removed)
		return func() { s.handle(onEnded, "") }
	})
}

// putAway frees what a run held; r is nil when there was none.
func (a *Agent) putAway(ref api.Ref, r *run, purge, removed bool) {
	if purge { // before the record goes, by which the next ten would know of the run
		a.logError("data not removed", ref, a.purge(ref))
	}
	if r != nil {
		a.logError("output not captured to the end", ref, a.cfg.Output.Close(ref))
		if r.rec.Socket != "" {
			a.logError("socket not removed", ref, a.removeSocket(ref, r.rec.Socket))
		}
		if r.rec.Port != 0 {
			a.ports.free(r.rec.Port)
		}
		a.logError("record not removed", ref, a.records.remove(&r.rec))
	}
	if removed {
		a.logError("half fetched data not removed", ref, a.arrivals.forget(a.ctx, ref))
		a.logError("socket not removed", ref, a.removeSocketDir(ref))
	}
}

// purge removes an instance's data.
func (a *Agent) purge(ref api.Ref) error {
	if err := a.data.RemoveAll(dataPath(ref)); err != nil {
		return fmt.Errorf("remove data: %w", err)
	}
	return a.fates.removed(ref)
}

// keepIntent keeps on record that the process is being put to sleep, so that a ten that
// is started meanwhile does not take its end for a crash.
func (s *supervisor) keepIntent() {
	if s.run == nil || s.run.proc == nil {
		return
	}
	toSleep := (s.m.Phase == draining || s.m.Phase == terminating) && s.m.Next == toAsleep
	if toSleep != s.run.rec.ToSleep {
		s.run.rec.ToSleep = toSleep
		s.saveRecord()
	}
}

func (s *supervisor) saveRecord() {
	if s.run == nil || s.run.proc == nil {
		return
	}
	if err := s.agent.records.save(&s.run.rec); err != nil {
		s.agent.cfg.Logger.Error("run not recorded", "instance", s.ref, "error", err)
	}
}
