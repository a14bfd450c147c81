package state

import "github.com/tenement-fleet/tenement/api"

// StateVersion is the newest version of the commands that this build understands. A
// command, or a field of one, that an older build does not know makes a new version:
// such a build can't read it, and stops. [View.Allows] keeps it from being written.
const StateVersion = 3

// Needs returns the state version that a node must understand to read the command.
func (c *Command) Needs() int {
	op := c.operation()
	if op == nil {
		return 1
	}
	return needs(op)
}

func needs(op operation) int {
	isNew := true // what has no case here came with version 2
	switch c := op.(type) {
	case *InitCluster, *DeleteService, *DeleteInstance, *DeleteToken:
		isNew = false
	case *PutToken:
		isNew = c.IfMatch != nil
	case *PutService:
		return serviceNeeds(&c.Service)
	case *PutInstance:
		isNew = newInstance(&c.Instance)
	case *PutNode:
		isNew = newNode(&c.Node)
	case *Place:
		isNew = false
		for i := range c.Placements {
			isNew = isNew || c.Placements[i].KeepPrevious || c.Placements[i].Node == ""
		}
	case *Report:
		isNew = false
		for i := range c.Reports {
			isNew = isNew || c.Reports[i].DataHere
		}
	case *SyncFile:
		least := since(2, c.Node != "")
		for i := range c.Services {
			least = max(least, serviceNeeds(&c.Services[i]))
		}
		return least
	}
	return since(2, isNew)
}

// since returns the version if the command has what came with it.
func since(version int, has bool) int {
	if has {
		return version
	}
	return 1
}

func serviceNeeds(s *api.Service) int {
	return max(since(2, s.Placement != nil || s.OnDisconnect != "" || s.SourceNode != ""), since(3, len(s.SecretEnv) > 0))
}

func newInstance(i *api.Instance) bool {
	return i.Pin != "" || i.SourceNode != "" || i.Fleet != "" || i.Previous != nil || i.DataNode != ""
}

func newNode(n *api.Node) bool {
	return n.StateVersion != 0 || n.HTTPAddress != "" || n.PeerAddress != "" || n.GossipAddress != "" ||
		n.Capacity.Storage != 0 || len(n.SecretIDs) > 0 ||
		n.Status != "" || n.StatusReason != "" || !n.StatusSince.IsZero() || !n.Deadline.IsZero()
}

// versionOf returns the state version that a node understands.
func versionOf(n *api.Node) int { return max(1, n.StateVersion) }

// StateVersion returns the state version that a node must understand to be part of the
// cluster: the newest that any command has needed so far.
func (v *View) StateVersion() int { return max(1, v.stateVersion) }

// MinStateVersion returns the state version that every node of the cluster understands.
func (v *View) MinStateVersion() int {
	least := StateVersion
	for n := range v.Nodes() {
		least = min(least, versionOf(n))
	}
	return least
}

// Allows returns an error that names a node which is too old to read the command, if
// there is one. Such a command must not be proposed.
func (v *View) Allows(c *Command) error {
	needs := c.Needs()
	if needs <= v.StateVersion() {
		return nil // nodes that can't read what is there already are not let in
	}
	for n := range v.Nodes() {
		// A node that is about to say how new it is counts as what it says: else an old
		// cluster of one could never become a new one.
		if d := c.describes(); d != nil && d.ID == n.ID {
			n = d
		}
		if have := versionOf(n); have < needs {
			return api.Errorf(api.CodeConflict,
				"propose command: it needs version %d of the state, node %s (%s) understands version %d: run a newer ten there, or remove it",
				needs, n.Name, n.ID, have)
		}
	}
	return nil
}

// describes returns the node that the command describes, nil if it is about something else.
func (c *Command) describes() *api.Node {
	switch {
	case c.DescribeNode != nil:
		return &c.DescribeNode.Node
	case c.PutNode != nil:
		return &c.PutNode.Node
	default:
		return nil
	}
}
