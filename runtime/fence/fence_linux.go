package fence

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyWait is how long a guard may take to start.
const readyWait = 5 * time.Second

// Config is what a Fence is made of; all of it is required.
type Config struct {
	Path    string   // of the file
	LogPath string   // of what guards have to say, appended
	BootID  string   // names this boot of the machine
	Program string   // whose main function calls [Guard]
	Args    []string // for the guard's Killer
	Logger  *slog.Logger
}

// Fence is ten's side: it keeps the file, and sees to it that there is a guard.
type Fence struct {
	cfg  Config
	file *os.File
	wg   sync.WaitGroup // of the minder

	mu     sync.Mutex
	lease  Lease
	child  *child // nil: none of this process's
	closed bool
}

// Open opens the file, or makes one. The guard of an earlier ten goes on.
func Open(cfg Config) (*Fence, error) {
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lease: %w", err)
	}
	l, err := readLease(f)
	if errors.Is(err, errTorn) { // by a power cut
		l, err = Lease{}, nil
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if l.BootID != cfg.BootID {
		l = Lease{BootID: cfg.BootID}
	}
	return &Fence{cfg: cfg, file: f, lease: l}, nil
}

// Watch sees to it that a guard of this process's watches over the lease as it is on file.
func (f *Fence) Watch() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.child != nil {
		return nil
	}
	return f.start(f.lease)
}

// start starts a guard, for which that lease is on file from the first.
func (f *Fence) start(l Lease) error {
	if f.closed {
		return errors.New("start guard of leases: closed")
	}
	c, err := startChild(f.cfg)
	if err != nil {
		return fmt.Errorf("start guard of leases: %w", err)
	}
	l.Guard = c.name
	// The guard before it ends once it is named, so it has to be ready then.
	err = c.begin()
	if err == nil {
		err = l.write(f.file)
	}
	if err == nil {
		err = c.release()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start guard of leases: %w", err), c.end())
	}
	f.lease, f.child = l, c
	f.wg.Go(func() { f.mind(c) })
	return nil
}

// Extend puts off the end. Only when it returns nil may programs rely on that: then there
// is a guard, too.
func (f *Fence) Extend(end time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lease
	l.End = end
	if f.child == nil {
		return f.start(l)
	}
	if err := l.write(f.file); err != nil {
		return err
	}
	f.lease = l
	return nil
}

// Rest says that there is nothing to guard for now. No guard, of this process's or of an
// earlier one's, kills anything afterwards.
func (f *Fence) Rest() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rest()
}

func (f *Fence) rest() error {
	c := f.child
	f.child = nil
	var err error
	if l := f.lease; l.Guard != "" {
		l.Guard = ""
		if err = l.write(f.file); err == nil {
			f.lease = l
		}
	}
	if c != nil {
		err = errors.Join(err, c.end())
	}
	return err
}

// Close lets go of the guard: it goes on alone, for the next ten to take over from.
func (f *Fence) Close() error {
	f.mu.Lock()
	f.closed = true
	var err error
	if f.child != nil {
		err = f.child.leave()
		f.child = nil
	}
	f.mu.Unlock()
	f.wg.Wait()
	return errors.Join(err, f.file.Close())
}

// mind waits until the guard has ended. If that was not meant to be, the next Extend
// starts another one.
func (f *Fence) mind(c *child) {
	c.await()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.child != c {
		return
	}
	f.child = nil
	f.cfg.Logger.Warn("the guard of leases has ended, another one is started", "pid", c.process.Pid, "error", c.end())
}

// child is a guard that this process has started.
type child struct {
	name    string
	process *os.Process
	socket  *os.File
	over    sync.Once
}

// startChild starts a guard in a session of its own, which has nothing of ours.
func startChild(cfg Config) (_ *child, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	c := &child{name: rand.Text(), socket: os.NewFile(uintptr(fds[0]), "guard")}
	theirs := os.NewFile(uintptr(fds[1]), "ten")
	defer theirs.Close() //nolint:errcheck // our copy of the child's end
	defer func() {
		if err != nil {
			err = errors.Join(err, c.socket.Close())
		}
	}()
	log, err := os.OpenFile(cfg.LogPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // our copy
	none, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer none.Close() //nolint:errcheck // our copy
	args := append([]string{guardName, cfg.Path, cfg.BootID, c.name}, cfg.Args...)
	c.process, err = os.StartProcess(cfg.Program, args, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []*os.File{none, log, log, theirs}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return c, err
}

// begin returns once the guard has said that it is there.
func (c *child) begin() error {
	if err := c.socket.SetReadDeadline(time.Now().Add(readyWait)); err != nil {
		return err
	}
	if _, err := c.socket.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("it does not say that it is ready: %w", err)
	}
	return c.socket.SetReadDeadline(time.Time{})
}

// release has the guard look at the file, which names it.
func (c *child) release() error {
	_, err := c.socket.Write([]byte{1})
	return err
}

// await returns when the guard has ended, or was let go of.
func (c *child) await() { _, _ = c.socket.Read(make([]byte, 1)) }

// leave lets go of the guard, which goes on.
func (c *child) leave() (err error) {
	c.over.Do(func() { err = errors.Join(c.socket.Close(), c.process.Release()) })
	return err
}

// end kills the guard and waits until it is gone.
func (c *child) end() (err error) {
	c.over.Do(func() {
		if err = c.process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		_, waitErr := c.process.Wait()
		err = errors.Join(err, waitErr, c.socket.Close())
	})
	return err
}
