package consensus

import (
	"context"
	"sync"
	"time"
)

const (
	// DefaultLeaseTTL is how long a node may go on without hearing from the leader.
	DefaultLeaseTTL = 10 * time.Second
	// The leader waits longer by one part of as many: clocks run at different speeds.
	leaseMargin = 10
)

// leases is when the leader granted which node a lease. It is not replicated: a new
// leader counts from the begin of its term, for its predecessor can't have granted one
// later.
type leases struct {
	mu      sync.Mutex
	began   time.Time // the term
	granted map[string]time.Time
}

// begin starts a term.
func (l *leases) begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.granted = now, map[string]time.Time{}
}

// start returns when the last term of this node as the leader began.
func (l *leases) start() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// GrantLease lets a node keep its single-writer instances for the time that both sides
// have agreed on, counted by the node from before it asked. The leader proves, after it
// was asked, that it still leads: so no other leader counts from an earlier time.
func (n *Node) GrantLease(ctx context.Context, node string) error {
	term := n.leadsIn()
	if term == 0 {
		return errNotLeader()
	}
	// The node counts from before it asked, which was before this. And it is noted first:
	// when the answer is lost on its way the node may have the lease or not.
	n.leases.grant(node, n.cfg.Now())
	return n.stillLeads(ctx, term)
}

func (l *leases) grant(node string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted != nil && now.After(l.granted[node]) {
		l.granted[node] = now
	}
}

// LeaseEnded reports whether a lease that the node may have from any leader has ended at
// the given time. Only the leader knows.
func (n *Node) LeaseEnded(node string, now time.Time) bool {
	if !n.IsLeader() {
		return false
	}
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	last := n.leases.began
	if g := n.leases.granted[node]; g.After(last) {
		last = g
	}
	return !last.IsZero() && !now.Before(last.Add(n.cfg.LeaseTTL+n.cfg.LeaseTTL/leaseMargin))
}
