package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// enqueueWait bounds the wait for Raft's main loop to take a write. The watchdog is
// faster when that loop hangs.
const enqueueWait = 5 * time.Second

// propose has one command committed and applied, and returns what it resulted in. When
// ctx ends first the command may still take effect.
func (n *Node) propose(ctx context.Context, c *state.Command) (outcome, error) {
	// The leader's state holds everything acknowledged, so that what would change nothing
	// now, or fail, needs no place in the log.
	if n.IsLeader() {
		if res, changes := n.store.Preview(c); !changes {
			return outcome{object: res.Object, index: n.Index()}, res.Err
		}
	}
	if err := n.disk.writable(); err != nil {
		n.metrics.refused.Inc()
		return outcome{}, err
	}
	c.Time = n.cfg.Now().UTC()
	b, err := c.Encode()
	if err != nil {
		return outcome{}, err
	}
	return n.submit(ctx, func() raft.Future { return n.raft.Apply(b, enqueueWait) })
}

// outcome is what became of a log entry.
type outcome struct {
	object any
	index  uint64
}

// submit has Raft work on something, in one of the slots for pending work, and waits
// for it as long as ctx lasts.
func (n *Node) submit(ctx context.Context, start func() raft.Future) (outcome, error) {
	select {
	case <-n.closing: // first, for the next select takes either
		return outcome{}, errClosing
	default:
	}
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return outcome{}, waited(ctx, "wait for earlier writes")
	case <-n.closing:
		return outcome{}, errClosing
	case <-n.latch.done:
		return outcome{}, stopped(n.latch.err)
	}
	type result struct {
		outcome
		err error
	}
	done := make(chan result, 1)
	go func() { // ends when Raft answers; Close waits for its slot
		o, err := await(start())
		<-n.slots
		done <- result{o, err}
	}()
	select {
	case r := <-done:
		return r.outcome, r.err
	case <-ctx.Done():
		return outcome{}, waited(ctx, "wait for commit, which may still happen")
	case <-n.latch.done:
		return outcome{}, stopped(n.latch.err)
	}
}

func await(f raft.Future) (outcome, error) {
	if err := f.Error(); err != nil {
		return outcome{}, raftError(err)
	}
	applied, ok := f.(raft.ApplyFuture)
	if !ok {
		return outcome{}, nil
	}
	o := outcome{index: applied.Index()}
	if res, ok := applied.Response().(state.Result); ok {
		o.object = res.Object
		return o, res.Err
	}
	return o, nil
}

// raftError gives what Raft says a code of ours.
func raftError(err error) error {
	code := api.CodeInternal
	for _, passing := range []error{
		raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress,
		raft.ErrEnqueueTimeout, raft.ErrRaftShutdown, raft.ErrAbortedByRestore,
	} {
		if errors.Is(err, passing) {
			code = api.CodeUnavailable
		}
	}
	out := api.Errorf(code, "commit write: %w", err)
	if code == api.CodeUnavailable {
		out.RetryAfter = api.Seconds(1)
	}
	return out
}

var errClosing = &api.Error{Code: api.CodeUnavailable, Message: "commit write: this node is shutting down", RetryAfter: api.Seconds(1)}

// stopped is the answer to everything after the latch has tripped.
func stopped(err error) error {
	return api.Errorf(api.CodeInternal, "commit write: this node has stopped: %w", err)
}

// waited says that ctx ended a wait.
func waited(ctx context.Context, what string) error {
	code := api.CodeUnavailable
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = api.CodeTimeout
	}
	return api.Errorf(code, "%s: %w", what, context.Cause(ctx))
}

// result gives the outcome of a put its type.
func result[T any](o outcome, err error) (T, error) {
	object, ok := o.object.(T)
	if err == nil && !ok {
		err = fmt.Errorf("commit write: got a %T, want a %T", o.object, object)
	}
	return object, err
}
