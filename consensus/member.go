package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Member is a server as Raft knows it.
type Member struct {
	ID, Address   string
	Voter, Leader bool
	// LastLog is the last entry in its log and LastContact when it was asked for it: only
	// the leader knows, the zero value means it has not answered in this term.
	LastLog     uint64
	LastContact time.Time
}

// HeardOf returns when the newest question was sent to which a node has answered, to this
// one as its leader. Raft asks over connections of its own.
func (n *Node) HeardOf(id string) time.Time { return n.quorum.contact(raft.ServerID(id)).at }

// Members returns the servers of the cluster, as far as this node knows.
func (n *Node) Members() []Member {
	_, leader := n.raft.LeaderWithID()
	leads := n.IsLeader()
	servers := n.servers()
	out := make([]Member, len(servers))
	for i, s := range servers {
		out[i] = Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader}
		switch {
		case string(s.ID) == n.id.ID:
			out[i].LastLog, out[i].LastContact = n.raft.LastIndex(), n.LastContact()
		case leads:
			c := n.quorum.contact(s.ID)
			out[i].LastLog, out[i].LastContact = c.lastLog, c.at
		}
	}
	return out
}

func (n *Node) servers() []raft.Server { return n.raft.GetConfiguration().Configuration().Servers }

func (n *Node) server(id string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}

// configWait bounds the wait for Raft to take up a change of the members.
const configWait = 5 * time.Second

// AddMember makes a new server a member without a vote, reachable for Raft at its
// PeerAddress, and stores its description. Only the leader can. To repeat it does no
// harm. It refuses the name of another node that is not down, a server that runs too old
// a version, and an address that belongs to another member.
func (n *Node) AddMember(ctx context.Context, node api.Node) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	node.SetDefaults()
	if err := node.Validate(); err != nil {
		return err
	}
	c := &state.Command{DescribeNode: &state.DescribeNode{Node: node}}
	if res, _ := n.store.Preview(c); res.Err != nil {
		return fmt.Errorf("add member %s: %w", node.Name, res.Err)
	}
	if err := n.addServer(ctx, node.ID, node.PeerAddress); err != nil {
		return fmt.Errorf("add member %s: %w", node.Name, err)
	}
	if _, err := n.propose(ctx, c); err != nil {
		return fmt.Errorf("add member %s: %w", node.Name, err)
	}
	return nil
}

// MoveMember tells Raft the new address of a server that is a member already, and stores
// its description. A server that is none has been removed: it must not come back under
// its old id, which others no longer expect and which may have voted.
func (n *Node) MoveMember(ctx context.Context, node api.Node) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	if _, ok := n.server(node.ID); !ok {
		return api.Errorf(api.CodeConflict, "find member %s: node %s has been removed from the cluster: "+
			"move its data directory away to let it join as a new node", node.Name, node.ID)
	}
	return n.AddMember(ctx, node)
}

func (n *Node) addServer(ctx context.Context, id, address string) error {
	if address == "" {
		return &api.Error{Code: api.CodeInvalid, Message: "its peer_address is empty"}
	}
	for _, s := range n.servers() {
		switch {
		case string(s.ID) == id && string(s.Address) == address:
			return nil
		case string(s.ID) == id && id == n.id.ID:
			return n.change(ctx, func() raft.IndexFuture { return n.raft.AddVoter(s.ID, raft.ServerAddress(address), 0, configWait) })
		case string(s.ID) == id:
			if err := n.forgetAddress(ctx, s); err != nil {
				return err
			}
		case string(s.Address) == address:
			return api.Errorf(api.CodeConflict, "its address %s is that of node %s: remove that first, if it is gone", address, s.ID)
		}
	}
	return n.change(ctx, func() raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, configWait)
	})
}

// forgetAddress takes a server out that has moved, to be added again. Raft could change
// the address of a member, but in v1.8.0 reads it while it does. The member is given its
// vote back once it has been stable for a while.
func (n *Node) forgetAddress(ctx context.Context, s raft.Server) error {
	n.hearMembers(ctx)
	if err := n.removable(s); err != nil {
		return err
	}
	return n.change(ctx, func() raft.IndexFuture { return n.raft.RemoveServer(s.ID, 0, configWait) })
}

// RemoveMember takes a server out of the cluster for good, and its node out of the state.
// Only the leader can; asked to remove itself it hands over and says [ErrNotLeader], so
// that the next one does it. It refuses what would cost the quorum, and a server that is
// up and has instances, unless forced.
func (n *Node) RemoveMember(ctx context.Context, id string, force bool) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	node, described := n.View().Node(id)
	server, member := n.server(id)
	if !described && !member {
		return api.Errorf(api.CodeNotFound, "remove node %s: it does not exist", id)
	}
	if described && !force {
		if res, _ := n.store.Preview(&state.Command{DeleteNode: &state.DeleteNode{ID: id}}); res.Err != nil {
			return res.Err
		}
	}
	if id == n.id.ID {
		return n.removeSelf(ctx)
	}
	if member {
		n.hearMembers(ctx)
		if err := n.removable(server); err != nil {
			return err
		}
		err := n.change(ctx, func() raft.IndexFuture { return n.raft.RemoveServer(server.ID, 0, configWait) })
		if err != nil {
			return fmt.Errorf("remove node %s: %w", id, err)
		}
	}
	if !described {
		return nil
	}
	return n.deleteNode(ctx, node, force)
}

// deleteNode removes a node from the state. If it is forced, one that is up is declared
// down first, for the state gives up the instances of no other.
func (n *Node) deleteNode(ctx context.Context, node *api.Node, force bool) error {
	if force && node.Reachable() {
		now := n.cfg.Now().UTC()
		_, err := n.propose(ctx, &state.Command{NodeStatus: &state.NodeStatus{
			ID: node.ID, Status: api.NodeDown, Reason: "removed by force", At: now, Deadline: now, Since: node.StatusSince,
		}})
		if err != nil {
			return err
		}
	}
	_, err := n.propose(ctx, &state.Command{DeleteNode: &state.DeleteNode{ID: node.ID}})
	if api.CodeOf(err) == api.CodeNotFound {
		return nil
	}
	return err
}

// removeSelf hands over to another server, giving one a vote if there is none that has.
func (n *Node) removeSelf(ctx context.Context) error {
	err := n.TransferLeadership(ctx)
	if errors.Is(err, errNoHeir) {
		members := n.voterCandidates()
		heir, ok := bestHeir(members)
		if !ok {
			return api.Errorf(api.CodeConflict, "remove node %s: it leads, and there is no other that could: %w", n.id.ID, err)
		}
		if err := n.addVote(ctx, string(heir)); err != nil {
			return err
		}
		err = n.TransferLeadership(ctx)
	}
	if err != nil {
		return err
	}
	return errNotLeader()
}

// removable refuses to remove a voter if the rest had no quorum.
func (n *Node) removable(s raft.Server) error {
	if s.Suffrage != raft.Voter {
		return nil
	}
	voters, healthy := 0, 0
	for _, m := range n.voterCandidates() {
		if m.voter && m.id != s.ID {
			voters++
			if m.health == healthyMember {
				healthy++
			}
		}
	}
	if healthy < voters/2+1 {
		return api.Errorf(api.CodeConflict, "remove node %s: of the %d other voting servers only %d answer: "+
			"the cluster would have no quorum", s.ID, voters, healthy)
	}
	return nil
}

// Promote gives a server a vote. The number of voters stays odd: if it would not,
// another loses its vote, and if that could only be the leader, it hands over.
func (n *Node) Promote(ctx context.Context, id string) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	s, ok := n.server(id)
	if !ok {
		return api.Errorf(api.CodeNotFound, "promote node %s: it is not a member", id)
	}
	if s.Suffrage == raft.Voter {
		return nil
	}
	n.hearMembers(ctx)
	members := n.voterCandidates()
	for _, m := range members {
		if m.id == s.ID && (m.health != healthyMember || !m.current) {
			return api.Errorf(api.CodeConflict, "promote node %s: it does not answer, or has not caught up", id)
		}
	}
	if err := n.addVote(ctx, id); err != nil {
		return err
	}
	members = n.voterCandidates()
	if voters(members)%2 == 1 {
		return nil
	}
	if loser, ok := worstVoter(members, s.ID); ok {
		return n.removeVote(ctx, string(loser))
	}
	return n.transferTo(ctx, s.ID)
}

func (n *Node) addVote(ctx context.Context, id string) error {
	s, ok := n.server(id)
	if !ok {
		return api.Errorf(api.CodeNotFound, "give node %s a vote: it is not a member", id)
	}
	err := n.change(ctx, func() raft.IndexFuture { return n.raft.AddVoter(s.ID, s.Address, 0, configWait) })
	if err != nil {
		return fmt.Errorf("give node %s a vote: %w", id, err)
	}
	return nil
}

func (n *Node) removeVote(ctx context.Context, id string) error {
	err := n.change(ctx, func() raft.IndexFuture { return n.raft.DemoteVoter(raft.ServerID(id), 0, configWait) })
	if err != nil {
		return fmt.Errorf("take the vote of node %s: %w", id, err)
	}
	return nil
}

// change has Raft change its members, one change at a time.
func (n *Node) change(ctx context.Context, begin func() raft.IndexFuture) error {
	err := n.call(ctx, func() error { return begin().Error() })
	n.countServers()
	return err
}

// call waits for what Raft answers, but not longer than ctx or the node last.
func (n *Node) call(ctx context.Context, f func() error) error {
	if err := n.takeSlot(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { // ends when Raft answers; Close waits for its slot
		err := f()
		<-n.slots
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return raftError(err)
		}
		return nil
	case <-ctx.Done():
		return waited(ctx, "wait for raft, which may still do it")
	case <-n.latch.done:
		return stopped(n.latch.err)
	}
}

// errNoHeir is wrapped when no other server could lead.
var errNoHeir = errors.New("no other voting server answers")

// transferWait bounds each attempt to hand over. Raft's own bound is its election
// time-out.
const transferWait = 2 * time.Second

// TransferLeadership hands over to the voter that is most up to date, and returns once
// this node no longer leads.
func (n *Node) TransferLeadership(ctx context.Context) error {
	if !n.IsLeader() {
		return errNotLeader()
	}
	n.hearMembers(ctx)
	heir, ok := heirOf(n.voterCandidates())
	if !ok {
		return api.Errorf(api.CodeConflict, "transfer leadership: %w", errNoHeir)
	}
	return n.transferTo(ctx, heir)
}

func (n *Node) transferTo(ctx context.Context, heir raft.ServerID) error {
	s, ok := n.server(string(heir))
	if !ok {
		return api.Errorf(api.CodeNotFound, "transfer leadership to %s: it is not a member", heir)
	}
	ctx, cancel := context.WithTimeout(ctx, transferWait)
	defer cancel()
	err := n.call(ctx, func() error { return n.raft.LeadershipTransferToServer(s.ID, s.Address).Error() })
	if err != nil {
		return fmt.Errorf("transfer leadership to %s: %w", heir, err)
	}
	return nil
}

// countServers notes whether there is anybody else to be told things.
func (n *Node) countServers() { n.several.Store(len(n.servers()) > 1) }
