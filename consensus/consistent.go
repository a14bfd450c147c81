package consensus

import (
	"context"

	"github.com/tenement-fleet/tenement/consensus/state"
)

// ConsistentView returns a view that holds everything that was acknowledged, by any
// node, before the call.
func (n *Node) ConsistentView(ctx context.Context) (*state.View, error) {
	return atLeader(ctx, n,
		func() (*state.View, error) {
			term := n.leadsIn()
			v := n.View()
			return v, n.stillLeads(ctx, term)
		},
		func(leader string) (*state.View, error) {
			if n.cfg.ReadIndex == nil {
				return nil, errNotLeader()
			}
			index, err := n.cfg.ReadIndex(ctx, leader)
			if err != nil {
				return nil, err
			}
			if err := n.awaitIndex(ctx, index); err != nil {
				return nil, err
			}
			return n.View(), nil
		})
}

// VerifiedIndex is the leader's side of [Config.ReadIndex]: an index that is not before
// that of anything that was acknowledged before the call.
func (n *Node) VerifiedIndex(ctx context.Context) (uint64, error) {
	term := n.leadsIn()
	index := n.Index()
	return index, n.stillLeads(ctx, term)
}

// stillLeads returns nil if this node leads in the given term, and has led all the time
// since: what it has read of its state since it knew the term was the newest. So the
// order is: term, read, stillLeads, reply.
func (n *Node) stillLeads(ctx context.Context, term uint64) error {
	if term == 0 {
		return errNotLeader()
	}
	if n.several.Load() {
		if err := n.quorum.verify(ctx); err != nil {
			return err
		}
	}
	// Terms only grow: if it is the same now, it was when the others were asked.
	if n.leadsIn() != term {
		return errNotLeader()
	}
	return nil
}
