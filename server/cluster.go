package server

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/gossip"
	"github.com/tenement-fleet/tenement/consensus/schedule"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/server/httpapi"
)

// members is the cluster's servers as the HTTP API wants them.
type members struct{ *node }

// statusWait bounds the wait for what other nodes say of themselves.
const statusWait = time.Second

// Status implements httpapi.Members: what the state holds, and what the nodes that
// answer in time say at this moment.
func (m members) Status(ctx context.Context) api.ClusterStatus {
	v := m.consensus.View()
	leader, _, _ := m.consensus.Leader()
	out := api.ClusterStatus{
		ID: m.consensus.ClusterID(), Node: m.consensus.ID(), Leader: leader, Index: v.Index(), Stale: m.stale(), Members: []api.Member{},
	}
	roles := m.roles()
	for n := range v.Nodes() {
		one := api.Member{Node: *n, Role: roles[n.ID], Instances: v.InstanceCountOn(n.ID)}
		m.addGossip(&one)
		out.Members = append(out.Members, one)
	}
	m.askIndexes(ctx, out.Members)
	return out
}

func (m members) roles() map[string]api.MemberRole {
	out := make(map[string]api.MemberRole)
	for _, r := range m.consensus.Members() {
		switch {
		case r.Leader:
			out[r.ID] = api.MemberLeader
		case r.Voter:
			out[r.ID] = api.MemberVoter
		default:
			out[r.ID] = api.MemberNonvoter
		}
	}
	return out
}

func (m members) addGossip(one *api.Member) {
	one.Gossip = "unknown"
	g := m.peers.gossip.Load()
	if g == nil {
		return
	}
	seen, ok := g.Member(one.ID)
	if !ok {
		return
	}
	one.Gossip, one.GossipReason, one.GossipSince = string(seen.State), seen.Reason, seen.Since
	for _, p := range seen.Problems {
		if one.GossipReason != "" {
			one.GossipReason += "; "
		}
		one.GossipReason += p.Detail
	}
	if seen.State == gossip.StateAlive && one.GossipReason == "" {
		one.GossipSince = time.Time{}
	}
}

// askIndexes fills in how far the nodes are that answer in time.
func (m members) askIndexes(ctx context.Context, all []api.Member) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	var wg sync.WaitGroup
	for i := range all {
		one := &all[i]
		if one.ID == m.consensus.ID() {
			one.Index = m.consensus.Index()
			continue
		}
		if !one.Reachable() {
			continue
		}
		wg.Go(func() {
			if pong, err := m.peers.client.Ping(ctx, one.ID); err == nil {
				one.Index = pong.Index
			}
		})
	}
	wg.Wait()
	var newest uint64
	for _, one := range all {
		newest = max(newest, one.Index)
	}
	for i := range all {
		if all[i].Index > 0 {
			all[i].Lag = newest - all[i].Index
		}
	}
}

// Eligibility implements httpapi.Members.
func (m members) Eligibility(ctx context.Context, id string, e api.Eligibility, ifMatch *uint64) (*api.Node, error) {
	return m.consensus.SetNode(asCaller(ctx, m.consensus), id, e, ifMatch)
}

// Remove implements httpapi.Members.
func (m members) Remove(ctx context.Context, id string, force bool) error {
	ctx = asCaller(ctx, m.consensus)
	return m.atLeader(ctx, func() error { return member(m).RemoveMember(ctx, id, force) },
		func(leader string) error { return m.peers.client.RemoveMember(ctx, leader, id, force) })
}

// Promote implements httpapi.Members.
func (m members) Promote(ctx context.Context, id string) error {
	ctx = asCaller(ctx, m.consensus)
	return m.atLeader(ctx, func() error { return m.consensus.Promote(ctx, id) },
		func(leader string) error { return m.peers.client.Promote(ctx, leader, id) })
}

// leaderTries bounds how often a new leader is asked for what the last one was no longer
// the one to do.
const leaderTries = 20

// atLeader calls local where the leader is, again while that changes.
func (n *node) atLeader(ctx context.Context, local func() error, remote func(leader string) error) error {
	for try := 1; ; try++ {
		err := errNoLeader()
		if n.consensus.IsLeader() {
			err = local()
		} else if id, _, ok := n.consensus.Leader(); ok && id != n.consensus.ID() {
			err = remote(id)
		} else {
			err = errors.Join(consensus.ErrNotLeader, err)
		}
		if !errors.Is(err, consensus.ErrNotLeader) && !errors.Is(err, consensus.ErrNotSent) || try == leaderTries {
			return err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func errNoLeader() error {
	return &api.Error{Code: api.CodeUnavailable, Message: "there is no leader at the moment", RetryAfter: api.Seconds(1)}
}

// Plan implements httpapi.Members. Only the leader knows of leases: elsewhere those of
// cut-off nodes count as not ended.
func (m members) Plan(_ context.Context, r api.PlanRequest) (api.PlanResult, error) {
	return schedule.Explain(m.consensus.View(), m.now().UTC(), endedLeases{leading{m.consensus}}, r)
}

// endedLeases adapts consensus to what the planner asks.
type endedLeases struct{ leading }

// Ended implements schedule.Leases.
func (l endedLeases) Ended(id string, now time.Time) bool { return l.LeaseEnded(id, now) }

// maxTokenAddresses is how many servers a join token names.
const maxTokenAddresses = 8

// CreateJoinToken implements httpapi.Members. The token holds a ticket, never the secret.
func (m members) CreateJoinToken(ctx context.Context, r api.JoinTokenRequest) (api.CreatedJoinToken, error) {
	ticket, err := secret.NewTicket(rand.Reader)
	if err != nil {
		return api.CreatedJoinToken{}, err
	}
	hash := ticket.Hash()
	t := &api.JoinToken{ID: ticket.ID(), Description: r.Description, SHA256: hash[:], MaxUses: r.MaxUses}
	if r.ExpiresIn > 0 {
		t.ExpiresAt = m.now().UTC().Add(r.ExpiresIn.Std())
	}
	stored, err := m.consensus.PutJoinToken(asCaller(ctx, m.consensus), t)
	if err != nil {
		return api.CreatedJoinToken{}, err
	}
	text, err := secret.JoinToken{Addresses: m.addresses(), CA: m.peers.keyring.CAs()[0].Fingerprint(), Ticket: ticket}.Reveal()
	if err != nil {
		return api.CreatedJoinToken{}, err
	}
	out := api.CreatedJoinToken{JoinToken: *stored, Text: text}
	out.SHA256 = nil
	return out, nil
}

// addresses returns where those who join can ask, this node first.
func (m members) addresses() []string {
	out := []string{m.peers.peerAddress()}
	for n := range m.consensus.View().Nodes() {
		if n.PeerAddress != "" && n.Reachable() && !slices.Contains(out, n.PeerAddress) && len(out) < maxTokenAddresses {
			out = append(out, n.PeerAddress)
		}
	}
	return out
}

// DeleteJoinToken implements httpapi.Members.
func (m members) DeleteJoinToken(ctx context.Context, id string) error {
	_, err := m.consensus.DeleteJoinToken(asCaller(ctx, m.consensus), id)
	return err
}

// stale reports whether the node has lost the leader.
func (n *node) stale() bool {
	_, _, ok := n.consensus.Leader()
	return !ok
}

// consistent returns a view that holds everything that was acknowledged before.
func (n *node) consistent(ctx context.Context) (httpapi.View, error) {
	v, err := n.consensus.ConsistentView(ctx)
	if err != nil {
		return nil, err
	}
	return v, nil
}
