package consensus

import (
	"context"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// spread tells followers at once what is committed. Raft tells them with the next
// entries, once the follower has those on its disk, and if there are none only after
// CommitTimeout: a write through a follower would take 50 to 100 ms to become visible
// there, and so would a placement to the node that is to start it.
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
	telling := map[raft.ServerID]*atomic.Bool{}
	for {
		select {
		case <-n.spread.applied:
			n.spreadCommit(telling)
		case <-ctx.Done():
			return
		}
	}
}

// spreadCommit tells every other member, each one thing at a time: when it has answered
// we look whether there is more to tell.
func (n *Node) spreadCommit(telling map[raft.ServerID]*atomic.Bool) {
	term, leads := leadingTerm(n.raft)
	commit := n.raft.CommitIndex()
	// Once the barrier of the term is committed, so is an entry of the term, and what is
	// committed last is one.
	if !leads || n.leadsIn() != term {
		return
	}
	for _, s := range n.servers() {
		if string(s.ID) == n.id.ID {
			continue
		}
		busy := telling[s.ID]
		if busy == nil {
			busy = new(atomic.Bool)
			telling[s.ID] = busy
		}
		if busy.Swap(true) {
			continue
		}
		sent := n.quorum.ask(s, term, commit, func(follows bool) {
			busy.Store(false)
			if follows && n.raft.CommitIndex() > commit {
				n.spread.signal()
			}
		})
		if !sent {
			busy.Store(false)
		}
	}
}
