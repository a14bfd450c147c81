package consensus

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// View returns the current version of the state, without a lock.
func (n *Node) View() *state.View { return n.store.View() }

// Index returns the index of the last command that changed the state here. Waiting for
// it on another node makes that node's reads as fresh as this one's.
func (n *Node) Index() uint64 { return n.View().Index() }

// Events returns what happened after an index; see [state.Store.Events].
func (n *Node) Events(after uint64) (events []api.Event, changed <-chan struct{}, ok bool) {
	return n.store.Events(after)
}

// WaitIndex returns a view whose index is greater than index, as soon as there is one.
// If ctx ends, or the node closes, before that, it returns the current view and an error.
func (n *Node) WaitIndex(ctx context.Context, index uint64) (*state.View, error) {
	for {
		v := n.View()
		if v.Index() > index {
			return v, nil
		}
		select {
		case <-v.Changed():
		case <-ctx.Done():
			return v, waited(ctx, "wait for a change")
		case <-n.closing:
			return v, errClosing
		}
	}
}
