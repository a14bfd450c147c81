// Package spool is the stretch between a pipe and the store: files that take a source's
// bytes straight from its pipe, inside the kernel, and give them to the indexer.
//
// A stream's bytes are numbered from its first one on, for ever. Its files are named
// "service:id.level.BASE", BASE being the number of the file's first byte in hex; one
// ends where the next begins. The indexer stores how far it has read ("the offset") in
// the same transaction as the entries; files below the offset are taken out of use. Since the
// size of the files says what has left the pipe and the offset says what has been
// stored, a kill at any instruction neither loses nor repeats a byte.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/tenement-fleet/tenement/runtime/logs/internal/pool"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"golang.org/x/sys/unix"
)

const (
	// fileSize is when a file is full and the next is begun.
	fileSize = 1 << 20
	// keepSize is how much an idle stream may leave on disk: a file that is read to its
	// end is deleted only beyond it, so that a chatty program costs no file a line.
	keepSize = 64 << 10
)

// Dir is the directory that holds the spool files of all streams.
type Dir struct {
	path string
	pool *pool.Pool
}

// OpenDir opens the spool directory at path, which must exist.
func OpenDir(path string) (*Dir, error) {
	p, err := pool.New(path)
	if err != nil {
		return nil, fmt.Errorf("open log spool: %w", err)
	}
	return &Dir{path: path, pool: p}, nil
}

// Stream is the spool of one source. Fill and EndLine are for one goroutine at a time,
// Read and Consume for another; the rest is for all.
type Stream struct {
	Source source.Source
	dir    *Dir

	mu      sync.Mutex
	files   []*file // oldest first; the last one is written to
	start   int64   // the offset
	end     int64
	filling bool // Fill is writing to the last file
}

type file struct {
	f    *os.File
	name string
	base int64
	end  int64
}

// Open opens src's stream with the files that [Dir.List] found. offset is how far it has
// been stored, 0 when that is not known.
func (d *Dir) Open(src source.Source, files []string, offset int64) (*Stream, error) {
	s := &Stream{Source: src, dir: d, start: offset, end: offset}
	for _, name := range files {
		if err := s.addFile(name); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("open log spool: %w", err)
		}
	}
	if len(s.files) > 0 {
		// An offset below the first file is one that a power failure took back.
		s.start = max(s.start, s.files[0].base)
		s.end = max(s.start, s.files[len(s.files)-1].end)
	}
	s.free()
	return s, nil
}

func (s *Stream) addFile(name string) error {
	base, ok := parseBase(name)
	if !ok {
		return fmt.Errorf("%s: not a spool file's name", name)
	}
	f, err := os.OpenFile(filepath.Join(s.dir.path, name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return err
	}
	if n := len(s.files); n > 0 && s.files[n-1].end != base {
		// A kill in discard leaves such a hole, after what has been stored; so does a
		// power failure, where nobody knows what has been stored.
		for _, old := range s.files {
			_ = s.discard(old)
		}
		s.files = nil
	}
	s.files = append(s.files, &file{f: f, name: name, base: base, end: base + size})
	return nil
}

func parseBase(name string) (int64, bool) {
	text := name[strings.LastIndexByte(name, '.')+1:]
	base, err := strconv.ParseInt(text, 16, 64)
	return base, err == nil && len(text) == 16 && base >= 0
}

// List returns the names of the files by source, as [Dir.Open] wants them.
func (d *Dir) List() (map[source.Source][]string, error) {
	entries, err := os.ReadDir(d.path) // sorted; and BASE has a fixed width
	if err != nil {
		return nil, fmt.Errorf("list log spool: %w", err)
	}
	files := map[source.Source][]string{}
	for _, e := range entries {
		name := e.Name()
		src, ok := source.Parse(name[:max(strings.LastIndexByte(name, '.'), 0)])
		if _, isBase := parseBase(name); ok && isBase {
			files[src] = append(files[src], name)
		}
	}
	return files, nil
}

// Fill moves up to n bytes from a non-blocking pipe to the spool. 0 means that the pipe
// is empty. Readers are not kept out meanwhile: the disk may take its time.
func (s *Stream) Fill(pipe, n int) (int, error) {
	f, err := s.begin()
	if err != nil {
		return 0, fmt.Errorf("write log spool: %w", err)
	}
	n, err = move(pipe, int(f.f.Fd()), f.end-f.base, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = false
	f.end += int64(n)
	s.end = f.end
	if err != nil {
		return n, fmt.Errorf("write log spool: %w", err)
	}
	return n, nil
}

// EndLine gives the last line a newline if it lacks one, and returns how many
// bytes that added.
func (s *Stream) EndLine() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start == s.end {
		return 0, nil // what has been read ended with a newline
	}
	last := s.files[len(s.files)-1]
	with := last // the file that holds the last byte
	if last.end == last.base {
		with = s.files[len(s.files)-2]
	}
	var b [1]byte
	if _, err := with.f.ReadAt(b[:], with.end-with.base-1); err != nil {
		return 0, fmt.Errorf("end log line: %w", err)
	}
	if b[0] == '\n' {
		return 0, nil
	}
	if _, err := last.f.WriteAt([]byte{'\n'}, last.end-last.base); err != nil {
		return 0, fmt.Errorf("end log line: %w", err)
	}
	last.end++
	s.end = last.end
	return 1, nil
}

// begin returns the file to write to, a new one if need be.
func (s *Stream) begin() (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.files); n == 0 || s.files[n-1].end != s.end || s.end-s.files[n-1].base >= fileSize {
		name := fmt.Sprintf("%s.%016x", s.Source, s.end)
		flags := os.O_RDWR | os.O_TRUNC
		if !s.dir.pool.Take(name) {
			flags |= os.O_CREATE | os.O_EXCL
		}
		f, err := os.OpenFile(filepath.Join(s.dir.path, name), flags, 0o600)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, &file{f: f, name: name, base: s.end, end: s.end})
	}
	s.filling = true
	return s.files[len(s.files)-1], nil
}

// Read copies pending bytes, from the offset on, to buf. It returns fewer than fit only
// when there are no more.
func (s *Stream) Read(buf []byte) (int, error) {
	s.mu.Lock()
	pos, end := s.start, s.end
	files := append([]*file(nil), s.files...) // only Consume, which is ours to call, closes them
	ends := make([]int64, len(files))
	for i, f := range files {
		ends[i] = f.end
	}
	s.mu.Unlock()
	n := 0
	for i, f := range files {
		if want := min(int64(len(buf)-n), ends[i]-pos, end-pos); want > 0 && pos >= f.base {
			m, err := f.f.ReadAt(buf[n:n+int(want)], pos-f.base)
			n, pos = n+m, pos+int64(m)
			if err != nil {
				return n, fmt.Errorf("read log spool: %w", err)
			}
		}
	}
	return n, nil
}

// Consume moves the offset on, which must have been stored, and deletes what lies below.
func (s *Stream) Consume(offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start = offset
	s.free()
}

// free takes the files that have been read out of use. Failing to costs disk space only,
// until the stream is opened next.
func (s *Stream) free() {
	for len(s.files) > 0 {
		f := s.files[0]
		last := len(s.files) == 1
		if f.end > s.start || (last && (s.filling || f.end-f.base < keepSize)) {
			return
		}
		s.files = s.files[1:]
		_ = s.discard(f)
	}
}

// discard takes a file out of use, emptied: what is in it must never appear under another
// name. Killed between the two, it is a file shorter than its successor expects, which
// Open drops.
func (s *Stream) discard(f *file) error {
	return errors.Join(f.f.Truncate(0), f.f.Close(), s.dir.pool.Give(f.name))
}

// Offset returns how far the stream has been stored.
func (s *Stream) Offset() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start
}

// Pending returns the number of bytes not stored yet.
func (s *Stream) Pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end - s.start
}

// Close frees what is held in memory; the files stay.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// Remove closes the stream and takes its files out of use.
func (s *Stream) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, s.discard(f))
	}
	s.files = nil
	return errors.Join(errs...)
}

// move moves bytes from a pipe to a file without passing through this process: whatever
// left the pipe is in the file, also when the process is killed meanwhile.
func move(pipe, file int, at int64, n int) (int, error) {
	for {
		m, err := unix.Splice(pipe, nil, file, &at, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == nil:
			return int(m), nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL):
			return copyOver(pipe, file, at, n)
		default:
			return 0, err
		}
	}
}

// copyOver is move where the file system can't splice. Here a kill between read and
// write loses what was read, at most the buffer's size.
func copyOver(pipe, file int, at int64, n int) (int, error) {
	buf := make([]byte, min(n, 64<<10))
	m, err := unix.Read(pipe, buf)
	for errors.Is(err, unix.EINTR) {
		m, err = unix.Read(pipe, buf)
	}
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for done := 0; done < m; {
		k, err := unix.Pwrite(file, buf[done:m], at+int64(done))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return done, err
		}
		done += max(k, 0)
	}
	return m, nil
}
