//go:build linux

package drivertest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

func (s suite) exitCodes(t *testing.T) {
	d := s.Open(t)
	for program, want := range map[string]int{"exit 0": 0, "exit 3": 3, "exit 255": 255} {
		p := s.start(t, d, program)
		wantExit(t, p, code(want))
		if got := p.Exit().Success(); got != (want == 0) {
			t.Errorf("%s: Success = %t", program, got)
		}
		p.allGone(t)
	}
}

func (s suite) raisedSignal(t *testing.T) {
	wantExit(t, s.start(t, s.Open(t), "raise 9"), killedBy(syscall.SIGKILL))
}

func (s suite) terminate(t *testing.T) {
	d := s.Open(t)
	for program, want := range map[string]driver.Exit{
		"wait":       killedBy(syscall.SIGTERM),
		"graceful 7": code(7),
	} {
		p := s.start(t, d, program)
		s.ready(t, p)
		wantRunning(t, p)
		wantNil(t, "Terminate", p.Terminate())
		wantExit(t, p, want)
		wantNil(t, "Terminate after the end", p.Terminate())
	}
}

func (s suite) kill(t *testing.T) {
	p := s.start(t, s.Open(t), "stubborn")
	s.ready(t, p)
	wantNil(t, "Terminate", p.Terminate())
	wantNil(t, "Terminate again", p.Terminate())
	wantRunning(t, p)
	wantNil(t, "Kill", p.Kill())
	wantExit(t, p, killedBy(syscall.SIGKILL))
	wantNil(t, "Kill after the end", p.Kill())
	p.allGone(t)
}

func (s suite) signalsAtOnce(t *testing.T) {
	p := s.start(t, s.Open(t), "stubborn")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				wantNil(t, "Terminate", p.Terminate())
				wantNil(t, "Kill", p.Kill())
			}
		})
	}
	waitDone(t, p)
	wg.Wait()
}

func (s suite) cancelledStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(t).Start(ctx, s.spec(t, "wait")); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a cancelled context = %v", err)
	}
}

func (s suite) release(t *testing.T) {
	d := s.Open(t)
	p := s.start(t, d, "graceful 4")
	s.ready(t, p)
	p.Release()
	p.Release() // again is harmless
	again := s.recover(t, s.Open(t), p.Handle())
	if again.Handle() != p.Handle() {
		t.Errorf("recovered handle = %+v, want %+v", again.Handle(), p.Handle())
	}
	wantRunning(t, again)
	wantNil(t, "Terminate", again.Terminate())
	wantExit(t, again, code(4))
	p.allGone(t)
}

func (s suite) recoverGone(t *testing.T) {
	d := s.Open(t)
	p := s.start(t, d, "exit 0")
	waitDone(t, p)
	_, err := d.Recover(t.Context(), p.Handle())
	wantGone(t, "Recover of an ended process", err)

	// It ended while nobody watched.
	p = s.start(t, d, "graceful 0")
	s.ready(t, p)
	other := s.recover(t, s.Open(t), p.Handle())
	p.Release()
	wantNil(t, "Kill", other.Kill())
	waitDone(t, other)
	_, err = d.Recover(t.Context(), p.Handle())
	wantGone(t, "Recover of a process that ended unwatched", err)
}

func (s suite) recoverWrongProcess(t *testing.T) {
	d := s.Open(t)
	p := s.start(t, d, "graceful 5")
	s.ready(t, p)

	reused := p.Handle()
	reused.StartTime--
	_, err := d.Recover(t.Context(), reused)
	wantGone(t, "Recover with another start time", err)

	rebooted := p.Handle()
	rebooted.BootID = "00000000-0000-0000-0000-000000000000"
	_, err = d.Recover(t.Context(), rebooted)
	wantGone(t, "Recover with another boot id", err)

	foreign := p.Handle()
	foreign.Driver = api.IsolationQEMU
	if _, err = d.Recover(t.Context(), foreign); err == nil {
		t.Error("Recover of another driver's handle succeeded")
	}

	// No signal was sent: it still ends in its own way.
	wantRunning(t, p)
	wantNil(t, "Terminate", p.Terminate())
	wantExit(t, p, code(5))
}

func (s suite) findStart(t *testing.T) {
	d := s.Open(t)
	_, err := d.FindStart(t.Context(), newStart())
	wantGone(t, "FindStart of no start", err)

	p := s.start(t, d, "wait")
	s.ready(t, p)
	other := s.start(t, d, "wait")
	s.ready(t, other)
	h, err := s.Open(t).FindStart(t.Context(), p.Handle().Start)
	if err != nil || h != p.Handle() {
		t.Errorf("FindStart = %+v, %v, want %+v", h, err, p.Handle())
	}
	// Neither a prefix nor an extension of a start is that start.
	for _, start := range []string{p.Handle().Start + "0", p.Handle().Start[:len(p.Handle().Start)-1]} {
		if h, err := d.FindStart(t.Context(), start); err == nil && h.PID == p.Handle().PID {
			t.Errorf("FindStart(%q) found %q", start, p.Handle().Start)
		}
	}
	wantNil(t, "Kill", p.Kill())
	waitDone(t, p)
	_, err = d.FindStart(t.Context(), p.Handle().Start)
	wantGone(t, "FindStart of an ended process", err)
}

// cycles starts and stops many times, half of them recovered in between, and counts
// what is left over.
func (s suite) cycles(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 20
	}
	d := s.Open(t)
	cycle := func(i int) {
		spec := s.spec(t, []string{"exit 0", "wait"}[i%2])
		p, err := d.Start(t.Context(), spec)
		if err != nil {
			t.Fatalf("Start %d: %v", i, err)
		}
		if i%4 >= 2 {
			p.Release()
			again, err := d.Recover(t.Context(), p.Handle())
			if err != nil {
				wantGone(t, "Recover", err)
				return
			}
			p = again
		}
		if i%2 == 1 {
			wantNil(t, "Kill", p.Kill())
		}
		waitDone(t, p)
		p.Release()
	}
	cycle(1) // whatever is opened once and for all
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	for i := range n {
		cycle(i)
	}
	if got := descriptors(t); got > fds {
		t.Errorf("%d descriptors before %d cycles, %d after", fds, n, got)
	}
	if !s.Simulated && children() {
		t.Error("a child is left")
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", goroutines, runtime.NumGoroutine())
		}
	}
}
