package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/capture"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/keeper"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"golang.org/x/sys/unix"
)

// run is one running instance whose output is captured.
type run struct {
	outputs [2]output
}

type output struct {
	stream *stream
	input  *capture.Input
}

func sources(ref api.Ref) [2]source.Source {
	return [2]source.Source{{Ref: ref, Level: api.Stdout}, {Ref: ref, Level: api.Stderr}}
}

// pipes returns the names of ref's pipes.
func pipes(ref api.Ref) []string {
	src := sources(ref)
	return []string{src[0].String(), src[1].String()}
}

func (s *Store) pipePath(src source.Source) string { return filepath.Join(s.cfg.IODir, src.String()) }

// Open makes the pipes of a new run of ref and returns their writing ends, which become
// the program's stdout and stderr; the caller closes its copies. Whatever an earlier run
// left in its pipes is captured first; if the disk has no room for it, the new run goes on
// with the same pipes.
func (s *Store) Open(ref api.Ref) (stdout, stderr *os.File, err error) {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if err := s.check(ref); err != nil {
		return nil, nil, fmt.Errorf("open log output of %s: %w", ref, err)
	}
	if err := s.endRun(ref); err != nil {
		s.cfg.Logger.Error("output of an earlier run waits in its pipe", "instance", ref.String(), "error", err)
	}
	delete(s.late, ref)
	files, err := s.makePipes(ref)
	if err == nil {
		if err = s.begin(ref); err == nil {
			s.keeper.Hold(pipes(ref)...)
			return files[0], files[1], nil
		}
	}
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
	err = errors.Join(err, s.endRun(ref))
	return nil, nil, fmt.Errorf("open log output of %s: %w", ref, err)
}

// makePipes makes both pipes and opens their writing ends.
func (s *Store) makePipes(ref api.Ref) (files [2]*os.File, err error) {
	for i, src := range sources(ref) {
		path := s.pipePath(src)
		if !s.pipes.Take(src.String()) {
			if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
				return files, fmt.Errorf("make pipe %s: %w", path, err)
			}
		}
		// For reading too: so the program itself keeps the pipe open while no ten
		// runs, and gets no SIGPIPE.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return files, fmt.Errorf("open pipe %s: %w", path, err)
		}
		files[i] = os.NewFile(uintptr(fd), path)
	}
	return files, nil
}

// Attach goes on capturing an instance that an earlier ten started. What one that has
// ended since had left in its pipes was captured when the store was opened.
func (s *Store) Attach(ref api.Ref) error {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	err := s.check(ref)
	if err == nil && s.runs[ref] == nil {
		err = s.begin(ref)
	}
	if err != nil {
		return fmt.Errorf("attach to log output of %s: %w", ref, err)
	}
	return nil
}

// Close ends the capture of a run that has ended: what its pipes hold is safely in the
// spool, and soon in the store, when it returns; on a full disk it stays in the pipes
// until there is room. Closing what is not open is no error.
func (s *Store) Close(ref api.Ref) error {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	err := s.check(ref)
	if err == nil {
		if err = s.endRun(ref); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			s.cfg.Logger.Warn("disk is full, what a program printed last waits in its pipe", "instance", ref.String())
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("close log output of %s: %w", ref, err)
	}
	return nil
}

func (s *Store) check(ref api.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	return ref.Validate()
}

// begin captures ref's pipes from now on, those that are not captured already. One that
// is missing is one that the program had closed before the store was opened.
func (s *Store) begin(ref api.Ref) error {
	r := s.runs[ref]
	if r == nil {
		r = &run{}
		s.runs[ref] = r
	}
	budget := s.pump.NewBudget()
	for i, src := range sources(ref) {
		o := &r.outputs[i]
		if o.input != nil {
			continue
		}
		st, err := s.activate(src)
		if err == nil {
			o.stream = st
			o.input, err = s.pump.Add(s.pipePath(src), st.Stream, budget)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// activate returns src's stream, which stays until [Store.retire].
func (s *Store) activate(src source.Source) (*stream, error) {
	s.mu.Lock()
	st := s.streams[src]
	if st != nil {
		st.active = true
	}
	s.mu.Unlock()
	if st != nil {
		return st, nil
	}
	return s.openStream(src, nil, true)
}

// endRun drains and removes ref's pipes, also those of a run that is not attached. What
// can't be drained is tried again, by endLate.
func (s *Store) endRun(ref api.Ref) error {
	if s.runs[ref] == nil && s.hasPipe(ref) {
		if err := s.begin(ref); err != nil {
			return errors.Join(err, s.finish(ref))
		}
	}
	if err := s.finish(ref); err != nil {
		s.late[ref] = struct{}{}
		return err
	}
	delete(s.late, ref)
	s.removePipes(ref)
	return nil
}

// endLate ends the runs whose output found no room on the disk when they ended.
func (s *Store) endLate() {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if errors.Is(s.check(api.Ref{}), ErrStopped) { // the pump no longer has them
		return
	}
	for ref := range s.late {
		if err := s.endRun(ref); err == nil {
			s.cfg.Logger.Info("what a program printed last is out of its pipe", "instance", ref.String())
		}
	}
}

func (s *Store) removePipes(ref api.Ref) {
	s.keeper.Drop(pipes(ref)...)
	for _, src := range sources(ref) {
		s.removePipe(src)
	}
}

// removePipe takes a pipe away. Only one that no process has open is used again:
// otherwise whoever has it could print into another instance's log.
func (s *Store) removePipe(src source.Source) {
	path := s.pipePath(src)
	held, err := heldPipe(path)
	if err == nil && !held {
		err = s.pipes.Give(src.String())
	} else if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Logger.Warn("remove pipe", "path", path, "error", err)
	}
}

// heldPipe reports whether any process has the pipe open. It takes nothing out of it.
func heldPipe(path string) (bool, error) {
	w, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil { // there is a reader; programs have it open for both
		return true, unix.Close(w)
	}
	if !errors.Is(err, unix.ENXIO) {
		return false, fmt.Errorf("open pipe %s: %w", path, err)
	}
	r, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("open pipe %s: %w", path, err)
	}
	defer func() { _ = unix.Close(r) }()
	var scratch [2]int
	if err := unix.Pipe2(scratch[:], unix.O_CLOEXEC); err != nil {
		return false, fmt.Errorf("make pipe: %w", err)
	}
	defer func() { _ = errors.Join(unix.Close(scratch[0]), unix.Close(scratch[1])) }()
	// A copy of the first byte, or EAGAIN, while there is a writer; the end without one.
	n, err := unix.Tee(r, scratch[1], 1, unix.SPLICE_F_NONBLOCK)
	return n != 0 || err != nil, nil
}

func (s *Store) hasPipe(ref api.Ref) bool {
	for _, src := range sources(ref) {
		if _, err := os.Lstat(s.pipePath(src)); err == nil {
			return true
		}
	}
	return false
}

// finish ends the capture of ref. After an error, what has not been drained is captured as
// before.
func (s *Store) finish(ref api.Ref) error {
	r := s.runs[ref]
	if r == nil {
		return nil
	}
	var errs []error
	for i := range r.outputs {
		o := &r.outputs[i]
		if o.input != nil {
			if err := s.pump.Finish(o.input); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if o.stream != nil {
			s.mu.Lock()
			o.stream.active = false
			s.retire(o.stream)
			s.mu.Unlock()
		}
		*o = output{}
	}
	if len(errs) == 0 {
		delete(s.runs, ref)
	}
	return errors.Join(errs...)
}

// retire forgets a stream that nobody writes to and that has been read to its end. The
// caller holds s.mu.
func (s *Store) retire(st *stream) {
	if st.active || st.queued || st.Pending() > 0 || s.streams[st.Source] != st {
		return
	}
	if err := st.Remove(); err != nil {
		s.cfg.Logger.Warn("remove log spool", "source", st.name, "error", err)
	}
	delete(s.streams, st.Source)
	s.idle[st.name] = struct{}{}
}

// takePipes drains the pipes of programs that have ended while no ten ran and takes over
// the keeping of the others'. Until all of that is done a former ten's keeper has them.
func (s *Store) takePipes() error {
	entries, err := os.ReadDir(s.cfg.IODir)
	if err != nil {
		return err
	}
	live := map[api.Ref]bool{} // whether anybody can print
	for _, e := range entries {
		src, ok := source.Parse(e.Name())
		if !ok || e.Type() != fs.ModeNamedPipe {
			continue
		}
		writer, err := keeper.HasWriter(s.pipePath(src))
		if err != nil {
			return err
		}
		live[src.Ref] = live[src.Ref] || writer
	}
	var keep []string
	for ref, live := range live {
		if !live {
			err := s.endRun(ref)
			if err == nil {
				continue
			}
			s.cfg.Logger.Error("output of an ended program waits in its pipe", "instance", ref.String(), "error", err)
		}
		for _, name := range pipes(ref) {
			if _, err := os.Lstat(filepath.Join(s.cfg.IODir, name)); err == nil {
				keep = append(keep, name)
			}
		}
	}
	s.keeper.Hold(keep...)
	s.keeper.Relieve()
	return nil
}
