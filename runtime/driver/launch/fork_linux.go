//go:build amd64 || arm64

package launch

import (
	"syscall"
	"unsafe"
)

// call is one system call of the child. Pointers among its arguments are kept alive by
// the Step that it belongs to.
type call struct {
	number uintptr
	args   [6]uintptr
	// keep saves the result, typically a descriptor; saved puts the result that was
	// saved last in the place of the first argument.
	keep, saved bool
	// init, if set, makes this the call at which the path splits: process 1 becomes the
	// init, process 2 goes on with the calls that follow.
	init *initExec
}

// progress is how far the child came; it writes here, in the memory shared with its parent.
type progress struct {
	at    int           // the call being made
	errno syscall.Errno // why it failed; 0 while none did
}

// fork clones a child that makes the calls, in order, until one fails, and returns
// once the child has executed a program or ended. The last call must not return.
func fork(flags uintptr, calls []call) (pid, pidfd int, p progress, err syscall.Errno) {
	var fd int32
	// One fork at a time: AfterForkInChild counts on it, and it keeps descriptors that
	// other goroutines are about to mark close-on-exec out of the children of os/exec.
	syscall.ForkLock.Lock()
	upid, err := forkChild(flags|syscall.CLONE_VM|syscall.CLONE_VFORK|syscall.CLONE_PIDFD|uintptr(syscall.SIGCHLD),
		&fd, calls, &p)
	runtimeAfterFork()
	syscall.ForkLock.Unlock()
	return int(upid), int(fd), p, err
}

// forkChild is fork up to the point where the parent must leave the stack frame that it
// shares with the child. The child never leaves it. As in package syscall's
// forkAndExecInChild1, from runtimeBeforeFork on there may be no allocation, no growing
// of the stack, and, in the child, no call but of assembly and of nosplit functions.
//
//go:noinline
//go:norace
//go:nocheckptr
func forkChild(flags uintptr, pidfd *int32, calls []call, p *progress) (pid uintptr, err syscall.Errno) {
	// Everything is declared here, so that nothing is moved to the heap after the fork.
	var (
		i             int
		c             *call
		first, result uintptr
		saved         uintptr
		failed        syscall.Errno
		errno         uintptr
	)
	runtimeBeforeFork()
	pid, errno = vfork(flags, uintptr(unsafe.Pointer(pidfd))) //nolint:gosec // audited: memory that the parent keeps alive
	if errno != 0 || pid != 0 {
		return pid, syscall.Errno(errno)
	}

	for i = range calls {
		c = &calls[i]
		p.at = i
		if i == len(calls)-1 {
			// Signals stay blocked until the end, so that none of ten's handlers runs here.
			runtimeAfterForkInChild()
		}
		first = c.args[0]
		if c.saved {
			first = saved
		}
		if c.init != nil {
			// Only process 2 comes back from here.
			result = vforkInit(c.init)
			failed = syscall.Errno(-result)
		} else {
			result, _, failed = syscall.RawSyscall6(c.number, first, c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		}
		if failed != 0 {
			p.errno = failed
			break
		}
		if c.keep {
			saved = result
		}
	}
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}
}

// vfork clones a child that shares this thread's memory and suspends the thread until
// the child has executed a program or ended; the child sees pid 0.
//
//go:noescape
func vfork(flags, pidfd uintptr) (pid, errno uintptr)

// Package syscall's own hooks into the runtime, which Go keeps linkable: go.dev/issue/67401.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()
