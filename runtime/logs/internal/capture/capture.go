// Package capture moves what programs print from their pipes to the spool, no faster
// than the limits allow; a program that prints faster waits in its write.
//
// One goroutine serves all pipes through one epoll instance, because a node runs
// thousands of programs that print now and then.
package capture

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/runtime/logs/internal/spool"
	"golang.org/x/sys/unix"
)

const (
	// tick is the least time between two rounds over the pipes. It bounds what a program
	// that prints byte by byte costs to 500 reads a second.
	tick = 2 * time.Millisecond
	// quantum is the most that a pipe gives in one round: a pipe's usual capacity.
	quantum = 64 << 10
	// A quiet pipe's first bytes pass even when the node as a whole is over its rate, so
	// that one noisy program does not delay its neighbours' lines.
	expressRate, expressBurst = 16 << 10, 64 << 10
	expressLeast              = 4 << 10
	// retryFull is how soon a pipe is tried again whose spool is full; retryError when
	// its spool could not be written.
	retryFull, retryError = 10 * time.Millisecond, time.Second
	complainEvery         = 10 * time.Second
	// noRoomSpool is how much may wait on a disk that is nearly full.
	noRoomSpool = 1 << 20
)

// Limits bound what capturing costs the node. All are bytes or bytes a second.
type Limits struct {
	InstanceRate, InstanceBurst int64
	NodeRate, NodeBurst         int64
	// StreamSpool and NodeSpool bound what waits on disk to be indexed.
	StreamSpool, NodeSpool int64
}

// Config is what a [Pump] needs.
type Config struct {
	Limits Limits
	Logger *slog.Logger
	Now    func() time.Time
	// Moved is called, in the pump's goroutine or Finish's caller's, after n bytes have
	// arrived in a spool.
	Moved func(s *spool.Stream, n int)
	// Backlog returns how many bytes wait in all spools.
	Backlog func() int64
	// Room reports whether the disk has room for all of that to be stored, and for more.
	// Else only noRoomSpool may wait: a spool that takes what the indexer needs to
	// empty it would never be emptied.
	Room func() bool
	// Full is called when the disk has no room for a spool.
	Full func()
}

// Pump owns the reading ends of all pipes.
type Pump struct {
	cfg       Config
	epoll     int
	stop      *os.File // its writing end; closing it ends the goroutine
	done      chan struct{}
	throttled atomic.Int64

	mu     sync.Mutex
	inputs map[int32]*Input // by descriptor

	// Of the goroutine:
	node       bucket
	due        []*Input  // disarmed, to be served or waiting for their limits
	complained time.Time // when an error was logged last
}

// Budget is what an instance may print: it is shared by its streams.
type Budget struct{ bucket bucket }

// NewBudget returns a full budget for one instance.
func (p *Pump) NewBudget() *Budget {
	return &Budget{newBucket(p.cfg.Limits.InstanceRate, p.cfg.Limits.InstanceBurst)}
}

// Input is one pipe.
type Input struct {
	stream  *spool.Stream
	budget  *Budget
	express bucket    // the goroutine's
	since   time.Time // the goroutine's: held back since

	mu sync.Mutex
	fd int // -1 when finished
}

// New starts a pump without any pipes.
func New(cfg Config) (*Pump, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("create pipe: %w", err)
	}
	p := &Pump{
		cfg: cfg, epoll: epoll, stop: w, done: make(chan struct{}), inputs: map[int32]*Input{},
		node: newBucket(cfg.Limits.NodeRate, cfg.Limits.NodeBurst),
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(r.Fd()), &ev); err != nil {
		_ = errors.Join(r.Close(), w.Close(), unix.Close(epoll))
		return nil, fmt.Errorf("watch pipe: %w", err)
	}
	go func() {
		defer close(p.done)
		defer r.Close() //nolint:errcheck // nothing was written to it
		p.run()
	}()
	return p, nil
}

// Add captures the FIFO at path into stream from now on.
func (p *Pump) Add(path string, stream *spool.Stream, budget *Budget) (*Input, error) {
	// Opened for writing too, so that the pipe has neither end of file nor hang-up: the
	// program that prints may be between two processes.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open pipe %s: %w", path, err)
	}
	in := &Input{stream: stream, budget: budget, fd: fd, express: newBucket(expressRate, expressBurst)}
	p.mu.Lock()
	p.inputs[int32(fd)] = in
	p.mu.Unlock()
	if err := p.arm(fd, unix.EPOLL_CTL_ADD); err != nil {
		p.forget(in)
		return nil, fmt.Errorf("watch pipe %s: %w", path, err)
	}
	return in, nil
}

// arm asks for one event once the pipe has data.
func (p *Pump) arm(fd, op int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)}
	return unix.EpollCtl(p.epoll, op, fd, &ev)
}

// forget closes the input's pipe. The caller holds in.mu or is the only one to know in.
func (p *Pump) forget(in *Input) {
	p.mu.Lock()
	delete(p.inputs, int32(in.fd))
	p.mu.Unlock()
	_ = unix.Close(in.fd)
	in.fd = -1
}

// Finish captures what the pipe holds at this moment, limits or not, ends a line that
// lacks its newline, and closes the pipe. More than once is harmless. After an error the
// pipe is still captured, as before.
func (p *Pump) Finish(in *Input) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.fd < 0 {
		return nil
	}
	left, err := unix.IoctlGetInt(in.fd, unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("drain pipe: %w", err)
	}
	for left > 0 {
		n, err := in.stream.Fill(in.fd, left)
		if err != nil {
			return fmt.Errorf("drain pipe: %w", err)
		}
		if n == 0 {
			break
		}
		left -= n
		p.cfg.Moved(in.stream, n)
	}
	n, err := in.stream.EndLine()
	if err != nil {
		return fmt.Errorf("drain pipe: %w", err)
	}
	p.cfg.Moved(in.stream, n)
	p.forget(in)
	return nil
}

// Throttled returns for how long, in all, pipes with data were held back by limits.
func (p *Pump) Throttled() time.Duration { return time.Duration(p.throttled.Load()) }

// Stop ends capturing; what is in the pipes stays there.
func (p *Pump) Stop() {
	_ = p.stop.Close()
	<-p.done
	p.mu.Lock()
	inputs := p.inputs
	p.inputs = map[int32]*Input{}
	p.mu.Unlock()
	for _, in := range inputs {
		in.mu.Lock()
		if in.fd >= 0 {
			p.forget(in)
		}
		in.mu.Unlock()
	}
	_ = unix.Close(p.epoll)
}

func (p *Pump) run() {
	events := make([]unix.EpollEvent, 256)
	for wait := -1; ; {
		n, err := unix.EpollWait(p.epoll, events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			// Only a descriptor that is no epoll, a bug, brings it here.
			p.cfg.Logger.Error("logs are no longer captured", "error", err)
			return
		}
		for i := range max(n, 0) {
			if events[i].Fd < 0 {
				return
			}
			p.mu.Lock()
			in := p.inputs[events[i].Fd]
			p.mu.Unlock()
			if in != nil {
				p.due = append(p.due, in)
			}
		}
		wait = p.serve()
	}
}

// serve gives every due pipe its turn and returns epoll_wait's time-out.
func (p *Pump) serve() int {
	if len(p.due) == 0 {
		return -1
	}
	now := p.cfg.Now()
	p.node.refill(now)
	kept := p.due[:0]
	wait := time.Duration(-1)
	for _, in := range p.due {
		held, armed := p.turn(in, now)
		if armed {
			continue
		}
		kept = append(kept, in)
		if wait < 0 || held < wait {
			wait = held
		}
	}
	clear(p.due[len(kept):])
	p.due = kept
	time.Sleep(tick)
	if wait < 0 {
		return -1
	}
	return int(max(wait-tick, 0)/time.Millisecond) + 1
}

// turn moves some of a pipe's bytes, or says how long it is held back. done means that
// the pipe is out of the queue: watched again, or finished.
func (p *Pump) turn(in *Input, now time.Time) (held time.Duration, done bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.fd < 0 {
		return 0, true
	}
	n, held := p.allow(in, now)
	if held > 0 {
		if in.since.IsZero() {
			in.since = now
		}
		return held, false
	}
	if !in.since.IsZero() {
		p.throttled.Add(int64(now.Sub(in.since)))
		in.since = time.Time{}
	}
	n, err := in.stream.Fill(in.fd, n)
	if n > 0 {
		in.budget.bucket.take(n)
		in.express.take(n)
		p.node.take(n)
		p.cfg.Moved(in.stream, n)
	}
	if err == nil {
		err = p.arm(in.fd, unix.EPOLL_CTL_MOD)
	}
	if err != nil {
		p.complain(in, now, err)
		return retryError, false
	}
	return 0, true
}

// complain logs an error unless one was logged lately: on a full disk every pipe has one
// a second.
func (p *Pump) complain(in *Input, now time.Time, err error) {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		p.cfg.Full()
	}
	if now.Sub(p.complained).Abs() >= complainEvery {
		p.complained = now
		p.cfg.Logger.Error("log output waits in its pipe", "source", in.stream.Source.String(), "error", err)
	}
}

// allow returns how many bytes the pipe may give now; else how long to wait.
func (p *Pump) allow(in *Input, now time.Time) (n int, held time.Duration) {
	budget := &in.budget.bucket
	budget.refill(now)
	in.express.refill(now)
	if in.stream.Pending() >= p.cfg.Limits.StreamSpool {
		return 0, retryFull
	}
	if held := budget.wait(quantum); held > 0 {
		return 0, held
	}
	if in.express.tokens >= expressLeast {
		return int(min(in.express.tokens, budget.tokens)), 0
	}
	if b := p.cfg.Backlog(); b >= p.cfg.Limits.NodeSpool || b >= noRoomSpool && !p.cfg.Room() {
		return 0, retryFull
	}
	if held := p.node.wait(quantum); held > 0 {
		return 0, held
	}
	return int(min(quantum, budget.tokens)), 0
}
