package consensus

import (
	"context"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// spread tells followers at once what is committed. Raft tells them with the next
// entries, and if there are none only after CommitTimeout: a write through a follower
// would take 50 to 100 ms to become visible there, and so would a placement to the node
// that is to start it. While entries flow there is nothing to tell.
type spread struct {
	applied chan struct{} // takes one: something has been applied since
}

func newSpread() *spread { return &spread{applied: make(chan struct{}, 1)} }

// signal says that something was applied. It does not wait.
func (s *spread) signal() {
	select {
	case s.applied <- struct{}{}:
	default:
	}
}

func (n *Node) spreadCommits(ctx context.Context) {
	told := map[raft.ServerID]*atomic.Uint64{}
	for {
		select {
		case <-n.spread.applied:
			n.spreadCommit(told)
		case <-ctx.Done():
			return
		}
	}
}

// spreadCommit tells every other member that has not been told. Each is asked one thing
// at a time; the answer looks whether there is more to tell.
func (n *Node) spreadCommit(told map[raft.ServerID]*atomic.Uint64) {
	commit := n.raft.CommitIndex()
	// Once the barrier of the term is committed, so is nothing but entries of the term.
	if !n.IsLeader() || commit != n.raft.LastIndex() {
		return
	}
	term, ok := leadingTerm(n.raft)
	if !ok {
		return
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.ID == raft.ServerID(n.id.ID) {
			continue
		}
		telling := told[s.ID]
		if telling == nil {
			telling = new(atomic.Uint64)
			told[s.ID] = telling
		}
		if !telling.CompareAndSwap(0, commit) {
			continue // its answer will look again
		}
		sent := n.quorum.ask(s, term, commit, func(follows bool) {
			telling.Store(0)
			if follows && n.raft.CommitIndex() > commit {
				n.spread.signal()
			}
		})
		if !sent {
			telling.Store(0)
		}
	}
}
