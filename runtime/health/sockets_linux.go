package health

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// connectAfter is how many looks in a row at a socket's file must find nobody who
// listens before a connection is tried: some filesystems report other inodes to
// unix_diag than to stat.
const connectAfter = 8

// sockWatch is what socks remembers of a waiter.
type sockWatch struct {
	dir    *sockDir // watched; nil: the file is looked at every time
	look   bool     // the file may be there
	misses int      // looks that found the file, but nobody who listens
}

// sockDir is a directory that sockets are awaited in.
type sockDir struct {
	path    string
	wd      int
	waiters []*waiter
}

// socks finds out which awaited unix sockets listen. Directories are watched with
// inotify, so that a socket that nobody has bound yet costs nothing.
type socks struct {
	diag   *diag // nil: connect
	log    *slog.Logger
	notify int // inotify fd; -1: there is none
	byPath map[string]*sockDir
	byWD   map[int]*sockDir
	buf    []byte

	candidates []candidate
	ready      []*waiter
}

type candidate struct {
	w  *waiter
	id vfsID
}

func openSocks(d *diag, log *slog.Logger) *socks {
	s := &socks{
		diag: d, log: log,
		byPath: make(map[string]*sockDir), byWD: make(map[int]*sockDir),
		buf: make([]byte, 16<<10),
	}
	var err error
	if s.notify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		s.notify = -1
		log.Warn("cannot watch socket directories; socket files are polled", "error", err)
	}
	return s
}

func (s *socks) close() error {
	if s.notify < 0 {
		return nil
	}
	return unix.Close(s.notify)
}

// enter starts to watch the directory of w's socket.
func (s *socks) enter(w *waiter) {
	if w.socket == "" {
		return
	}
	w.sock.look = true // it may be there already; from now on inotify tells
	path := filepath.Dir(w.socket)
	dir := s.byPath[path]
	if dir == nil {
		if dir = s.watch(path); dir == nil {
			return
		}
	}
	w.sock.dir = dir
	dir.waiters = append(dir.waiters, w)
}

func (s *socks) watch(path string) *sockDir {
	if s.notify < 0 {
		return nil
	}
	wd, err := unix.InotifyAddWatch(s.notify, path, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	if err != nil {
		return nil // no such directory yet, or no watches left: the file is polled
	}
	if s.byWD[wd] != nil {
		return nil // one directory under two names: rare, the second is polled
	}
	dir := &sockDir{path: path, wd: wd}
	s.byPath[path], s.byWD[wd] = dir, dir
	return dir
}

// leave undoes enter.
func (s *socks) leave(w *waiter) {
	dir := w.sock.dir
	if dir == nil {
		return
	}
	w.sock.dir = nil
	i := slices.Index(dir.waiters, w)
	dir.waiters = slices.Delete(dir.waiters, i, i+1)
	if len(dir.waiters) == 0 {
		s.forget(dir)
		_, _ = unix.InotifyRmWatch(s.notify, uint32(dir.wd)) //nolint:gosec // as given; fails when the directory is gone
	}
}

func (s *socks) forget(dir *sockDir) {
	delete(s.byPath, dir.path)
	delete(s.byWD, dir.wd)
}

// read takes in what inotify has to say.
func (s *socks) read() {
	n, err := unix.Read(s.notify, s.buf)
	if err != nil {
		return // nothing there after all
	}
	for b := s.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		wd := int(int32(binary.NativeEndian.Uint32(b))) //nolint:gosec // struct inotify_event
		mask := binary.NativeEndian.Uint32(b[4:])
		end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])), len(b))
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
		s.event(wd, mask, string(name))
		b = b[end:]
	}
}

func (s *socks) event(wd int, mask uint32, name string) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for _, dir := range s.byWD {
			lookAll(dir)
		}
		return
	}
	dir := s.byWD[wd]
	if dir == nil {
		return
	}
	if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
		// The watch is worth nothing any more: poll from now on.
		lookAll(dir)
		for _, w := range dir.waiters {
			w.sock.dir = nil
		}
		s.forget(dir)
		_, _ = unix.InotifyRmWatch(s.notify, uint32(wd)) //nolint:gosec // as given; fails when it is gone already
		return
	}
	for _, w := range dir.waiters {
		if filepath.Base(w.socket) == name {
			w.sock.look, w.sock.misses = true, 0
		}
	}
}

func lookAll(dir *sockDir) {
	for _, w := range dir.waiters {
		w.sock.look = true
	}
}

// listening returns the waiters whose socket somebody listens on. The slice is valid
// until the next call.
func (s *socks) listening(waiters []*waiter) []*waiter {
	s.candidates, s.ready = s.candidates[:0], s.ready[:0]
	for _, w := range waiters {
		if !w.sock.look || w.socket == "" {
			continue
		}
		id, ok := statSocket(w.socket)
		if !ok {
			w.sock.look = w.sock.dir == nil
			continue
		}
		s.candidates = append(s.candidates, candidate{w, id})
	}
	if len(s.candidates) == 0 {
		return nil
	}
	if s.diag == nil {
		s.byConnect(1)
		return s.ready
	}
	err := s.diag.unixListeners(func(id vfsID) {
		for i := range s.candidates {
			if c := &s.candidates[i]; c.w != nil && c.id == id {
				s.ready = append(s.ready, c.w)
				c.w = nil
			}
		}
	})
	if err != nil {
		s.log.Warn("cannot list listening unix sockets; connecting instead", "error", fmt.Errorf("read unix_diag: %w", err))
		s.diag = nil
	}
	s.byConnect(connectAfter)
	return s.ready
}

// byConnect tries a connection to the candidates left, at every nth look.
func (s *socks) byConnect(nth int) {
	for _, c := range s.candidates {
		if c.w == nil {
			continue
		}
		if c.w.sock.misses++; c.w.sock.misses%nth == 0 && connectUnix(c.w.socket) {
			s.ready = append(s.ready, c.w)
		}
	}
}

// statSocket returns the identity of the socket file at path.
func statSocket(path string) (vfsID, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return vfsID{}, false
	}
	dev := uint64(st.Dev) //nolint:unconvert // its type differs between architectures
	return vfsID{
		dev: unix.Major(dev)<<20 | unix.Minor(dev), // the kernel's own encoding
		ino: uint32(st.Ino),                        //nolint:gosec // unix_diag has the low half only
	}, true
}

// connectUnix reports whether somebody listens on path. A full backlog counts.
func connectUnix(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err == nil || err == unix.EAGAIN || err == unix.EINPROGRESS //nolint:errorlint // a bare errno
}
