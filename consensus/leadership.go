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
	term    atomic.Uint64 // in which it leads, or 0; for the hot path
}

// begin makes the node the leader of a term, unless that has ended meanwhile.
func (l *leadership) begin(ctx context.Context, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil {
		l.set(true)
		l.term.Store(term)
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
	l.term.Store(0)
	close(l.changed)
	l.changed = make(chan struct{})
}

// IsLeader reports whether this node leads and has applied all that was committed
// before its term.
func (n *Node) IsLeader() bool { return n.leadsIn() != 0 }

// leadsIn returns the term in which this node leads, as [Node.IsLeader]; 0 if it does not.
func (n *Node) leadsIn() uint64 {
	// The term tells this one from an earlier one, whose end may not have been noticed yet.
	term := n.lead.term.Load()
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
		return 0
	}
	return term
}

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
func (n *Node) enterTerm(ctx context.Context) {
	for ctx.Err() == nil {
		term, _ := leadingTerm(n.raft)
		err := n.Barrier(ctx)
		if now, leading := leadingTerm(n.raft); err == nil && leading && now == term {
			n.quorum.forget()
			n.leases.begin(n.cfg.Now())
			n.countServers()
			n.lead.begin(ctx, term)
			return
		}
		select {
		case <-time.After(tick):
			n.cfg.Logger.Warn("barrier of a new term failed, trying again", "error", err)
		case <-n.closing:
			return
		case <-ctx.Done():
		}
	}
}
