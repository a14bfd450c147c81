package consensus

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// DescribeNode stores what a node says of itself; see [state.DescribeNode].
func (n *Node) DescribeNode(ctx context.Context, node api.Node) (*api.Node, error) {
	node.SetDefaults()
	if err := node.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Node](n.submit(ctx, &state.Command{DescribeNode: &state.DescribeNode{Node: node}}, n.propose))
}

// SetNode stores what users write of a node.
func (n *Node) SetNode(ctx context.Context, id string, e api.Eligibility, ifMatch *uint64) (*api.Node, error) {
	node := api.Node{ID: id, Name: "any", Eligibility: e}
	if err := node.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Node](n.submit(ctx, &state.Command{SetNode: &state.SetNode{ID: id, Eligibility: e, IfMatch: ifMatch}}, n.propose))
}

// SetNodeStatus stores what the leader found out about a node. Only the leader can.
func (n *Node) SetNodeStatus(ctx context.Context, s state.NodeStatus) error {
	_, err := n.propose(ctx, &state.Command{NodeStatus: &s})
	return err
}

// EndMove ends what a placement with KeepPrevious began. Only the leader can.
func (n *Node) EndMove(ctx context.Context, move state.EndMove) error {
	_, err := n.propose(ctx, &state.Command{EndMove: &move})
	return err
}

// PutFleet creates or replaces a fleet, and with it its members; see [Node.PutService].
func (n *Node) PutFleet(ctx context.Context, f *api.Fleet, ifMatch *uint64) (*api.Fleet, error) {
	c := *f
	c.SetDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Fleet](n.submit(ctx, &state.Command{PutFleet: &state.PutFleet{Fleet: c, IfMatch: ifMatch}}, n.propose))
}

// DeleteFleet removes a fleet and its members, and returns the index at which they are
// gone.
func (n *Node) DeleteFleet(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	if err := ref.Validate(); err != nil {
		return 0, err
	}
	res, err := n.submit(ctx, &state.Command{DeleteFleet: &state.DeleteFleet{Ref: ref, IfMatch: ifMatch}}, n.propose)
	return res.Index, err
}

// PutRoute creates or replaces a route; see [Node.PutService].
func (n *Node) PutRoute(ctx context.Context, r *api.Route, ifMatch *uint64) (*api.Route, error) {
	c := r.Clone()
	c.SetDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Route](n.submit(ctx, &state.Command{PutRoute: &state.PutRoute{Route: *c, IfMatch: ifMatch}}, n.propose))
}

// DeleteRoute removes a route, and returns the index at which it is gone.
func (n *Node) DeleteRoute(ctx context.Context, name string, ifMatch *uint64) (uint64, error) {
	res, err := n.submit(ctx, &state.Command{DeleteRoute: &state.DeleteRoute{Name: name, IfMatch: ifMatch}}, n.propose)
	return res.Index, err
}

// PutJoinToken creates or replaces a join token; see [Node.PutService].
func (n *Node) PutJoinToken(ctx context.Context, t *api.JoinToken) (*api.JoinToken, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.JoinToken](n.submit(ctx, &state.Command{PutJoinToken: &state.PutJoinToken{Token: *t}}, n.propose))
}

// DeleteJoinToken removes a join token, and returns the index at which it is gone.
func (n *Node) DeleteJoinToken(ctx context.Context, id string) (uint64, error) {
	res, err := n.submit(ctx, &state.Command{DeleteJoinToken: &state.DeleteJoinToken{ID: id}}, n.propose)
	return res.Index, err
}

// UseJoinToken counts one use of a join token, or says why it may not be used.
func (n *Node) UseJoinToken(ctx context.Context, id string) (*api.JoinToken, error) {
	c := &state.Command{UseJoinToken: &state.UseJoinToken{ID: id, At: n.cfg.Now().UTC()}}
	return stored[*api.JoinToken](n.submit(ctx, c, n.propose))
}

// PutSecret takes the rotation of the cluster's secret a step on.
func (n *Node) PutSecret(ctx context.Context, s state.PutSecret) (*state.Secret, error) {
	return stored[*state.Secret](n.submit(ctx, &state.Command{PutSecret: &s}, n.propose))
}

// PutSealed stores a value that the state can't read.
func (n *Node) PutSealed(ctx context.Context, s state.PutSealed) error {
	_, err := n.submit(ctx, &state.Command{PutSealed: &s}, n.propose)
	return err
}
