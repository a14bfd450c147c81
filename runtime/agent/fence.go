package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// errFenced is why a program was not started at the last moment.
var errFenced = errors.New(reasonFenced)

// fences reports whether programs of the service must not outlive their node's lease.
func fences(svc *api.Service) bool { return svc.Disconnect() == api.DisconnectStop }

// Fences reports whether a process may be on record that must not outlive the node's lease.
func (a *Agent) Fences() bool {
	select {
	case <-a.recovered:
	default: // the records have not been loaded
		found, err := AnyFenced(a.cfg.RunDir, a.cfg.BootID)
		return found || err != nil
	}
	a.records.mu.Lock()
	defer a.records.mu.Unlock()
	return len(a.records.fences) > 0
}

// markFence has it on record whether the process must not outlive the node's lease.
func (s *supervisor) markFence() {
	if s.run == nil || s.run.proc == nil || s.run.rec.Fence == fences(s.m.Service) {
		return
	}
	s.run.rec.Fence = !s.run.rec.Fence
	s.saveRecord()
}

// fenced reports whether the process of that record must not run now. A ten that was
// stopped, or a machine that was suspended, does not hear that before it goes on.
func (a *Agent) fenced(r *record) bool {
	if !r.Fence {
		return false
	}
	asg, ok := a.cfg.Specs.Assignment(r.Ref)
	return ok && asg.Fenced
}

func (a *Agent) mayStart(r *record) error {
	if a.fenced(r) {
		return errFenced
	}
	return nil
}

// endIfFenced ends a program at once whose lease ended while it was started.
func (a *Agent) endIfFenced(r *run) {
	if a.fenced(&r.rec) {
		a.logError("program without a lease not killed", r.rec.Ref, r.proc.Kill())
	}
}

// killWait is how long killed programs may take to be gone before they are counted.
const killWait = time.Second

// KillFenced ends every program that must not outlive the node's lease, for whoever has
// only the directory of the records. expired is asked before each kill. It returns how
// many may still run.
func KillFenced(ctx context.Context, runDir, bootID string, drivers map[api.Isolation]driver.Driver, expired func() bool, log *slog.Logger) (left int, err error) {
	recs, err := readFenced(runDir, bootID)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	a := &Agent{cfg: Config{Drivers: drivers}}
	var errs []error
	var killed []driver.Process
	for _, r := range recs {
		if !expired() {
			break
		}
		proc, err := a.find(ctx, r)
		switch {
		case errors.Is(err, driver.ErrGone):
			continue
		case err != nil:
			left++
			errs = append(errs, err)
			continue
		}
		defer proc.Release()
		if expired() { // still, now that it is found
			log.Warn("kill a program whose node's lease has ended", "instance", r.Ref, "pid", r.Handle.PID)
			errs = append(errs, proc.Kill())
		}
		killed = append(killed, proc)
	}
	for _, proc := range killed {
		select {
		case <-proc.Done():
		case <-ctx.Done():
			left++
		}
	}
	return left, errors.Join(errs...)
}

// AnyFenced reports whether a process of this boot is on record that must not outlive the
// node's lease.
func AnyFenced(runDir, bootID string) (bool, error) {
	recs, err := readFenced(runDir, bootID)
	return len(recs) > 0, err
}

// readFenced reads the records of what must not outlive the lease, without a change to
// the file. One that is just being written is read when it is looked at again.
func readFenced(runDir, bootID string) (fenced []*record, err error) {
	b, err := os.ReadFile(filepath.Join(runDir, recordsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read run records: %w", err)
	}
	for len(b) > 0 {
		slot := b[:min(slotSize, len(b))]
		b = b[len(slot):]
		if r, err := parseSlot(slot); err == nil && r != nil && r.Fence && r.BootID == bootID {
			fenced = append(fenced, r)
		}
	}
	return fenced, nil
}

// BootID names this boot of the machine; empty where the kernel has no such name.
func BootID() string { return bootID() }
