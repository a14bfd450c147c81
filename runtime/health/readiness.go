// Package health tells when a program starts to accept connections ([Readiness]) and
// whether it still answers ([Checker]).
//
// DESIGN.md beside this file says how a listen is noticed within a millisecond without
// a connection that the program would see.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// ErrClosed is returned by a Wait that [Readiness.Close] ended.
var ErrClosed = errors.New("wait for listen: readiness watcher closed")

// The pauses between two looks at the kernel's tables.
const (
	minPause = 400 * time.Microsecond
	midPause = 1500 * time.Microsecond // noticed within a millisecond, half of the time
	maxPause = 5 * time.Millisecond

	midShare = 250  // a young program is looked at after 1/250 of its age, up to midPause
	maxShare = 1000 // an old one after 1/1000
	// One look may cost at most 1/costShare of the pause after it.
	costShare = 8
)

// Config is what a Readiness is made from.
type Config struct {
	Logger *slog.Logger // nil discards
}

// Readiness notices when programs start to listen. One goroutine looks on behalf of
// all callers of Wait, and lives only while there is one.
type Readiness struct {
	log *slog.Logger
	how method

	closing chan struct{}
	loop    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	watching bool          // the loop runs
	pause    time.Duration // how long it has gone to sleep for
	incoming []*waiter     // not yet seen by the loop
	prober   *prober       // opened by the first Wait
}

// waiter is one call of Wait.
type waiter struct {
	port   int
	socket string
	owns   func(inode uint64) bool
	since  time.Time
	ready  chan api.Endpoint // takes one
	gone   atomic.Bool       // the caller no longer waits

	claim claim     // who listens on the port, and whether he may
	sock  sockWatch // the prober's
}

// NewReadiness returns a Readiness. It holds no resources until the first Wait.
func NewReadiness(cfg Config) *Readiness {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Readiness{log: cfg.Logger, closing: make(chan struct{})}
}

// Wait returns as soon as somebody listens on the TCP port or the unix socket, with the
// address to dial. Either may be left out (0, ""). A port counts whatever local address
// it is bound to; a socket counts once it is bound and listening.
//
// owns, which may be nil, reports whether the socket of an inode is the awaited program's.
// Another's on the port does not count, and neither does the program's own while another
// has a share of the same address. owns is asked once about each, and may take its time.
func (r *Readiness) Wait(ctx context.Context, port int, socket string, owns func(inode uint64) bool) (api.Endpoint, error) {
	if port < 0 || port > 65535 || port == 0 && socket == "" {
		return api.Endpoint{}, fmt.Errorf("wait for listen: port %d, socket %q: want a port from 1 to 65535, a socket or both", port, socket)
	}
	w := &waiter{
		port: port, socket: socket, owns: owns, since: time.Now(),
		ready: make(chan api.Endpoint, 1), claim: newClaim(),
	}
	if err := r.enter(w); err != nil {
		return api.Endpoint{}, err
	}
	defer w.gone.Store(true)
	for {
		select {
		case ep := <-w.ready:
			return ep, nil
		case all := <-w.claim.found:
			if addr, ok := w.claim.judge(all, owns); ok {
				return tcpEndpoint(addr, port), nil
			}
		case <-ctx.Done():
			return api.Endpoint{}, fmt.Errorf("wait for listen%s: %w", w.claim.obstacle(port), context.Cause(ctx))
		case <-r.closing:
			return api.Endpoint{}, ErrClosed
		}
	}
}

// enter hands w to the loop, which it starts when there is none.
func (r *Readiness) enter(w *waiter) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if r.prober == nil {
		p, err := openProber(r.how, r.log)
		if err != nil {
			return fmt.Errorf("wait for listen: %w", err)
		}
		r.prober = p
	}
	r.incoming = append(r.incoming, w)
	switch {
	case !r.watching:
		r.watching = true
		r.loop.Go(r.watch)
	case r.pause > minPause:
		r.prober.wake() // else it looks soon enough by itself
	}
	return nil
}

// watch looks for every waiter in turn until none is left.
func (r *Readiness) watch() {
	var (
		waiters []*waiter
		cost    estimate
	)
	for {
		waiters = r.keep(waiters)
		if waiters == nil {
			return
		}
		start := time.Now()
		r.prober.probe(waiters)
		end := time.Now()
		cost.add(end.Sub(start))
		if d := r.rest(waiters, cost, end); d > 0 {
			r.prober.pause(d)
		}
	}
}

// keep returns the waiters that still wait, newcomers included; nil when there are none
// and the loop has ended.
func (r *Readiness) keep(waiters []*waiter) []*waiter {
	kept := waiters[:0]
	for _, w := range waiters {
		if w.gone.Load() || len(w.ready) > 0 {
			r.prober.leave(w)
			continue
		}
		kept = append(kept, w)
	}
	clear(waiters[len(kept):])

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	for _, w := range r.incoming {
		if !w.gone.Load() {
			r.prober.enter(w)
			kept = append(kept, w)
		}
	}
	r.incoming = nil
	if len(kept) == 0 {
		r.watching = false
		return nil
	}
	return kept
}

// rest decides how long to pause after a look of the given cost; not at all when
// somebody came meanwhile.
func (r *Readiness) rest(waiters []*waiter, cost estimate, now time.Time) time.Duration {
	youngest := waiters[0].since
	for _, w := range waiters {
		if w.since.After(youngest) {
			youngest = w.since
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = 0
	if len(r.incoming) == 0 && !r.closed {
		r.pause = pauseFor(now.Sub(youngest), time.Duration(cost))
	}
	return r.pause
}

// pauseFor returns the pause for the age of the youngest waiter and the cost of a look.
func pauseFor(age, cost time.Duration) time.Duration {
	return min(max(minPause, min(age/midShare, midPause), age/maxShare, cost*costShare), maxPause)
}

// Close ends every Wait with [ErrClosed] and frees what the watcher holds.
func (r *Readiness) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.closing)
	p := r.prober
	if p != nil {
		p.wake()
	}
	r.mu.Unlock()
	r.loop.Wait()
	if p != nil {
		return p.close()
	}
	return nil
}

// estimate is what an operation costs when nothing interrupts it: it follows cheaper
// measurements at once and dearer ones slowly, so that a preemption leaves no mark.
type estimate time.Duration

func (e *estimate) add(d time.Duration) {
	if *e == 0 {
		*e = estimate(d)
	}
	*e = min(estimate(d), *e+*e/8+1)
}

// method is a way to see who listens. Each falls back to the next.
type method int

const (
	methodDiag    method = iota // sock_diag netlink
	methodProc                  // /proc/net/tcp and tcp6
	methodConnect               // connection attempts
)
