package consensus

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// leadership is whether this node leads and has applied all that earlier leaders
// committed.
type leadership struct {
	mu      sync.Mutex
	leading bool
	changed chan struct{} // closed and replaced by every change
	ready   atomic.Bool   // leading, for the hot path
}

// begin makes the node a leader, unless its term has ended meanwhile.
func (l *leadership) begin(term context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term.Err() == nil {
		l.set(true)
	}
}

func (l *leadership) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leading {
		l.set(false)
	}
}

func (l *leadership) set(leading bool) {
	l.leading = leading
	l.ready.Store(leading)
	close(l.changed)
	l.changed = make(chan struct{})
}

// IsLeader reports whether this node leads and has applied all that was committed
// before its term.
func (n *Node) IsLeader() bool { return n.lead.ready.Load() && n.raft.State() == raft.Leader }

// Leadership reports whether this node leads, as [Node.IsLeader], and returns a channel
// that is closed when that has changed, if only for a moment.
func (n *Node) Leadership() (leading bool, changed <-chan struct{}) {
	n.lead.mu.Lock()
	defer n.lead.mu.Unlock()
	return n.lead.leading, n.lead.changed
}

// Barrier returns once everything committed before it has been applied here: so has an
// empty command then, that comes after them. It is written even to a full disk.
func (n *Node) Barrier(ctx context.Context) error {
	_, err := n.write(ctx, &state.Command{Place: &state.Place{}})
	return err
}

// followLeadership does nothing but take what Raft says about leadership, for Raft waits
// until it is taken. The barrier of a new term has a goroutine of its own.
func (n *Node) followLeadership(ctx context.Context) {
	endTerm := func() {}
	defer func() { endTerm() }()
	for {
		select {
		case leading := <-n.notify:
			endTerm()
			n.lead.end()
			if leading {
				endTerm = n.beginTerm(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) beginTerm(ctx context.Context) (end context.CancelFunc) {
	term, end := context.WithCancel(ctx)
	n.workers.Go(func() { n.enterTerm(term) })
	return end
}

// enterTerm makes the node a leader that may act, as soon as it knows all that earlier
// leaders have committed.
func (n *Node) enterTerm(term context.Context) {
	for term.Err() == nil {
		err := n.Barrier(term)
		if err == nil {
			n.lead.begin(term)
			return
		}
		select {
		case <-time.After(tick):
			n.cfg.Logger.Warn("barrier of a new term failed, trying again", "error", err)
		case <-n.closing:
			return
		case <-term.Done():
		}
	}
}
