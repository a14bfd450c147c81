package fake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// fakeDriver implements driver.Driver on a Machine.
type fakeDriver struct {
	machine *Machine
	name    api.Isolation
}

// Name implements driver.Driver.
func (d *fakeDriver) Name() api.Isolation { return d.name }

// Probe implements driver.Driver.
func (d *fakeDriver) Probe(context.Context) error { return nil }

// Start implements driver.Driver.
func (d *fakeDriver) Start(ctx context.Context, spec driver.Spec) (driver.Process, error) {
	p, err := d.start(ctx, spec)
	d.machine.record(OpStart, spec.Ref, spec.Start, err)
	if err != nil {
		return nil, err
	}
	return &process{program: p}, nil
}

func (d *fakeDriver) start(ctx context.Context, spec driver.Spec) (*program, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Ref, err)
	}
	b := d.machine.behave(spec)
	if b.StartDelay > 0 {
		timer := time.NewTimer(b.StartDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("start %s: %w", spec.Ref, ctx.Err())
		}
	}
	if b.StartError != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Ref, b.StartError)
	}
	return d.machine.run(d.name, spec, b)
}

// Recover implements driver.Driver.
func (d *fakeDriver) Recover(ctx context.Context, h driver.Handle) (driver.Process, error) {
	p, err := d.recover(ctx, h)
	if err != nil {
		d.machine.record(OpRecover, api.Ref{}, h.Start, err)
		return nil, err
	}
	d.machine.record(OpRecover, p.spec.Ref, h.Start, nil)
	return &process{program: p}, nil
}

func (d *fakeDriver) recover(ctx context.Context, h driver.Handle) (*program, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("recover process %d: %w", h.PID, err)
	}
	if h.Driver != d.name {
		return nil, fmt.Errorf("recover process %d: it runs under %q, not %q", h.PID, h.Driver, d.name)
	}
	d.machine.mu.Lock()
	defer d.machine.mu.Unlock()
	p := d.machine.programs[h.PID]
	if p == nil || p.handle != h {
		return nil, driver.ErrGone
	}
	return p, nil
}

// FindStart implements driver.Driver.
func (d *fakeDriver) FindStart(ctx context.Context, start string) (driver.Handle, error) {
	if err := ctx.Err(); err != nil {
		return driver.Handle{}, fmt.Errorf("find start %s: %w", start, err)
	}
	p := d.machine.find(func(h driver.Handle) bool { return h.Driver == d.name && h.Start == start })
	if p == nil {
		d.machine.record(OpFind, api.Ref{}, start, driver.ErrGone)
		return driver.Handle{}, driver.ErrGone
	}
	d.machine.record(OpFind, p.spec.Ref, start, nil)
	return p.handle, nil
}

// process implements driver.Process: one ten's hold of a program.
type process struct {
	program *program
	release sync.Once
}

// Handle implements driver.Process.
func (p *process) Handle() driver.Handle { return p.program.handle }

// Done implements driver.Process.
func (p *process) Done() <-chan struct{} { return p.program.done }

// Exit implements driver.Process.
func (p *process) Exit() driver.Exit { return p.program.exit }

// Terminate implements driver.Process.
func (p *process) Terminate() error {
	p.record(OpTerminate)
	p.program.terminate()
	return nil
}

// Kill implements driver.Process.
func (p *process) Kill() error {
	p.record(OpKill)
	p.program.end(killed)
	return nil
}

// Release implements driver.Process.
func (p *process) Release() {
	p.release.Do(func() { p.record(OpRelease) })
}

func (p *process) record(op Op) {
	p.program.machine.record(op, p.program.spec.Ref, p.program.handle.Start, nil)
}
