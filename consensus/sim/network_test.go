package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
)

// quality is how a link is, in one direction.
type quality struct {
	cut           bool
	loss          float64 // of packets, which TCP sends again, later and later
	delay, jitter time.Duration
}

var fine = quality{delay: 300 * time.Microsecond, jitter: 400 * time.Microsecond}

const (
	firstRetry = 200 * time.Millisecond // TCP's least time-out
	lastRetry  = 3 * time.Second
	// staleWithin is how long a message that met a cut link may still arrive after it.
	staleWithin = 30 * time.Second
)

// network connects the machines. Messages between the same two may overtake each other:
// they are on connections of their own.
type network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	links   map[[2]int]quality
	changed chan struct{} // closed and replaced when a link has changed
	done    <-chan struct{}
	wg      *sync.WaitGroup
}

func newNetwork(seed uint64, wg *sync.WaitGroup, done <-chan struct{}) *network {
	return &network{
		rng: rand.New(rand.NewPCG(seed, 1)), links: map[[2]int]quality{},
		changed: make(chan struct{}), done: done, wg: wg,
	}
}

func (n *network) set(from, to int, q quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[[2]int{from, to}] = q
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *network) link(from, to int) (q quality, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q, ok := n.links[[2]int{from, to}]
	if !ok {
		q = fine
	}
	return q, n.changed
}

// chance returns true with the probability p.
func (n *network) chance(p float64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.Float64() < p
}

// upTo returns a random time.
func (n *network) upTo(d time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Duration(n.rng.Int64N(int64(d)))
}

// takes returns how long a message takes.
func (n *network) takes(from, to int) time.Duration {
	q, _ := n.link(from, to)
	n.mu.Lock()
	defer n.mu.Unlock()
	d := q.delay
	if q.jitter > 0 {
		d += time.Duration(n.rng.Int64N(int64(2*q.jitter))) - q.jitter
	}
	for retry := firstRetry; n.rng.Float64() < q.loss; retry = min(2*retry, lastRetry) {
		d += retry
	}
	return max(d, 50*time.Microsecond)
}

// sleep returns false if the simulation ended.
func (n *network) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-n.done:
		return false
	}
}

// leg takes a message from one machine to another. It returns false if it is lost: that
// nobody is told. A message that meets a cut link may come late, when TCP tries again.
func (n *network) leg(from, to *host, arrives time.Time) bool {
	if !n.sleep(time.Until(arrives)) || !from.awake() {
		return false
	}
	q, changed := n.link(from.index, to.index)
	if !q.cut {
		return to.awake()
	}
	if n.chance(0.5) {
		return false
	}
	deadline := time.NewTimer(staleWithin)
	defer deadline.Stop()
	for q.cut {
		select {
		case <-changed:
		case <-deadline.C:
			return false
		case <-n.done:
			return false
		}
		q, changed = n.link(from.index, to.index)
	}
	return n.sleep(n.takes(from.index, to.index)) && to.awake()
}

var (
	errLost    = errors.New("the connection was lost")
	errRefused = fmt.Errorf("dial: %w: %w", leader.ErrRefused, consensus.ErrNotSent)
)

type reply[T any] struct {
	value T
	err   error
}

// call carries a question to the process that runs on another machine, and its answer
// back. Serve may be called although call has given up.
func call[T any](ctx context.Context, from *process, to *host, serve func(*process) (T, error)) (T, error) {
	var zero T
	n := from.host.w.net
	got := make(chan reply[T], 1)
	n.wg.Go(func() {
		if !n.leg(from.host, to, time.Now().Add(n.takes(from.host.index, to.index))) {
			return
		}
		var r reply[T]
		p, refuses := to.listener()
		switch {
		case refuses:
			r.err = errRefused
		case p == nil:
			return
		default:
			r.value, r.err = serve(p)
			if p.isDead() {
				r = reply[T]{err: errLost}
			}
		}
		if n.leg(to, from.host, time.Now().Add(n.takes(to.index, from.host.index))) {
			got <- r
		}
	})
	select {
	case r := <-got:
		return r.value, r.err
	case <-from.gone:
		return zero, errLost
	case <-n.done:
		return zero, errLost
	case <-ctx.Done():
		return zero, fmt.Errorf("no answer: %w", ctx.Err())
	}
}
