package state

import (
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// DescribeNode is what a node says of itself, at each of its starts: everything of the
// node but its Eligibility, which is the users', and its status, which is the leader's.
// A new node brings an Eligibility. The name of a node that is neither down nor gone is
// refused.
type DescribeNode struct {
	Node api.Node `json:"node"`
}

// SetNode is what users write of a node.
type SetNode struct {
	ID          string          `json:"id"`
	Eligibility api.Eligibility `json:"eligibility"`
	IfMatch     *uint64         `json:"if_match,omitempty"`
}

// NodeStatus is what the leader found out about a node. It has no effect if the status
// that it replaces is not the one of Since: it was found out before something newer.
type NodeStatus struct {
	ID       string         `json:"id"`
	Status   api.NodeStatus `json:"status"`
	Reason   string         `json:"reason,omitempty"`
	At       time.Time      `json:"at"`
	Deadline time.Time      `json:"deadline,omitzero"`
	// Since is the StatusSince of the node as the leader knew it.
	Since time.Time `json:"since,omitzero"`
}

// DeleteNode removes a node that is down or has left, or that has no instances. The
// instances that it had are on no node then.
type DeleteNode struct {
	ID      string  `json:"id"`
	IfMatch *uint64 `json:"if_match,omitempty"`
}

// apply is kept as it was for the logs that hold it.
func (c *PutNode) apply(t *txn) (any, error) {
	n := c.Node
	if have, ok := t.nodes.get(n.ID); ok {
		keepStatus(&n, have.spec)
	}
	return t.putNode(n, needs(c))
}

func (c *DescribeNode) apply(t *txn) (any, error) {
	n := c.Node
	if have, ok := t.nodes.get(n.ID); ok {
		n.Eligibility = have.spec.Eligibility
		keepStatus(&n, have.spec)
	} else {
		keepStatus(&n, &api.Node{})
		if n.Eligibility == "" {
			n.Eligibility = api.EligibilityEligible
		}
	}
	for other := range t.nodes.all() {
		o := other.spec
		if o.Name == n.Name && o.ID != n.ID && o.Reachable() {
			return nil, api.Errorf(api.CodeConflict, "describe node %s: its name %s is that of node %s, which is up", n.ID, n.Name, o.ID)
		}
	}
	return t.putNode(n, needs(c))
}

// keepStatus gives n what the leader has written of it.
func keepStatus(n, have *api.Node) {
	n.Status, n.StatusReason, n.StatusSince, n.Deadline = have.Status, have.StatusReason, have.StatusSince, have.Deadline
}

// putNode stores a description that came in a command of the given version.
func (t *txn) putNode(n api.Node, version int) (*api.Node, error) {
	if n.ID == "" {
		return nil, noKey("node.id")
	}
	if have, used := versionOf(&n), max(t.stateVersion, version); have < used {
		return nil, api.Errorf(api.CodeConflict,
			"describe node %s: it understands version %d of the state, the cluster uses version %d: run a newer ten there",
			n.ID, have, used)
	}
	n.JoinedAt = t.now
	if have, ok := t.nodes.get(n.ID); ok {
		if have.spec.Equal(&n) {
			return have.spec, nil
		}
		n.ID, n.JoinedAt = have.spec.ID, have.spec.JoinedAt
	}
	t.storeNode(&n)
	return &n, nil
}

func (t *txn) storeNode(n *api.Node) {
	n.Revision = t.at
	t.setNode(n)
	t.emit(api.Event{Type: api.EventNodeUpdated, Key: n.ID, Node: n})
}

func (c *SetNode) apply(t *txn) (any, error) {
	have, ok := t.nodes.get(c.ID)
	if !ok {
		return nil, notFound("node", c.ID)
	}
	if err := match(c.IfMatch, have.spec.Revision, "node", c.ID); err != nil {
		return nil, err
	}
	if have.spec.Eligibility == c.Eligibility {
		return have.spec, nil
	}
	n := *have.spec
	n.Eligibility = c.Eligibility
	t.storeNode(&n)
	return &n, nil
}

// apply returns the node as it is then, whether or not the command had an effect.
func (c *NodeStatus) apply(t *txn) (any, error) {
	have, ok := t.nodes.get(c.ID)
	if !ok {
		return nil, notFound("node", c.ID)
	}
	up := c.Status == api.NodeUp
	if !have.spec.StatusSince.Equal(c.Since) || have.spec.Status == c.Status || up && have.spec.Reachable() {
		return have.spec, nil
	}
	n := *have.spec
	n.Status, n.StatusReason, n.StatusSince, n.Deadline = c.Status, c.Reason, c.At, c.Deadline
	if up {
		n.StatusReason, n.Deadline = "", time.Time{}
	}
	t.storeNode(&n)
	return &n, nil
}

func (c *DeleteNode) apply(t *txn) (any, error) {
	have, ok := t.nodes.get(c.ID)
	if !ok {
		return nil, notFound("node", c.ID)
	}
	if err := match(c.IfMatch, have.spec.Revision, "node", c.ID); err != nil {
		return nil, err
	}
	if have.spec.Reachable() && have.instances > 0 {
		return nil, api.Errorf(api.CodeConflict, "remove node %s: it is up and has %d instances: drain it first", c.ID, have.instances)
	}
	for i := range t.moving.all() {
		t.forgetNode(i, c.ID)
	}
	for i := range t.onNode(c.ID) {
		moved := *i
		moved.Node = ""
		t.storeInstance(&moved)
	}
	t.nodes = t.nodes.delete(c.ID)
	t.emit(api.Event{Type: api.EventNodeDeleted, Key: c.ID})
	return have.spec, nil
}

// forgetNode ends the part that a node has in the move of an instance: what it had is gone
// with it.
func (t *txn) forgetNode(i *api.Instance, node string) {
	previous := i.Previous != nil && i.Previous.Node == node
	if !previous && i.DataNode != node {
		return
	}
	moved := *i
	if previous {
		moved.Previous = nil
	}
	if moved.DataNode == node {
		moved.DataNode = ""
	}
	t.storeInstance(&moved)
}
