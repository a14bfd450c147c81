package consensus

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
)

// patienceForLeader is how long after the leader was lost requests still wait for the
// next one: an election takes 2 to 3 s. From then on they are refused at once.
const patienceForLeader = 5 * time.Second

// leaders is what this node knows of who leads.
type leaders struct {
	now  func() time.Time
	self string // is no leader to be remembered

	mu      sync.Mutex
	id      string        // of the last leader that was not this node
	contact time.Time     // when a leader was heard of before the last was lost
	lost    time.Time     // when the last leader was lost, or the node began; zero while there is one
	changed chan struct{} // closed and replaced by every change
}

func newLeaders(self string, now func() time.Time) *leaders {
	return &leaders{self: self, now: now, lost: now(), changed: make(chan struct{})}
}

// saw is Raft's observer. It is called by Raft's own goroutines and must not wait.
func (l *leaders) saw(o *raft.Observation) bool {
	if leader, ok := o.Data.(raft.LeaderObservation); ok {
		l.set(string(leader.LeaderID), o.Raft.LastContact())
	}
	return false
}

// set notes who leads, or with "" that the last leader was lost.
func (l *leaders) set(id string, contact time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != "" && id != l.self {
		l.id = id
	}
	switch {
	case id != "":
		l.lost = time.Time{}
	case l.lost.IsZero():
		l.lost, l.contact = l.now(), contact
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// state returns a channel closed by the next change, and how much longer it is worth
// waiting for a leader: 0 when it was lost too long ago.
func (l *leaders) state() (changed <-chan struct{}, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost.IsZero() {
		return l.changed, patienceForLeader
	}
	return l.changed, max(0, patienceForLeader-l.now().Sub(l.lost))
}

// PreviousLeader returns the id of the last leader other than this node and when it was
// last heard of; "" if this node knew none since it started.
func (n *Node) PreviousLeader() (id string, contact time.Time) {
	n.leaders.mu.Lock()
	defer n.leaders.mu.Unlock()
	if n.leaders.id == "" {
		return "", time.Time{}
	}
	return n.leaders.id, n.leaders.contact
}

// Leader returns the id and peer address of the leader, as far as this node knows.
func (n *Node) Leader() (id, address string, ok bool) {
	a, i := n.raft.LeaderWithID()
	return string(i), string(a), i != ""
}

// LastContact returns when this node last heard from a leader; now, if it leads.
func (n *Node) LastContact() time.Time {
	if n.IsLeader() {
		return n.cfg.Now()
	}
	return n.raft.LastContact()
}

// Term returns Raft's current term, which grows with every election.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

var errNoLeader = &api.Error{
	Code: api.CodeUnavailable, RetryAfter: api.Seconds(1),
	Message: "find leader: there is no leader: most of the voting servers can't be reached, or are electing one",
}

// atLeader calls local when this node leads, else remote with the leader's id, and again
// at the next leader as long as it is certain that the call had no effect: [ErrNotLeader]
// says so. It gives up after patienceForLeader, and at once when there has been no leader
// for as long.
func atLeader[T any](ctx context.Context, n *Node, local func() (T, error), remote func(leader string) (T, error)) (T, error) {
	if n.IsLeader() {
		if out, err := local(); err == nil || !neverHappened(err) {
			return out, err
		}
	}
	giveUp := time.NewTimer(patienceForLeader)
	defer giveUp.Stop()
	for {
		leaderChanged, wait := n.leaders.state()
		_, leadingChanged := n.Leadership()
		var out T
		var err error = errNoLeader
		tried := true
		if n.IsLeader() {
			out, err = local()
		} else if id, _, ok := n.Leader(); ok && id != n.id.ID {
			out, err = remote(id)
		} else {
			tried = false // none, or it is this node, which is about to be ready
		}
		switch {
		case err == nil || !neverHappened(err):
			return out, err
		case n.latch.tripped() != nil:
			return out, stopped(n.latch.tripped())
		case !tried && wait == 0:
			return out, err
		}
		// A leader that says it is none has not told us the next: ask again soon.
		again := time.NewTimer(leaderPause)
		if !tried {
			again.Reset(wait)
		}
		select {
		case <-leaderChanged:
		case <-leadingChanged:
		case <-again.C:
		case <-giveUp.C:
			return out, err
		case <-ctx.Done():
			return out, err
		case <-n.closing:
			return out, errClosing
		case <-n.latch.done:
			return out, stopped(n.latch.err)
		}
		again.Stop()
	}
}

const leaderPause = 50 * time.Millisecond
