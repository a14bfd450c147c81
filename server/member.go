package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/peering"
)

// member is this node as the other ones may use it.
type member struct{ *node }

// Knows implements peering.Node. Raft knows of a member before the state does, also after
// a restart, and the state of one that is just being moved when Raft does not.
func (m member) Knows(id string) bool {
	if _, ok := m.consensus.View().Node(id); ok {
		return true
	}
	return slices.ContainsFunc(m.consensus.Members(), func(r consensus.Member) bool { return r.ID == id })
}

// Ping implements peering.Node.
func (m member) Ping() peering.Pong {
	id, _, _ := m.consensus.Leader()
	return peering.Pong{
		NodeID: m.consensus.ID(), Term: m.consensus.Term(), Index: m.consensus.Index(), Leader: id, Leaving: m.leaving.Load(),
	}
}

// Join implements peering.Node: what is not the leader's passes the request on.
func (m member) Join(ctx context.Context, from string, req peering.JoinRequest) (peering.JoinAnswer, error) {
	if own := m.consensus.ClusterID(); req.ClusterID != "" && req.ClusterID != own {
		return peering.JoinAnswer{}, api.Errorf(api.CodeConflict, "join cluster: node %s belongs to cluster %s, this is cluster %s: "+
			"move its data directory away to let it join as a new node", req.Node.Name, req.ClusterID, own)
	}
	if req.Node.ID != from {
		if _, known := m.consensus.View().Node(from); !known {
			return peering.JoinAnswer{}, api.Errorf(api.CodeForbidden, "join cluster: node %s asks for node %s", from, req.Node.ID)
		}
	}
	err := m.admit(ctx, req)
	if api.CodeOf(err) == api.CodeConflict && m.giveUpName(ctx, req.Node) {
		err = m.admit(ctx, req)
	}
	if errors.Is(err, consensus.ErrNotLeader) {
		return m.joinAtLeader(ctx, req)
	}
	if err != nil {
		return peering.JoinAnswer{}, err
	}
	m.log.Info("node joins", "node", req.Node.ID, "name", req.Node.Name, "address", req.Node.PeerAddress)
	answer := peering.JoinAnswer{ClusterID: m.consensus.ClusterID()}
	for n := range m.consensus.View().Nodes() {
		answer.Nodes = append(answer.Nodes, *n)
	}
	return answer, nil
}

// admit makes a server a member, or moves one that is to its new address. While it is
// moved Raft may have lost it; only the state tells that it was not removed.
func (m member) admit(ctx context.Context, req peering.JoinRequest) error {
	for _, r := range m.consensus.Members() {
		if r.ID == req.Node.ID {
			return m.consensus.MoveMember(ctx, req.Node)
		}
	}
	if req.Moves && m.consensus.IsLeader() && !m.Knows(req.Node.ID) {
		return api.Errorf(api.CodeConflict, "move member %s: node %s has been removed from the cluster: "+
			"move its data directory away to let it join as a new node", req.Node.Name, req.Node.ID)
	}
	return m.consensus.AddMember(ctx, req.Node)
}

// announceMove tells the leader where this node is, if Raft has another address for it:
// it was started at a new one.
func (n *node) announceMove(ctx context.Context) {
	for ctx.Err() == nil {
		moved := false
		for _, r := range n.consensus.Members() {
			moved = moved || r.ID == n.consensus.ID() && r.Address != n.peers.peerAddress()
		}
		self, known := n.consensus.View().Node(n.consensus.ID())
		if !known || !moved && self.GossipAddress == n.peers.gossipAddress() {
			return
		}
		said := self.Clone()
		said.PeerAddress, said.GossipAddress = n.peers.peerAddress(), n.peers.gossipAddress()
		if !moved {
			if _, err := n.consensus.DescribeNode(asNode(ctx, n.consensus), *said); err == nil {
				return
			}
		}
		err := n.atLeader(ctx, func() error { return n.consensus.MoveMember(ctx, *said) },
			func(leader string) error {
				_, err := n.peers.client.Join(ctx, leader, peering.JoinRequest{Node: *said, ClusterID: n.consensus.ClusterID(), Moves: true})
				return err
			})
		if err == nil {
			return
		}
		n.log.Warn("the cluster has an old address of this server, trying again", "error", err)
		select {
		case <-time.After(gossipRetry):
		case <-ctx.Done():
		}
	}
}

// giveUpName declares the node down that has the name of one that joins, if it does not
// answer: a server that was set up anew comes with its old name before anybody has missed
// it. It reports whether the name is free now.
func (m member) giveUpName(ctx context.Context, joins api.Node) bool {
	for n := range m.consensus.View().Nodes() {
		if n.Name != joins.Name || n.ID == joins.ID || !n.Reachable() {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, statusWait)
		_, err := m.peers.client.Ping(ask, n.ID)
		cancel()
		if err == nil {
			return false
		}
		now := m.now().UTC()
		m.log.Warn("a server joins under the name of one that does not answer, which is down now", "name", n.Name, "node", n.ID, "error", err)
		return m.consensus.SetNodeStatus(ctx, state.NodeStatus{
			ID: n.ID, Status: api.NodeDown, Reason: "another server has joined under its name, and it did not answer", At: now, Deadline: now,
			Since: n.StatusSince,
		}) == nil
	}
	return false
}

func (m member) joinAtLeader(ctx context.Context, req peering.JoinRequest) (peering.JoinAnswer, error) {
	id, _, ok := m.consensus.Leader()
	if !ok || id == m.consensus.ID() {
		return peering.JoinAnswer{}, &api.Error{Code: api.CodeUnavailable, Message: "join cluster: it has no leader at the moment", RetryAfter: api.Seconds(1)}
	}
	return m.peers.client.Join(ctx, id, req)
}

// Leave implements peering.Node.
func (m member) Leave(ctx context.Context, id string) error {
	n, ok := m.consensus.View().Node(id)
	if !ok {
		return api.Errorf(api.CodeNotFound, "leave: node %s is not known", id)
	}
	return m.consensus.SetNodeStatus(ctx, state.NodeStatus{
		ID: id, Status: api.NodeLeft, Reason: "was stopped, and is expected back", At: m.now().UTC(), Since: n.StatusSince,
	})
}

// Authorize implements peering.Node.
func (m member) Authorize(from string, actor consensus.Actor) error {
	return m.consensus.AuthorizeActor(from, actor)
}

// RemoveMember implements peering.Node.
func (m member) RemoveMember(ctx context.Context, id string, force bool) error {
	address, known := m.addressOf(id)
	if err := m.consensus.RemoveMember(asNode(ctx, m.consensus), id, force); err != nil {
		return err
	}
	if known { // the state no longer does
		m.peers.learned([]api.Node{{ID: id, PeerAddress: address}})
		if err := bounded(ctx, leaveWait, func(ctx context.Context) error { return m.tellRemoved(ctx, id) }); err != nil {
			m.log.Info("the removed node does not hear of it, which is no harm if it is gone", "node", id, "error", err)
		}
		m.peers.port.Disconnect(id)
	}
	return nil
}

// tellRemoved tells a node that it has been removed, again while that knows another leader.
func (m member) tellRemoved(ctx context.Context, id string) error {
	for {
		err := m.peers.client.Removed(ctx, id)
		if api.CodeOf(err) != api.CodeUnavailable {
			return err
		}
		select {
		case <-time.After(removedPause):
		case <-ctx.Done():
			return err
		}
	}
}

const removedPause = 100 * time.Millisecond

// Removed implements peering.Node. Only a leader removes, and never itself: this node
// believes no other node while it knows who leads.
func (m member) Removed(from string) error {
	leader, _, ok := m.consensus.Leader()
	if ok && leader != from {
		return &api.Error{
			Code: api.CodeUnavailable, RetryAfter: api.Seconds(1),
			Message: fmt.Sprintf("remove this node: node %s does not lead, as far as this one knows: node %s does", from, leader),
		}
	}
	m.removedOnce.Do(func() { close(m.removed) })
	return nil
}

// Promote implements peering.Node.
func (m member) Promote(ctx context.Context, id string) error { return m.consensus.Promote(ctx, id) }

// ApplyForwarded implements peering.Node.
func (m member) ApplyForwarded(ctx context.Context, from string, batch []consensus.Forwarded) []consensus.ForwardResult {
	return m.consensus.ApplyForwarded(ctx, from, batch)
}

// VerifiedIndex implements peering.Node.
func (m member) VerifiedIndex(ctx context.Context) (uint64, error) {
	return m.consensus.VerifiedIndex(ctx)
}

// GrantLease implements peering.Node.
func (m member) GrantLease(ctx context.Context, id string) error {
	return m.consensus.GrantLease(ctx, id)
}

// LeaseEnded implements peering.Node. A leader that was replaced does not know of the
// leases of the next one: it proves, after it has looked, that it still leads.
func (m member) LeaseEnded(ctx context.Context, id string) (bool, error) {
	ended := m.consensus.LeaseEnded(id, m.now())
	_, err := m.consensus.VerifiedIndex(ctx)
	return ended && err == nil, err
}

// leaseEnded asks the leader whether a node's lease has certainly ended.
func (n *node) leaseEnded(ctx context.Context, id string) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseAsk)
	defer cancel()
	err = n.atLeader(ctx, func() (err error) { ended, err = member{n}.LeaseEnded(ctx, id); return err },
		func(leader string) (err error) { ended, err = n.peers.client.LeaseEnded(ctx, leader, id); return err })
	return ended, err
}

// redeem accepts the ticket of a join token.
func (n *node) redeem(ctx context.Context, id string, hash [32]byte) error {
	t, ok := n.consensus.View().JoinToken(id)
	if !ok || subtle.ConstantTimeCompare(t.SHA256, hash[:]) != 1 {
		return api.Errorf(api.CodeUnauthenticated, "redeem join token: it is not known: it was revoked, or is of another cluster")
	}
	if _, err := n.consensus.UseJoinToken(asNode(ctx, n.consensus), id); err != nil {
		return err
	}
	n.log.Info("join token used", "token", id)
	return nil
}

// leave tells the others that this node stops and comes back.
func (n *node) leave(ctx context.Context) error {
	if len(n.consensus.Members()) < 2 {
		return nil
	}
	if n.consensus.IsLeader() {
		return member{n}.Leave(ctx, n.consensus.ID())
	}
	id, _, ok := n.consensus.Leader()
	if !ok {
		return errors.New("tell the leader that this node stops: there is none")
	}
	return n.peers.client.Leave(ctx, id)
}

// leading is consensus as the leader's work wants it.
type leading struct{ *consensus.Node }

// prober reaches the nodes for the leader.
type prober struct {
	client *peering.Client
	heard  func(id string) time.Time // when the newest question was sent that a node has answered
	now    func() time.Time
}

// Ping implements leader.Prober. Where many packets are lost a connection can hang for
// seconds; what the node has answered meanwhile over another one counts as much. A node
// that has said that it leaves still finishes the requests it has, and is not to be taken
// for one that is back.
func (p prober) Ping(ctx context.Context, id string) error {
	begin := p.now()
	pong, err := p.client.Ping(ctx, id)
	switch {
	case err == nil && pong.Leaving:
		return errLeaving
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrRefused):
		return fmt.Errorf("%w: %w", leader.ErrRefused, err)
	case !p.heard(id).Before(begin):
		return nil
	default:
		return err
	}
}

var errLeaving = errors.New("ping: the node is stopping")

// toPeers is the peer port as the proxy wants it.
type toPeers struct{ port *transport.Transport }

// Dial implements proxy.Peers.
func (t toPeers) Dial(ctx context.Context, id string, http2 bool) (net.Conn, error) {
	if http2 {
		return t.port.DialHTTP2(ctx, id)
	}
	return t.port.DialHTTP1(ctx, id)
}
