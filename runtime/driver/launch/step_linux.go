//go:build amd64 || arm64

package launch

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver/launch/nofile"
)

// Step is something that the new process does before it executes its program: one or
// more system calls under a name. The zero Step does nothing.
type Step struct {
	what  string
	calls []call
	refs  []any // what the calls' arguments point to
	err   error // the step could not even be prepared
	// explain, if set, says more about a failure than its errno does.
	explain func(syscall.Errno) error
}

// What returns the name of the step, which completes "start PROGRAM: …".
func (s Step) What() string { return s.what }

// Syscall is a step of one system call with plain arguments.
func Syscall(what string, number uintptr, args ...uintptr) Step {
	s := Step{what: what}
	s.call(number, args...)
	return s
}

func (s *Step) call(number uintptr, args ...uintptr) *call {
	c := call{number: number}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
	return &s.calls[len(s.calls)-1]
}

// text returns the address of a NUL-terminated copy of v that lives as long as the step.
func (s *Step) text(v string) uintptr {
	p, err := syscall.BytePtrFromString(v)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %q holds a NUL byte: %w", s.what, v, err)
	}
	s.refs = append(s.refs, p)
	return uintptr(unsafe.Pointer(p)) //nolint:gosec // audited: memory that the parent keeps alive
}

// list returns the address of a NULL-terminated array of strings.
func (s *Step) list(vs []string) uintptr {
	ptrs := make([]uintptr, len(vs)+1)
	for i, v := range vs {
		ptrs[i] = s.text(v)
	}
	s.refs = append(s.refs, ptrs)
	return uintptr(unsafe.Pointer(&ptrs[0])) //nolint:gosec // audited: memory that the parent keeps alive
}

// Mount is mount(2). An empty fstype or data is passed as NULL.
func Mount(what, source, target, fstype string, flags uintptr, data string) Step {
	s := Step{what: what}
	optional := func(v string) uintptr {
		if v == "" {
			return 0
		}
		return s.text(v)
	}
	s.call(unix.SYS_MOUNT, s.text(source), s.text(target), optional(fstype), flags, optional(data))
	return s
}

// WriteFile writes text to a file that exists, in one write.
func WriteFile(what, path, text string) Step {
	s := Step{what: what}
	fdcwd := unix.AT_FDCWD
	s.call(unix.SYS_OPENAT, uintptr(fdcwd), s.text(path), unix.O_WRONLY|unix.O_CLOEXEC).keep = true
	s.call(unix.SYS_WRITE, 0, s.text(text), uintptr(len(text))).saved = true
	s.call(unix.SYS_CLOSE, 0).saved = true
	return s
}

// ownGroup makes the process the leader of a process group of its own.
func ownGroup() Step { return Syscall("create process group", unix.SYS_SETPGID, 0, 0) }

// defaultSignals undoes what ten was started with: a signal that it ignores, as under
// nohup, would be ignored by every program, whose stopping it may be.
func defaultSignals() Step {
	s := Step{what: "reset signals"}
	action := new([4]uint64) // struct sigaction of the kernel, all of it zero: SIG_DFL
	s.refs = append(s.refs, action)
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			s.call(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(action)), 0, 8) //nolint:gosec // audited: memory that the parent keeps alive
		}
	}
	return s
}

// stream makes descriptor `from` of the parent the child's standard stream `to`.
func stream(from *os.File, to int) Step {
	s := Syscall(fmt.Sprintf("set up descriptor %d", to), unix.SYS_DUP3, from.Fd(), uintptr(to), 0)
	s.refs = append(s.refs, from)
	return s
}

func enter(dir string) Step {
	s := Step{what: "enter working directory " + dir}
	s.call(unix.SYS_CHDIR, s.text(dir))
	return s
}

// closeAll marks every descriptor close-on-exec, whoever forgot it. Those that stream
// puts in place afterwards are not.
func closeAll() Step {
	return Syscall("mark descriptors close-on-exec", unix.SYS_CLOSE_RANGE, 0, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
}

// restoreLimits undoes what the Go runtime did to this process's own limits.
func restoreLimits() Step {
	limit, ok := nofile.Original()
	if !ok {
		return Step{}
	}
	s := Syscall("restore the limit on open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0) //nolint:gosec // audited: memory that the parent keeps alive
	s.refs = append(s.refs, &limit)
	return s
}

func execute(path string, args, env []string) Step {
	s := Step{what: "execute " + path, explain: func(errno syscall.Errno) error { return explainExec(path, errno) }}
	s.call(unix.SYS_EXECVE, s.text(path), s.list(append([]string{path}, args...)), s.list(env))
	return s
}

func leave() Step { return Syscall("leave", unix.SYS_EXIT_GROUP, 0) }
