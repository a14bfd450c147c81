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

// enqueueWait bounds the wait for Raft's main loop to take something. The watchdog is
// faster when that loop hangs.
const enqueueWait = 5 * time.Second

// propose commits a command of which it may well be that it would change nothing.
func (n *Node) propose(ctx context.Context, c *state.Command) (state.Result, error) {
	// The leader's state holds everything acknowledged, so that what would change nothing
	// now, or fail, needs no place in the log.
	if term := n.leadsIn(); term != 0 {
		if res, changes := n.store.Preview(c); !changes {
			if err := n.stillLeads(ctx, term); err != nil {
				return state.Result{}, err
			}
			return res, res.Err
		}
	}
	return n.commit(ctx, c)
}

// commit has one command written and applied if there is room for it on the disk.
func (n *Node) commit(ctx context.Context, c *state.Command) (state.Result, error) {
	if err := n.allows(c); err != nil {
		return state.Result{}, err
	}
	return n.write(ctx, c)
}

// allows returns nil if a command may be written: every member knows what it means, and
// there is room for it on the disk.
func (n *Node) allows(c *state.Command) error {
	if err := n.View().Allows(c); err != nil {
		return err
	}
	if err := n.disk.writable(); err != nil {
		n.metrics.refused.Inc()
		return err
	}
	return nil
}

// write has one command written and applied, and returns what it resulted in. When ctx
// ends first the command may still take effect.
func (n *Node) write(ctx context.Context, c *state.Command) (state.Result, error) {
	p, err := n.newProposal(c)
	if err != nil {
		return state.Result{}, err
	}
	if err := n.takeSlot(ctx); err != nil {
		return state.Result{}, err
	}
	n.batch.add(p)
	return n.outcome(ctx, p)
}

// newProposal encodes a command, as proposed now.
func (n *Node) newProposal(c *state.Command) (proposal, error) {
	c.Time = n.cfg.Now().UTC()
	b, err := c.Encode()
	return proposal{command: b, done: make(chan answer, 1)}, err
}

// outcome waits for what becomes of a proposal that has been added.
func (n *Node) outcome(ctx context.Context, p proposal) (state.Result, error) {
	select {
	case a := <-p.done:
		if a.err == nil {
			a.err = a.result.Err
		}
		return a.result, a.err
	case <-ctx.Done():
		return state.Result{}, waited(ctx, "wait for commit, which may still happen")
	case <-n.latch.done:
		return state.Result{}, stopped(n.latch.err)
	}
}

// takeSlot waits until fewer than maxPending things are pending.
func (n *Node) takeSlot(ctx context.Context) error {
	if err := n.open(); err != nil { // first, for the select takes any
		return err
	}
	select {
	case n.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return waited(ctx, "wait for earlier writes")
	case <-n.closing:
		return errClosing
	case <-n.latch.done:
		return stopped(n.latch.err)
	}
}

// trySlot is takeSlot where it need not wait.
func (n *Node) trySlot() bool {
	if n.open() != nil {
		return false
	}
	select {
	case n.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// open returns why nothing new is taken in, if so it is.
func (n *Node) open() error {
	select {
	case <-n.closing:
		return errClosing
	case <-n.latch.done:
		return stopped(n.latch.err)
	default:
		return nil
	}
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

// stored gives the outcome of a put its type.
func stored[T any](res state.Result, err error) (T, error) {
	object, ok := res.Object.(T)
	if err == nil && !ok {
		err = fmt.Errorf("commit write: got a %T, want a %T", res.Object, object)
	}
	return object, err
}
