// Package wake holds requests while the instance that they are for is brought up.
//
// However many requests wait for one instance, it is started once, under a context of
// its own: one client that goes away takes nothing from the others, and when all have
// gone the start is cancelled. The number of held requests is bounded, for each
// instance and in all, and so is the time that each is held.
package wake

import (
	"context"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Defaults of a Config.
const (
	DefaultPerInstance = 2048
	DefaultTotal       = 16384
)

// retryAfter is what a client is told when there is no room to wait.
const retryAfter = api.Duration(2 * time.Second)

// Config says what a Queue waits for and how much may wait.
type Config struct {
	// Start brings the instance up and returns once it is, or why it is not.
	Start func(ctx context.Context, ref api.Ref) error
	// PerInstance and Total bound the requests held at one time; 0 means the default.
	PerInstance int
	Total       int
}

// Queue holds requests. Its methods may be called from several goroutines.
type Queue struct {
	cfg    Config
	ctx    context.Context // ends with the queue
	cancel context.CancelFunc
	starts sync.WaitGroup

	mu      sync.Mutex
	calls   map[api.Ref]*call
	waiting int
	empty   chan struct{} // closed when waiting comes to zero; nil: nobody asked
	closed  bool
}

// call is one start and those who wait for it.
type call struct {
	waiting int // guarded by Queue.mu
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // valid once done is closed
}

// New returns an empty Queue.
func New(cfg Config) *Queue {
	if cfg.PerInstance <= 0 {
		cfg.PerInstance = DefaultPerInstance
	}
	if cfg.Total <= 0 {
		cfg.Total = DefaultTotal
	}
	q := &Queue{cfg: cfg, calls: make(map[api.Ref]*call)}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// Wait starts the instance, or joins the start that is under way, and returns its
// outcome. It returns early with an *api.Error of CodeUnavailable when too many wait
// already or the queue is closed, of CodeTimeout when limit is over, and with ctx's
// cause when the caller's context ends.
func (q *Queue) Wait(ctx context.Context, ref api.Ref, limit time.Duration) error {
	c, err := q.join(ref) //nolint:contextcheck // a start outlives the client that asked for it first
	if err != nil {
		return err
	}
	defer q.leave(ref, c)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return api.Errorf(api.CodeTimeout, "wait for instance %s: not up after %s", ref, limit)
	}
}

// Waiting returns the number of requests held now.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// Settle returns when no request is held, or with ctx's cause.
func (q *Queue) Settle(ctx context.Context) error {
	q.mu.Lock()
	if q.waiting == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	empty := q.empty
	q.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends every start and every wait and refuses new ones. It returns once no
// start runs any more.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cancel()
	q.starts.Wait()
}

// join takes a place in the queue for ref, starting the instance if it is the first.
func (q *Queue) join(ref api.Ref) (*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls[ref]
	switch {
	case q.closed:
		return nil, refuse("the server is shutting down")
	case q.waiting >= q.cfg.Total:
		return nil, refuse("%d requests wait for instances already", q.waiting)
	case c != nil && c.waiting >= q.cfg.PerInstance:
		return nil, refuse("%d requests wait for instance %s already", c.waiting, ref)
	}
	if c == nil {
		c = q.start(ref)
	}
	c.waiting++
	q.waiting++
	return c, nil
}

func refuse(format string, args ...any) error {
	err := api.Errorf(api.CodeUnavailable, format, args...)
	err.RetryAfter = retryAfter
	return err
}

// start runs the start for ref. The caller holds q.mu.
func (q *Queue) start(ref api.Ref) *call {
	ctx, cancel := context.WithCancel(q.ctx)
	c := &call{cancel: cancel, done: make(chan struct{})}
	q.calls[ref] = c
	q.starts.Go(func() {
		defer cancel()
		err := q.cfg.Start(ctx, ref)
		if err != nil && q.ctx.Err() != nil {
			err = refuse("the server is shutting down")
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.forget(ref, c)
		c.err = err
		close(c.done)
	})
	return c
}

// leave gives the place in the queue back. With the last one the start goes too, and
// whoever comes next begins a new one.
func (q *Queue) leave(ref api.Ref, c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting--; q.waiting == 0 && q.empty != nil {
		close(q.empty)
		q.empty = nil
	}
	if c.waiting--; c.waiting == 0 {
		q.forget(ref, c)
		c.cancel()
	}
}

func (q *Queue) forget(ref api.Ref, c *call) {
	if q.calls[ref] == c {
		delete(q.calls, ref)
	}
}
