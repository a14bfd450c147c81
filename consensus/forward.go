package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Bounds of what goes to the leader at once.
const (
	MaxForwarded      = 1000                  // commands in a request
	MaxForwardedBytes = 1 << 20               // of their encoding; one command may be bigger
	maxForwards       = 4                     // requests under way
	forwardPause      = 20 * time.Millisecond // a command's wait for the one under way before there is another
	maxForwardWaiting = 4 * 1000              // commands that wait for a request
	forwardWait       = 10 * time.Second
	lastForwardWait   = 2 * time.Second // when the node closes
)

type actorKey struct{}

// WithActor returns a context whose writes are on behalf of a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns on whose behalf a context's writes are; nobody's if it does not say.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// submit has a command committed, wherever the leader is: by local, if it is this node.
// It returns once the command's effect is visible here.
func (n *Node) submit(ctx context.Context, c *state.Command, local func(context.Context, *state.Command) (state.Result, error)) (state.Result, error) {
	return atLeader(ctx, n,
		func() (state.Result, error) { return local(ctx, c) },
		func(leader string) (state.Result, error) { return n.forward(ctx, leader, c) })
}

func (n *Node) forward(ctx context.Context, leader string, c *state.Command) (state.Result, error) {
	if n.cfg.Forward == nil {
		return state.Result{}, errNotLeader()
	}
	if err := n.readable(leader, c); err != nil {
		return state.Result{}, err
	}
	b, err := c.Encode()
	if err != nil {
		return state.Result{}, err
	}
	call := &forwardCall{Forwarded{Command: b, Actor: ActorOf(ctx)}, make(chan forwardAnswer, 1)}
	if err := n.forwarder.add(leader, call); err != nil {
		return state.Result{}, err
	}
	select {
	case a := <-call.done:
		if a.err != nil {
			return a.result, a.err
		}
		return a.result, n.awaitIndex(ctx, a.result.Index)
	case <-ctx.Done():
		if n.forwarder.drop(leader, call) {
			return state.Result{}, waited(ctx, "forward write")
		}
		return state.Result{}, waited(ctx, "forward write, which may still happen")
	}
}

// readable refuses what a leader of an older version can't read, in words: the leader could
// only say that it does not know some field.
func (n *Node) readable(leader string, c *state.Command) error {
	view := n.View()
	if l, ok := view.Node(leader); ok && l.StateVersion < c.Needs() {
		return view.Allows(c)
	}
	return nil
}

// awaitIndex waits until this node has applied what the leader has.
func (n *Node) awaitIndex(ctx context.Context, index uint64) error {
	if index == 0 || n.View().Index() >= index {
		return nil
	}
	if _, err := n.WaitIndex(ctx, index-1); err != nil {
		return fmt.Errorf("%w, though the write has been committed: it is not visible on this node yet", err)
	}
	return nil
}

// forwardCall is a command that waits for the leader's answer.
type forwardCall struct {
	Forwarded
	done chan forwardAnswer // takes one without a reader
}

type forwardAnswer struct {
	result state.Result
	err    error
}

// forwarder sends commands to the leader. While some are on their way those that come
// wait and share the next request: what a request, its entry in the log and the writes to
// three disks cost is nearly the same for one command and for a hundred. Only to a leader
// that takes long to answer, being far away, there are several requests under way.
type forwarder struct {
	send func(ctx context.Context, leader string, batch []Forwarded) ([]ForwardResult, error)

	ctx    context.Context // ends with the node
	cancel context.CancelFunc
	flying sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	leader  string // of those that wait
	waiting []*forwardCall
	flights int
	pause   *time.Timer // until another request is sent for those that wait; nil if none is to be
}

func newForwarder(send func(context.Context, string, []Forwarded) ([]ForwardResult, error)) *forwarder {
	f := &forwarder{send: send}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func (f *forwarder) add(leader string, c *forwardCall) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errClosing
	}
	if len(f.waiting) >= maxForwardWaiting {
		return &api.Error{
			Code: api.CodeUnavailable, RetryAfter: api.Seconds(1),
			Message: fmt.Sprintf("forward write: %d writes wait for the leader already", len(f.waiting)),
		}
	}
	if leader != f.leader {
		f.refuse(errNotLeader()) // what waits for the last one is for its callers to repeat
		f.leader = leader
	}
	f.waiting = append(f.waiting, c)
	f.launch()
	return nil
}

// launch sends what waits: at once if nothing is under way, else in a while. The caller
// holds the lock.
func (f *forwarder) launch() {
	switch {
	case len(f.waiting) == 0 || f.closed:
	case f.flights == 0:
		f.depart()
	case f.flights < maxForwards && f.pause == nil:
		f.pause = time.AfterFunc(forwardPause, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.pause = nil
			if len(f.waiting) > 0 && !f.closed {
				f.depart()
			}
		})
	}
}

func (f *forwarder) depart() {
	f.flights++
	f.flying.Go(f.fly)
}

// drop takes c back, if it is not on its way yet.
func (f *forwarder) drop(leader string, c *forwardCall) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if leader != f.leader {
		return false
	}
	for i, w := range f.waiting {
		if w == c {
			f.waiting = append(f.waiting[:i:i], f.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (f *forwarder) refuse(err error) {
	for _, c := range f.waiting {
		c.done <- forwardAnswer{err: err}
	}
	f.waiting = nil
}

// close refuses what waits, and waits for the answers to what is on its way, but not
// for long.
func (f *forwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.refuse(errClosing)
	f.mu.Unlock()
	end := time.AfterFunc(lastForwardWait, f.cancel)
	defer end.Stop()
	f.flying.Wait()
	f.cancel()
}

// fly sends what waits, until nothing does or others are under way.
func (f *forwarder) fly() {
	for {
		leader, calls := f.take()
		if len(calls) > 0 {
			f.round(leader, calls)
		}
		if f.landed() {
			return
		}
	}
}

func (f *forwarder) take() (leader string, calls []*forwardCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, size := 0, 0
	for n < len(f.waiting) && n < MaxForwarded && (n == 0 || size+len(f.waiting[n].Command) <= MaxForwardedBytes) {
		size += len(f.waiting[n].Command)
		n++
	}
	calls, f.waiting = f.waiting[:n:n], f.waiting[n:]
	if f.pause != nil { // it was for those
		f.pause.Stop()
		f.pause = nil
	}
	f.launch()
	return f.leader, calls
}

// landed reports whether there is nothing left to do for a request that was answered.
func (f *forwarder) landed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flights == 1 && len(f.waiting) > 0 {
		return false
	}
	f.flights--
	f.launch()
	return true
}

func (f *forwarder) round(leader string, calls []*forwardCall) {
	batch := make([]Forwarded, len(calls))
	for i, c := range calls {
		batch[i] = c.Forwarded
	}
	ctx, cancel := context.WithTimeout(f.ctx, forwardWait)
	defer cancel()
	results, err := f.send(ctx, leader, batch)
	switch {
	case err != nil && neverHappened(err):
		err = fmt.Errorf("forward write to the leader: %w", err)
	case err != nil:
		err = api.Errorf(api.CodeTimeout, "forward write to the leader, where it may have happened: %w", err)
	case len(results) != len(calls):
		err = api.Errorf(api.CodeInternal, "forward write to the leader: got %d results for %d commands", len(results), len(calls))
	}
	for i, c := range calls {
		if err != nil {
			c.done <- forwardAnswer{err: err}
			continue
		}
		res, err := results[i].decode()
		c.done <- forwardAnswer{res, err}
	}
}
