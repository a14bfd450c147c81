package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	memoryName = "ten-keeper"
	// batchSize is how many requests are sent before their replies are awaited.
	batchSize = 64
	// patience is how long a reply may take before the child counts as dead.
	patience = 5 * time.Second
	// take is the request that comes with a descriptor; others are the number of the
	// descriptor to close.
	take = -1
)

var (
	errGone = errors.New("the keeper has ended")
	errLate = errors.New("the keeper does not answer")
)

// child is a running keeper that this process has started.
type child struct {
	id      identity
	process *os.Process
	conn    *net.UnixConn
	started time.Time
	replies chan int64    // has room for a batch
	gone    chan struct{} // closed when no more replies come
	awaited []string      // pipes sent whose replies have not been taken
	closed  bool          // meant to end or to be left: belongs to the Keeper
	release sync.Once
}

// startChild starts a keeper that lives in a session of its own and has nothing of ours
// but its end of a socket and, to see it deleted, the pipes' directory.
func startChild(dir, boot string) (_ *child, err error) {
	file, err := program()
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only executed
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	defer d.Close() //nolint:errcheck // only read from
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	defer theirs.Close() //nolint:errcheck // our copy of the child's end
	p, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), []string{"ten: keeper of output pipes"}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{theirs, d, d}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start keeper: %w", err), conn.Close())
	}
	c := &child{
		process: p, conn: conn, started: time.Now(),
		replies: make(chan int64, batchSize), gone: make(chan struct{}),
	}
	start, err := startTime(p.Pid)
	if err == nil {
		err = raiseLimit(p.Pid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start keeper: %w", err), c.end())
	}
	c.id = identity{boot: boot, pid: p.Pid, start: start}
	return c, nil
}

func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "keeper"), os.NewFile(uintptr(fds[1]), "ten")
	defer ours.Close() //nolint:errcheck // FileConn has a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// raiseLimit lets the process have as many descriptors open as this one may have.
func raiseLimit(pid int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit on open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return fmt.Errorf("raise limit on open files: %w", err)
	}
	return nil
}

// receive takes replies until the child is gone or hung up on.
func (c *child) receive() {
	defer close(c.gone)
	var b [8]byte
	for {
		n, err := c.conn.Read(b[:])
		if err != nil || n != len(b) {
			return
		}
		select {
		case c.replies <- int64(binary.NativeEndian.Uint64(b[:])):
		default: // nobody has asked that much
			return
		}
	}
}

// hold sends the named pipes. From then on they are held, even should this process be
// killed at once: what is sent is in the socket. The replies can wait, unless they
// become too many.
func (c *child) hold(dir string, names []string, held map[string]int) error {
	var errs []error
	for _, name := range names {
		if len(c.awaited) == batchSize {
			errs = append(errs, c.collect(held))
		}
		// For reading only: that a program writes can then be told from that we hold.
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == nil {
			err = c.send(take, unix.UnixRights(fd))
			_ = unix.Close(fd)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("hold pipe %s: %w", name, err))
			continue
		}
		c.awaited = append(c.awaited, name)
	}
	return errors.Join(errs...)
}

// collect takes the replies to hold: the descriptors that the pipes have in the child.
func (c *child) collect(held map[string]int) error {
	var errs []error
	names := c.awaited
	c.awaited = nil
	for _, name := range names {
		fd, err := c.reply()
		if err != nil {
			c.hangUp() // its minder does the rest
			return errors.Join(append(errs, err)...)
		}
		if fd < 0 {
			errs = append(errs, fmt.Errorf("hold pipe %s: too many are open", name))
			continue
		}
		held[name] = int(fd)
	}
	return errors.Join(errs...)
}

func (c *child) drop(fds []int) error {
	for len(fds) > 0 {
		batch := fds[:min(len(fds), batchSize)]
		fds = fds[len(batch):]
		for _, fd := range batch {
			if err := c.send(int64(fd), nil); err != nil {
				return err
			}
		}
		for range batch {
			if _, err := c.reply(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *child) send(request int64, rights []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("ask keeper: %w", err)
	}
	if _, _, err := c.conn.WriteMsgUnix(binary.NativeEndian.AppendUint64(nil, uint64(request)), rights, nil); err != nil {
		return fmt.Errorf("ask keeper: %w", err)
	}
	return nil
}

func (c *child) reply() (int64, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case n := <-c.replies:
		return n, nil
	case <-c.gone:
		return 0, errGone
	case <-late.C:
		return 0, errLate
	}
}

// over reports whether no more replies come.
func (c *child) over() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func (c *child) hangUp() { _ = c.conn.Close() }

// leave hangs up on the child, which goes on.
func (c *child) leave() (err error) {
	c.hangUp()
	c.release.Do(func() { err = c.process.Release() })
	return err
}

// end kills the child and waits until it is gone.
func (c *child) end() (err error) {
	c.hangUp()
	c.release.Do(func() {
		if err = c.process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		_, waitErr := c.process.Wait()
		err = errors.Join(err, waitErr)
	})
	return err
}
