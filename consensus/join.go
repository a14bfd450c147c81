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

// Join is how a node without a log becomes a member of an existing cluster.
type Join struct {
	// ClusterID is the cluster's id. A node that belongs to another is refused.
	ClusterID string
	// Ask asks the cluster to add this node; see [Node.AddMember]. It is called once Raft
	// can take what the leader sends, and again after a pause when it fails, until it
	// succeeds, the node has joined, or it fails with [ErrRefused]. The node may be a member
	// already, if it ended before it knew what the leader knew. Nil: somebody else asks.
	Ask func(ctx context.Context, self api.Node) error
}

// ErrRefused is to be wrapped by the error of [Join.Ask] when it is no use to ask again.
var ErrRefused = errors.New("the cluster refuses this node")

const (
	joinPause    = 500 * time.Millisecond
	joinProgress = 5 * time.Second // between lines that say what is being waited for
)

// self returns how this node describes itself.
func (n *Node) self() api.Node {
	self := n.cfg.Node
	self.ID = n.id.ID
	self.StateVersion = state.StateVersion
	return self
}

// joinCluster waits until this node is a member and knows what the leader knew then.
func (n *Node) joinCluster(ctx context.Context) error {
	asked, stop := make(chan error, 1), context.CancelFunc(func() {})
	// One that ended after it had been added asks once more: the answer tells where the
	// others are, which its state does not yet.
	if n.cfg.Join.Ask != nil {
		var asking context.Context
		asking, stop = context.WithCancel(ctx)
		n.workers.Go(func() { asked <- n.askToJoin(asking) })
	}
	defer stop()
	if err := n.wait(ctx, "to be added to the cluster", n.isMember, asked); err != nil {
		return fmt.Errorf("join cluster %s: %w", n.id.ClusterID, err)
	}
	if err := n.wait(ctx, "to know what the leader knows", n.hasCaughtUp, nil); err != nil {
		return fmt.Errorf("join cluster %s: %w", n.id.ClusterID, err)
	}
	if got := n.View().ClusterID(); got != n.id.ClusterID {
		return fmt.Errorf("join cluster %s: its state says that it is cluster %q", n.id.ClusterID, got)
	}
	n.id.Joining = false
	return n.id.save(n.cfg.Dir)
}

func (n *Node) askToJoin(ctx context.Context) error {
	for {
		err := n.cfg.Join.Ask(ctx, n.self())
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return err
		}
		n.cfg.Logger.Warn("asking to join the cluster failed, trying again", "error", err)
		select {
		case <-time.After(joinPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait returns once done reports true, and says now and then that it is waiting. It looks
// whenever anything changes.
func (n *Node) wait(ctx context.Context, what string, done func() bool, failed <-chan error) error {
	progress, look := time.NewTicker(joinProgress), time.NewTicker(n.cfg.lookEvery/10)
	defer progress.Stop()
	defer look.Stop()
	for {
		v := n.View()
		if done() {
			return nil
		}
		select {
		case <-v.Changed():
		case <-look.C: // Raft does not tell who becomes a member
		case err := <-failed:
			if err != nil {
				return err
			}
			failed = nil
		case <-progress.C:
			n.cfg.Logger.Info("waiting "+what, "index", v.Index(), "raft_index", n.raft.AppliedIndex())
		case <-n.latch.done:
			return n.latch.err
		case <-n.closing:
			return errClosing
		case <-ctx.Done():
			return fmt.Errorf("wait %s: %w", what, ctx.Err())
		}
	}
}

// isMember reports whether this node is one of the cluster, for all it knows.
func (n *Node) isMember() bool {
	_, ok := n.server(n.id.ID)
	return ok
}

// looksUntilRemoved is how often in a row this node must not find itself a member.
const looksUntilRemoved = 3

func (n *Node) hasCaughtUp() bool {
	select {
	case <-n.caughtUp:
		return true
	default:
		return false
	}
}

// CaughtUp returns a channel that is closed once this node has heard of a leader and has
// applied what was committed then. Until that it serves what it knew when it stopped.
func (n *Node) CaughtUp() <-chan struct{} { return n.caughtUp }

// Removed returns a channel that is closed when this node learns that it is no longer a
// member: it has been removed for good.
func (n *Node) Removed() <-chan struct{} { return n.removed }

// noticeRemoval closes removed when this node was a member and is none for a while: one
// that has moved is taken out and added again.
func (n *Node) noticeRemoval() {
	if n.isMember() {
		n.wasMember, n.missed = true, 0
		return
	}
	if n.missed++; !n.wasMember || n.missed < looksUntilRemoved || n.raft.State() == raft.Leader {
		return
	}
	select {
	case <-n.removed:
	default:
		n.cfg.Logger.Warn("this node has been removed from its cluster", "cluster", n.id.ClusterID)
		close(n.removed)
	}
}

// settle does what a node does in the background after its start: it catches up with the
// leader, and then tells the cluster what it is.
func (n *Node) settle(ctx context.Context) {
	for {
		v, err := n.ConsistentView(ctx)
		if err == nil {
			close(n.caughtUp)
			if id := v.ClusterID(); id != "" && id != n.id.ClusterID {
				n.latch.trip(fmt.Errorf("catch up: the leader is of cluster %s, %s says %s", id, identityFile, n.id.ClusterID))
			}
			break
		}
		if !n.pause(ctx, joinPause) {
			return
		}
	}
	for {
		_, err := n.DescribeNode(ctx, n.self())
		if err == nil {
			return
		}
		n.cfg.Logger.Warn("what this node is could not be updated, trying again", "error", err)
		if !n.pause(ctx, describePause) {
			return
		}
	}
}

const describePause = 2 * time.Second

// pause returns false when the node ends: closing comes first, and ctx only once nothing
// is pending any more.
func (n *Node) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-n.closing:
	case <-ctx.Done():
	}
	return false
}
