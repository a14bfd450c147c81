package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// The driver.

func (n *node) Name() api.Isolation         { return api.IsolationProcess }
func (n *node) Probe(context.Context) error { return nil }

func (n *node) Start(ctx context.Context, spec driver.Spec) (driver.Process, error) {
	n.mu.Lock()
	n.starting++
	n.most = max(n.most, n.starting)
	n.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f := n.onStart.get(); f != nil {
		if err := f(spec); err != nil {
			n.mu.Lock()
			n.starting--
			n.mu.Unlock()
			return nil, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.last[spec.Ref]; p != nil && p.alive() {
		n.t.Errorf("%s has two processes", spec.Ref)
	}
	n.starts[spec.Ref]++
	p := &proc{node: n, spec: spec, pid: 1000 + len(n.procs), done: make(chan struct{})}
	n.procs[spec.Start], n.last[spec.Ref] = p, p
	if !n.bench {
		if err := os.WriteFile(filepath.Join(n.dataDir(spec.Ref), "written"), nil, 0o600); err != nil {
			n.t.Error(err)
		}
	}
	return p, nil
}

func (n *node) Recover(_ context.Context, h driver.Handle) (driver.Process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.procs[h.Start]
	if p == nil || !p.alive() || p.pid != h.PID {
		return nil, fmt.Errorf("fake: %w", driver.ErrGone)
	}
	return p, nil
}

func (n *node) FindStart(_ context.Context, start string) (driver.Handle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.procs[start]
	if p == nil || !p.alive() {
		return driver.Handle{}, fmt.Errorf("fake: %w", driver.ErrGone)
	}
	return p.Handle(), nil
}

func (p *proc) Handle() driver.Handle {
	return driver.Handle{Driver: api.IsolationProcess, PID: p.pid, BootID: p.node.boot, Start: p.spec.Start}
}
func (p *proc) Done() <-chan struct{} { return p.done }
func (p *proc) Exit() driver.Exit     { return p.exit }
func (p *proc) Release()              {}

func (p *proc) Terminate() error {
	p.term.Store(true)
	if f := p.node.onTerm.get(); f != nil {
		f(p)
		return nil
	}
	p.end(driver.Exit{Known: true, Code: 143, Signal: syscall.SIGTERM})
	return nil
}

func (p *proc) Kill() error {
	p.end(driver.Exit{Known: true, Code: 137, Signal: syscall.SIGKILL})
	return nil
}

func (p *proc) end(e driver.Exit) {
	p.once.Do(func() {
		p.exit = e
		close(p.done)
	})
}

func (p *proc) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// crash ends the instance's process as a program does that fails.
func (n *node) crash(ref api.Ref) {
	n.t.Helper()
	p := n.process(ref)
	if p == nil {
		n.t.Fatalf("%s has no process to crash", ref)
	}
	p.end(driver.Exit{Known: true, Code: 3})
}

func (n *node) process(ref api.Ref) *proc {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.last[ref]; p != nil && p.alive() {
		return p
	}
	return nil
}

func (n *node) started(ref api.Ref) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.starts[ref]
}

// Readiness and Checker.

func (n *node) Wait(ctx context.Context, port int, _ string, _ func(uint64) bool) (api.Endpoint, error) {
	ep := api.Endpoint{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", port)}
	defer func() {
		n.mu.Lock()
		n.starting--
		n.mu.Unlock()
	}()
	if f := n.onReady.get(); f != nil && !f(ctx, n.onPort(port)) {
		<-ctx.Done()
		return ep, ctx.Err()
	}
	return ep, ctx.Err()
}

func (n *node) onPort(port int) *proc {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.procs {
		if p.alive() && slices.Contains(p.spec.Env, fmt.Sprintf("PORT=%d", port)) {
			return p
		}
	}
	return nil
}

func (n *node) Check(_ context.Context, ep api.Endpoint, _ string) error {
	var port int
	if _, err := fmt.Sscanf(ep.Address, "127.0.0.1:%d", &port); err != nil {
		return err
	}
	p := n.onPort(port)
	if p == nil {
		return errors.New("connection refused")
	}
	if f := n.onCheck.get(); f != nil {
		return f(p)
	}
	return nil
}

type fakeOutput struct{ n *node }

func (o fakeOutput) Open(api.Ref) (stdout, stderr *os.File, err error) {
	stdout, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	stderr, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	return stdout, stderr, err
}

func (o fakeOutput) Attach(ref api.Ref) error {
	o.n.mu.Lock()
	defer o.n.mu.Unlock()
	o.n.attached = append(o.n.attached, ref)
	return nil
}

func (o fakeOutput) Close(api.Ref) error { return nil }
