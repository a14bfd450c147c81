package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/capture"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/keeper"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/pool"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/spool"
	"golang.org/x/sys/unix"
)

// ErrStopped is returned by a store after [Store.Stop].
var ErrStopped = &api.Error{Code: api.CodeUnavailable, Message: "the log store has been stopped"}

// lockWait is how long Open waits for another ten to let go of the directory.
const lockWait = 5 * time.Second

// Store captures and keeps the output of this node's instances.
type Store struct {
	cfg     Config
	spool   *spool.Dir
	pipes   *pool.Pool
	lock    *os.File
	pump    *capture.Pump
	keeper  *keeper.Keeper
	parts   *partitions
	feed    *feed
	metrics *metrics

	runMu sync.Mutex // serialises Open, Attach, Close
	runs  map[api.Ref]*run
	late  map[api.Ref]struct{} // those of runs that have ended and whose pipes could not be drained

	backlog atomic.Int64 // bytes in all spools
	full    atomic.Bool  // the spool found no room on the disk

	mu      sync.Mutex
	stopped bool
	streams map[source.Source]*stream
	fresh   []*stream           // to be indexed: those that had nothing to index before,
	stale   []*stream           // and those that still have more
	offsets map[string]int64    // mirrors the live partition's table
	idle    map[string]struct{} // sources in offsets without a stream
	wake    chan struct{}

	stop    chan struct{} // closed when stopping begins
	drain   context.Context
	indexed chan struct{} // closed when the indexer has ended

	retained time.Time // the indexer's: when retention was enforced last
}

// stream is a source's spool and its place in the indexer's queue.
type stream struct {
	*spool.Stream
	name string

	// Under Store.mu:
	active bool      // a run writes to it
	queued bool      // in the queue or in the batch being stored
	again  bool      // has grown since the batch took it
	since  time.Time // queued since
}

// Open opens the store in cfg.Dir and indexes what an earlier ten left in the spool.
// Output of instances that still run is captured again after [Store.Attach].
func Open(cfg Config) (*Store, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	s := &Store{
		cfg: cfg, runs: map[api.Ref]*run{}, late: map[api.Ref]struct{}{}, streams: map[source.Source]*stream{},
		idle: map[string]struct{}{}, wake: make(chan struct{}, 1), stop: make(chan struct{}), indexed: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open log store: %w", errors.Join(err, s.close()))
	}
	go func() {
		defer close(s.indexed)
		s.index()
	}()
	return s, nil
}

func (s *Store) open() (err error) {
	spoolDir := filepath.Join(s.cfg.Dir, "spool")
	for _, dir := range []string{s.cfg.Dir, s.cfg.IODir, spoolDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if s.lock, err = lockDir(filepath.Join(s.cfg.Dir, "lock")); err != nil {
		return err
	}
	if s.spool, err = spool.OpenDir(spoolDir); err != nil {
		return err
	}
	if s.pipes, err = pool.New(s.cfg.IODir); err != nil {
		return err
	}
	if s.parts, s.offsets, err = openPartitions(&s.cfg); err != nil {
		return err
	}
	s.feed = newFeed(s.parts.next)
	if err := s.recover(); err != nil {
		return err
	}
	if s.pump, err = capture.New(capture.Config{
		Limits: capture.Limits{
			InstanceRate: int64(s.cfg.InstanceRate), InstanceBurst: int64(s.cfg.InstanceBurst),
			NodeRate: int64(s.cfg.NodeRate), NodeBurst: int64(s.cfg.NodeBurst),
			StreamSpool: int64(s.cfg.InstanceBurst), NodeSpool: int64(nodeSpool),
		},
		Logger: s.cfg.Logger, Now: s.cfg.Now, Moved: s.moved, Backlog: s.backlog.Load, Room: s.hasRoom, Full: s.diskFull,
	}); err != nil {
		return err
	}
	if s.keeper, err = keeper.Open(s.cfg.IODir, s.cfg.bootID, s.cfg.Logger); err == nil {
		if err = s.takePipes(); err == nil {
			s.metrics, err = newMetrics(s)
		}
	}
	if err != nil {
		s.pump.Stop()
	}
	return err
}

// lockDir makes sure that no other process uses the store. A killed ten's lock is gone
// with it; one that is being replaced gets a moment to stop.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s, is another ten running: %w", path, err)
		}
	}
}

// recover takes up the spool streams.
func (s *Store) recover() error {
	files, err := s.spool.List()
	if err != nil {
		return err
	}
	for src, names := range files {
		st, err := s.openStream(src, names, false)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(s.pipePath(src)); errors.Is(err, fs.ErrNotExist) {
			if _, err := st.EndLine(); err != nil { // a full disk must not keep ten from starting
				s.cfg.Logger.Error("last log line waits for its end", "source", st.name, "error", err)
			}
		}
		s.backlog.Add(st.Pending())
		s.enqueue(st)
	}
	for name := range s.offsets {
		if src, ok := source.Parse(name); !ok || s.streams[src] == nil {
			s.idle[name] = struct{}{}
		}
	}
	return nil
}

// openStream opens a source's spool and makes it known. The caller sees to it that the
// source has no stream yet.
func (s *Store) openStream(src source.Source, files []string, active bool) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := src.String()
	sp, err := s.spool.Open(src, files, s.offsets[name])
	if err != nil {
		return nil, err
	}
	st := &stream{Stream: sp, name: name, active: active}
	s.streams[src] = st
	delete(s.idle, name)
	return st, nil
}

// Stop captures no more, indexes what the spool holds until ctx ends, and closes the
// store. Programs go on; what they print meanwhile waits in their pipes and the spool
// for the next Open.
func (s *Store) Stop(ctx context.Context) error {
	s.runMu.Lock() // no Open, Attach, Close is under way any more
	s.mu.Lock()
	stopped := s.stopped
	s.stopped = true
	s.mu.Unlock()
	s.runMu.Unlock()
	if stopped {
		return nil
	}
	s.pump.Stop()
	s.drain = ctx
	close(s.stop)
	<-s.indexed
	if err := s.close(); err != nil {
		return fmt.Errorf("stop log store: %w", err)
	}
	return nil
}

func (s *Store) close() error {
	var errs []error
	if s.metrics != nil {
		s.metrics.unregister()
	}
	if s.keeper != nil {
		errs = append(errs, s.keeper.Close())
	}
	for _, st := range s.streams {
		errs = append(errs, st.Close())
	}
	if s.parts != nil {
		errs = append(errs, s.parts.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
