package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/peering"
)

// member is this node as the other ones may use it.
type member struct{ *node }

// Ping implements peering.Node.
func (m member) Ping() peering.Pong {
	id, _, _ := m.consensus.Leader()
	return peering.Pong{NodeID: m.consensus.ID(), Term: m.consensus.Term(), Index: m.consensus.Index(), Leader: id}
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
	err := m.consensus.AddMember(ctx, req.Node)
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

// RemoveMember implements peering.Node.
func (m member) RemoveMember(ctx context.Context, id string, force bool) error {
	return m.consensus.RemoveMember(asNode(ctx, m.consensus), id, force)
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
type prober struct{ client *peering.Client }

// Ping implements leader.Prober.
func (p prober) Ping(ctx context.Context, id string) error {
	_, err := p.client.Ping(ctx, id)
	if err != nil && errors.Is(err, transport.ErrRefused) {
		return fmt.Errorf("%w: %w", leader.ErrRefused, err)
	}
	return err
}

// toPeers is the peer port as the proxy wants it.
type toPeers struct{ port *transport.Transport }

// Dial implements proxy.Peers.
func (t toPeers) Dial(ctx context.Context, id string, http2 bool) (net.Conn, error) {
	if http2 {
		return t.port.DialHTTP2(ctx, id)
	}
	return t.port.DialHTTP1(ctx, id)
}
