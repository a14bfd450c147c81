// Package driver is the contract between the agent that supervises instances and the
// several ways to run one: a bare process, namespaces, a sandbox.
//
// A driver starts a program and hands out a [Process]; what identifies the process, its
// [Handle], outlives ten: the next ten hands it to Recover and goes on as if it had
// started the program itself. Package drivertest holds the suite every driver passes.
package driver

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/tenement-fleet/tenement/api"
)

// ErrGone is returned by Recover when the handle's process has ended, or when its pid
// now belongs to another process, which is never touched. What the ended process left of
// its group is ended first, where it can be told for sure.
var ErrGone = errors.New("recover process: it has ended")

// ErrUnsupported is wrapped by Probe's and Start's errors when the machine lacks what
// the driver needs; the text names what is missing and what to do about it.
var ErrUnsupported = errors.New("isolation not supported here")

// EnvStart is the environment variable that carries [Spec.Start] to the program, by
// which a process started just before ten was killed can be found again.
const EnvStart = "TENEMENT_START"

// Spec is everything that a driver needs to start one program.
type Spec struct {
	Ref api.Ref
	// Start names this one start, unique for ever. The driver puts it into the
	// program's environment as EnvStart.
	Start string
	// Path is the program's absolute path; Args its arguments without the program's name.
	Path string
	Args []string
	// Env is the whole environment, "NAME=value", but for EnvStart.
	Env []string
	Dir string // working directory, absolute
	// Stdout and Stderr become the program's fds 1 and 2; they stay the caller's to
	// close. Stdin is /dev/null.
	Stdout, Stderr *os.File
}

// Handle identifies a process across restarts of ten. It is stored as JSON.
type Handle struct {
	Driver api.Isolation `json:"driver"`
	// PID is the process to watch. It may be one that the driver has put above the
	// program and that ends with it, such as the init of a pid namespace.
	PID int `json:"pid"`
	// StartTime is the process's start in clock ticks since boot (field 22 of
	// /proc/PID/stat): with BootID and PID it names one process for ever.
	StartTime uint64 `json:"start_time"`
	BootID    string `json:"boot_id"`
	Start     string `json:"start"`
}

// Exit is how a process ended.
type Exit struct {
	// Known is false when the process was adopted and the kernel no longer tells how it ended.
	Known bool
	Code  int // exit code; 128+signal when killed by one
	// Signal is 0 unless it was killed by one. Where only exit codes get through, as
	// from a pid namespace, a code of 128 + n is taken for signal n.
	Signal syscall.Signal
}

// Success reports whether the program is known to have ended with code 0.
func (e Exit) Success() bool { return e.Known && e.Code == 0 }

// Process is one running program with everything it spawned. Its methods may be called
// from several goroutines.
type Process interface {
	Handle() Handle
	// Done is closed when the program's first process has ended and everything else
	// in its group is gone too.
	Done() <-chan struct{}
	// Exit tells how it ended; valid after Done is closed.
	Exit() Exit
	// Terminate asks the whole group to end (SIGTERM). Ended already is no error.
	Terminate() error
	// Kill ends the whole group for sure (SIGKILL). Ended already is no error.
	Kill() error
	// Release frees what ten holds of the process and leaves it running. No method but
	// Handle may be called afterwards.
	Release()
}

// SocketOwner is implemented by a Process that can tell its sockets from others'.
type SocketOwner interface {
	// OwnsSocket reports whether the process, or anything that it has started, holds the
	// socket with this inode; true also when that can't be told and nobody else is seen to
	// hold it. Otherwise holder is the pid of somebody who does, 0 if there is none to be
	// found.
	OwnsSocket(inode uint64) (owned bool, holder int)
}

// Driver is one way to run a program.
type Driver interface {
	// Name is the isolation level the driver provides.
	Name() api.Isolation
	// Probe reports whether the level works on this machine for this user: nil, or an
	// error that wraps ErrUnsupported.
	Probe(ctx context.Context) error
	// Start starts the program and returns once it has been executed. A program that
	// can't be executed is an error that names path and cause; nothing is left behind.
	Start(ctx context.Context, spec Spec) (Process, error)
	// Recover finds a process that an earlier ten started. ErrGone when it has ended.
	Recover(ctx context.Context, h Handle) (Process, error)
	// FindStart looks for a live process by the Start of its Spec, for a start whose
	// handle never reached the disk. ErrGone when there is none. The handle may be of
	// one that has just ended; then Recover says so.
	FindStart(ctx context.Context, start string) (Handle, error)
}
