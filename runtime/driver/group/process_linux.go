//go:build amd64 || arm64

package group

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

// process implements driver.Process.
type process struct {
	handle driver.Handle
	// pidfd is open until the group has ended. While it is, it names the group for sure,
	// even when the leader is long gone.
	pidfd *os.File
	conn  syscall.RawConn
	// child: the leader is a child of this ten, which must reap it and learns its exit.
	child bool
	// viaInit: the leader is a launch.Init and ends with 128 + n when its program was
	// killed by signal n.
	viaInit bool
	// perMember: do without the signals to whole groups that Linux has since 6.9.
	perMember bool

	exit    driver.Exit   // set before done is closed
	done    chan struct{} // see driver.Process
	release sync.Once
	leave   chan struct{} // closed by Release
	left    chan struct{} // closed when watch has returned
}

// watched wraps the pidfd, which it takes over, and watches the process.
func watched(p *process, pidfd int) (*process, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		_ = unix.Close(pidfd)
		return nil, fmt.Errorf("watch process %d: %w", p.handle.PID, err)
	}
	p.pidfd = os.NewFile(uintptr(pidfd), "pidfd") // non-blocking, so the runtime polls it
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		p.pidfd.Close() //nolint:errcheck,gosec // the error before counts
		return nil, fmt.Errorf("watch process %d: %w", p.handle.PID, err)
	}
	p.conn = conn
	p.done, p.leave, p.left = make(chan struct{}), make(chan struct{}), make(chan struct{})
	go p.watch()
	return p, nil
}

// Handle implements driver.Process.
func (p *process) Handle() driver.Handle { return p.handle }

// Done implements driver.Process.
func (p *process) Done() <-chan struct{} { return p.done }

// Exit implements driver.Process.
func (p *process) Exit() driver.Exit { return p.exit }

// Terminate implements driver.Process. A stopped process is continued, so that it can
// act on the signal.
func (p *process) Terminate() error {
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	return p.signal(unix.SIGCONT)
}

// Kill implements driver.Process.
func (p *process) Kill() error { return p.signal(unix.SIGKILL) }

// Release implements driver.Process.
func (p *process) Release() {
	p.release.Do(func() {
		close(p.leave)
		p.pidfd.Close() //nolint:errcheck,gosec // closed already when it has ended
	})
	<-p.left
}

// watch waits for the leader's end, ends the rest of its group, and tells.
func (p *process) watch() {
	defer close(p.left)
	if err := p.conn.Read(func(fd uintptr) bool { return ended(int(fd)) }); err != nil {
		return // released
	}
	// Until the leader is reaped its pid, and so the name of the group, can't be reused.
	// That matters to kernels on which a pidfd can't name a group.
	_ = p.signal(unix.SIGKILL) // what can't be signalled is waited for below
	p.exit = p.reap()
	if p.viaInit && 128 < p.exit.Code && p.exit.Code <= 128+64 && p.exit.Signal == 0 {
		p.exit.Signal = syscall.Signal(p.exit.Code - 128)
	}
	if !p.awaitEmpty() {
		return
	}
	close(p.done)
	p.pidfd.Close() //nolint:errcheck,gosec // only read from
}

// ended reports whether the process of a pidfd has ended, with all of its threads.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}} //nolint:gosec // a descriptor fits
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// signal sends a signal to every member of the group; none left is no error.
func (p *process) signal(sig unix.Signal) error {
	var err error
	if closed := p.conn.Control(func(fd uintptr) { err = p.signalVia(int(fd), sig) }); closed != nil {
		return nil //nolint:nilerr // closed because the group has ended
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", unix.SignalName(sig), p.handle.PID, err)
	}
	return nil
}

// signalVia is signal through a pidfd; ESRCH says that no member is left.
func (p *process) signalVia(pidfd int, sig unix.Signal) error {
	if !p.perMember {
		err := unix.PidfdSendSignal(pidfd, sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return signalMembers(p.handle, sig)
}

// signalMembers signals the members of a group one by one. As long as its leader exists,
// be it as a zombie, nobody else can have a group of that name; later a member must
// prove by its environment that it belongs to this start.
func signalMembers(h driver.Handle, sig unix.Signal) error {
	result := error(unix.ESRCH)
	for pid := range members(h.PID) {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone meanwhile
		}
		// Looked at again under the pidfd: it may have been another process before.
		leader, lerr := readStat(h.PID)
		s, err := readStat(pid)
		if err == nil && s.group == h.PID && (lerr == nil && leader.start == h.StartTime || hasStart(pid, h.Start)) {
			switch err := unix.PidfdSendSignal(pidfd, sig, nil, 0); {
			case err == nil && errors.Is(result, unix.ESRCH):
				result = nil
			case err != nil && !errors.Is(err, unix.ESRCH):
				result = err
			}
		}
		_ = unix.Close(pidfd)
	}
	return result
}

// awaitEmpty returns once no member of the group is left, or with false when the process
// is released before. There is no bound: whatever can't be killed, because it hangs in a
// system call, still holds its files, and nobody may start a second copy beside it.
func (p *process) awaitEmpty() bool {
	wait := 50 * time.Microsecond
	for {
		var err error
		closed := p.conn.Control(func(fd uintptr) { err = p.signalVia(int(fd), unix.SIGKILL) })
		switch {
		case closed != nil:
			return false
		case errors.Is(err, unix.ESRCH):
			return true
		case wait > 5*time.Millisecond && !p.anyAlive():
			return true // zombies only, which their parents have yet to reap
		}
		select {
		case <-p.leave:
			return false
		case <-time.After(wait):
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

func (p *process) anyAlive() bool {
	for range members(p.handle.PID) {
		return true
	}
	return false
}

// reap collects the exit of the ended leader.
func (p *process) reap() driver.Exit {
	if !p.child {
		return p.exitOfStranger()
	}
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.handle.PID, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return driver.Exit{}
		}
		return exitOf(ws)
	}
}

func exitOf(ws syscall.WaitStatus) driver.Exit {
	if ws.Signaled() {
		return driver.Exit{Known: true, Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return driver.Exit{Known: true, Code: ws.ExitStatus()}
}

// exitOfStranger asks how a process that is nobody's child here has ended. /proc tells
// until its new parent has reaped it, and from then on, since Linux 6.15, the pidfd.
func (p *process) exitOfStranger() driver.Exit {
	const wait = 500 * time.Millisecond
	for start, pause := time.Now(), 50*time.Microsecond; time.Since(start) < wait; pause *= 2 {
		if ws, ok := zombieExit(p.handle); ok {
			return exitOf(ws)
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		var errno syscall.Errno
		if closed := p.conn.Control(func(fd uintptr) { errno = getInfo(fd, &info) }); closed != nil {
			return driver.Exit{}
		}
		switch {
		case errno == 0 && info.Mask&unix.PIDFD_INFO_EXIT != 0:
			return exitOf(syscall.WaitStatus(info.Exit_code)) //nolint:gosec // the bits of a wait status
		case errno != 0 && errno != unix.ESRCH:
			return driver.Exit{} // a kernel that does not tell
		}
		select {
		case <-p.leave:
			return driver.Exit{}
		case <-time.After(pause):
		}
	}
	return driver.Exit{}
}
