// Package keeper has a process that outlives ten hold the programs' output pipes open.
//
// The kernel frees a pipe, and what is in it, when the last process that has it open
// ends. While ten runs, ten has it open; while the program runs, the program has. The
// keeper is for a program that ends while no ten runs: the next ten finds in the pipe
// what it printed last.
//
// The keeper is a program of some sixty instructions in anonymous memory: it takes
// descriptors over a socket and closes them on request. When ten is gone, it goes on
// holding; or ends, if it holds nothing or the pipes' directory has been deleted. The
// next ten starts a keeper of its own, has it hold the pipes, and then ends the former.
package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reviveEvery is the least age of a keeper that is replaced at once when it dies.
	reviveEvery   = time.Second
	complainEvery = 10 * time.Second
)

// none stands for the descriptor of a pipe that is to be held, and is not.
const none = -1

// Keeper is ten's side: it knows what is held and sees to it that there is a process
// that holds it.
type Keeper struct {
	dir, boot string
	log       *slog.Logger

	stop chan struct{}
	wg   sync.WaitGroup // the minders of processes

	mu      sync.Mutex
	stopped bool
	child   *child         // nil when there is none
	held    map[string]int // pipe's name → descriptor in the child, or none
	behind  bool           // some are none
	old     []identity     // of earlier tens

	complained time.Time // when a failure was logged last
}

// Open returns the keeper of the pipes in dir. No process is started before there is
// something to hold. boot is the machine's boot id.
func Open(dir, boot string, log *slog.Logger) (*Keeper, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open keeper: %w", err)
	}
	k := &Keeper{dir: dir, boot: boot, log: log, stop: make(chan struct{}), held: map[string]int{}}
	for _, e := range entries {
		if id, ok := parseIdentity(e.Name()); ok {
			k.old = append(k.old, id)
		}
	}
	return k, nil
}

// Hold has the named pipes held until Drop. That this machine can't is logged and no
// error: it makes a difference only should ten be killed.
func (k *Keeper) Hold(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped || len(names) == 0 {
		return
	}
	var missing []string
	for _, name := range names {
		if _, ok := k.held[name]; !ok {
			k.held[name] = none
			missing = append(missing, name)
		}
	}
	k.hold(missing)
}

// hold has the child, a new one if need be, hold the named pipes and whatever is missing.
// The caller holds k.mu.
func (k *Keeper) hold(names []string) {
	if k.child != nil && k.child.over() { // its minder has not come to say so
		k.lose()
	}
	if k.child == nil {
		if err := k.start(); err != nil {
			k.fallBehind(err)
			return
		}
		k.behind = true
	}
	if k.behind {
		k.collect()
		k.behind = false
		names = slices.Collect(maps.Keys(k.held))
		names = slices.DeleteFunc(names, func(n string) bool { return k.held[n] != none })
	}
	if err := k.child.hold(k.dir, names, k.held); err != nil {
		k.fallBehind(err)
	}
}

// collect learns what the child holds. The caller holds k.mu.
func (k *Keeper) collect() {
	if k.child == nil {
		return
	}
	if err := k.child.collect(k.held); err != nil {
		k.fallBehind(err)
	}
}

// fallBehind notes that not everything is held. The caller holds k.mu.
func (k *Keeper) fallBehind(err error) {
	k.behind = true
	if now := time.Now(); now.Sub(k.complained) >= complainEvery {
		k.complained = now
		k.log.Warn("what a program prints last may be lost if it ends while ten is not running", "error", err)
	}
}

// Drop lets go of the named pipes: when it returns, the child does not have them open.
func (k *Keeper) Drop(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.collect()
	var fds []int
	for _, name := range names {
		if fd, ok := k.held[name]; ok && fd != none {
			fds = append(fds, fd)
		}
		delete(k.held, name)
	}
	if k.child == nil || len(fds) == 0 {
		return
	}
	if err := k.child.drop(fds); err != nil {
		k.child.hangUp() // its minder does the rest
	}
}

// Relieve ends the keepers of earlier tens, unless a pipe is not held by this one.
func (k *Keeper) Relieve() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.collect()
	if k.behind {
		return
	}
	for _, id := range k.old {
		if id.boot == k.boot {
			if err := id.end(); err != nil {
				k.log.Warn("end the former keeper of output pipes", "pid", id.pid, "error", err)
				continue
			}
		}
		k.forget(id)
	}
	k.old = nil
}

// Close leaves the pipes that are held to the process; with none it is ended.
func (k *Keeper) Close() error {
	k.mu.Lock()
	if k.stopped {
		k.mu.Unlock()
		return nil
	}
	k.stopped = true
	close(k.stop)
	c := k.child
	k.child = nil
	var err error
	if c != nil {
		c.closed = true
		if len(k.held) == 0 {
			err = c.end()
			k.forget(c.id)
		} else {
			err = c.leave()
		}
	}
	k.mu.Unlock()
	k.wg.Wait()
	if err != nil {
		return fmt.Errorf("close keeper: %w", err)
	}
	return nil
}

// start starts a child that holds nothing, and puts it on record before it does. The
// caller holds k.mu.
func (k *Keeper) start() error {
	c, err := startChild(k.dir, k.boot)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(k.record(c.id), os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil { // the next ten would not find it
		return errors.Join(fmt.Errorf("record keeper: %w", err), c.end())
	}
	k.child = c
	k.wg.Go(func() { k.mind(c) })
	return nil
}

func (k *Keeper) record(id identity) string { return filepath.Join(k.dir, id.String()) }

func (k *Keeper) forget(id identity) {
	if err := os.Remove(k.record(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("remove the record of a keeper", "error", err)
	}
}

// mind takes the child's replies and, when it dies, replaces it.
func (k *Keeper) mind(c *child) {
	c.receive()
	if !k.lost(c) {
		return
	}
	if err := c.end(); err != nil {
		k.log.Warn("end keeper of output pipes", "error", err)
	}
	k.forget(c.id)
	if time.Since(c.started) < reviveEvery {
		again := time.NewTimer(reviveEvery)
		defer again.Stop()
		select {
		case <-again.C:
		case <-k.stop:
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.child == nil && !k.stopped && len(k.held) > 0 {
		k.hold(nil)
	}
}

// lost notes that the child is gone. It reports false when that was meant to be.
func (k *Keeper) lost(c *child) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.closed {
		return false
	}
	if k.child == c {
		k.lose()
	}
	return true
}

// lose does without the child, which is gone. The caller holds k.mu.
func (k *Keeper) lose() {
	k.log.Warn("the keeper of output pipes has ended, another one is started", "pid", k.child.id.pid)
	k.child = nil
	for name := range k.held {
		k.held[name] = none
	}
	k.behind = true
}

// HasWriter reports whether any process has the FIFO at path open for writing, as
// programs have; neither keepers nor what is in it count.
func HasWriter(path string) (bool, error) {
	const flags = unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOFOLLOW
	r, err := unix.Open(path, unix.O_RDONLY|flags, 0)
	if err != nil {
		return false, fmt.Errorf("open pipe %s: %w", path, err)
	}
	defer func() { _ = unix.Close(r) }()
	// A pipe hangs up on a reader only after it has seen a writer.
	w, err := unix.Open(path, unix.O_WRONLY|flags, 0)
	if err != nil {
		return false, fmt.Errorf("open pipe %s: %w", path, err)
	}
	_ = unix.Close(w)
	fds := []unix.PollFd{{Fd: int32(r)}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == nil {
			return fds[0].Revents&unix.POLLHUP == 0, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("look at pipe %s: %w", path, err)
		}
	}
}
