//go:build amd64 || arm64

package launch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config is a program to start and what happens on the way to it. The child
//
//  1. becomes the leader of its own process group, resets what signals do and marks every
//     descriptor close-on-exec,
//  2. makes the steps of Setup and enters Dir,
//  3. leaves Init behind, if there is one,
//  4. gets its standard streams and back the limits that the Go runtime changed,
//  5. makes the steps of Confine,
//  6. executes the program.
type Config struct {
	Path string
	Args []string // without the program's name
	Env  []string
	Dir  string
	// Stdout and Stderr default to /dev/null, which Stdin always is.
	Stdout, Stderr *os.File
	// Namespaces are the CLONE_NEW… flags of the child.
	Namespaces uintptr
	// Init, if set, becomes process 1 of the new pid namespace, with these arguments
	// (its own name first) and this environment.
	Init              *Init
	InitArgs, InitEnv []string
	// Setup prepares what the program will see; Confine takes away what it must not be
	// able to do, and so comes last.
	Setup, Confine []Step
}

// Child is a program that has been executed.
type Child struct {
	PID   int
	PIDFD int // the caller's to close; close-on-exec
}

// StepError says which step of a start failed.
type StepError struct {
	What string
	Err  error
}

// Error implements error.
func (e *StepError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the cause, in most cases a syscall.Errno.
func (e *StepError) Unwrap() error { return e.Err }

// CreateNamespaces is the What of a StepError when the process itself could not be made.
const CreateNamespaces = "create process and namespaces"

// Start starts the program and returns once it has been executed. An error is a
// *StepError, or says what could not be prepared; the child is gone then. The Child is
// the Init, if there is one.
func Start(cfg Config) (Child, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Child{}, fmt.Errorf("open null device: %w", err)
	}
	defer null.Close() //nolint:errcheck // nothing was written
	p := plan{steps: slices.Concat([]Step{ownGroup(), defaultSignals(), closeAll()}, cfg.Setup, []Step{enter(cfg.Dir)})}
	if cfg.Init != nil {
		s, e := cfg.Init.spawn(cfg.InitArgs, cfg.InitEnv)
		p.steps, p.init = append(p.steps, s), e
	}
	for i, f := range []*os.File{null, cfg.Stdout, cfg.Stderr} {
		if f == nil {
			f = null
		}
		if f.Fd() < 3 { // a dup3 to its own place, or over another's, would go wrong
			if f, err = above(f); err != nil {
				return Child{}, err
			}
			defer f.Close() //nolint:errcheck // a copy of the caller's descriptor
		}
		p.steps = append(p.steps, stream(f, i))
	}
	p.steps = slices.Concat(p.steps, []Step{restoreLimits()}, cfg.Confine, []Step{execute(cfg.Path, cfg.Args, cfg.Env)})
	// A program file that was just written may still be open for writing in a process
	// that another goroutine is starting at this moment; that takes a moment only.
	for i := 0; ; i++ {
		child, err := p.run(cfg.Namespaces)
		if i == 7 || !errors.Is(err, unix.ETXTBSY) {
			return child, err
		}
		time.Sleep(time.Millisecond << i)
	}
}

// Try makes the steps in a child with the namespaces given, leaves the init behind, if
// there is one, executes nothing else, and tells whether all of it worked.
func Try(namespaces uintptr, steps []Step, init *Init) error {
	p := plan{steps: slices.Clone(steps)}
	if init != nil {
		s, e := init.spawn([]string{"ten: probe"}, nil)
		p.steps, p.init = append(p.steps, s), e
	}
	p.steps = append(p.steps, leave())
	child, err := p.run(namespaces)
	if err != nil {
		return err
	}
	_ = unix.Close(child.PIDFD)
	return reap(child.PID)
}

// plan is everything that a child does; the last step does not return.
type plan struct {
	steps []Step
	init  *initExec // what one of the steps leaves behind, or nil
}

func (p *plan) run(namespaces uintptr) (Child, error) {
	var calls []call
	var owner []int // owner[i] is the step that calls[i] belongs to
	for i, s := range p.steps {
		if s.err != nil {
			return Child{}, s.err
		}
		for range s.calls {
			owner = append(owner, i)
		}
		calls = append(calls, s.calls...)
	}
	pid, pidfd, reached, errno := fork(namespaces, calls)
	runtime.KeepAlive(p.steps)
	if errno != 0 {
		return Child{}, &StepError{What: CreateNamespaces, Err: errno}
	}
	executed := reached.errno == 0 && reached.at == len(calls)-1
	if executed && (p.init == nil || p.init.errno == 0) {
		return Child{PID: pid, PIDFD: pidfd}, nil
	}
	_ = unix.Close(pidfd)
	err := reap(pid)
	failed := p.steps[owner[reached.at]]
	switch {
	case executed:
		return Child{}, &StepError{What: "execute the init of the pid namespace", Err: syscall.Errno(p.init.errno)}
	case reached.errno == 0:
		err = fmt.Errorf("killed on the way: %w", err)
	case failed.explain != nil:
		err = failed.explain(reached.errno)
	default:
		err = reached.errno
	}
	return Child{}, &StepError{What: failed.what, Err: err}
}

// reap waits for the end of a child that is ending and reports anything but exit code 0.
func reap(pid int) error {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for child: %w", err)
		}
		if ws.Signaled() {
			return fmt.Errorf("signal %v", ws.Signal())
		}
		if ws.ExitStatus() != 0 {
			return fmt.Errorf("exit code %d", ws.ExitStatus())
		}
		return nil
	}
}

// above returns a copy of f whose descriptor is none of the standard streams.
func above(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor %d: %w", f.Fd(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
