package consensus

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
)

// What autopilot goes by, unless Config says otherwise.
const (
	DefaultStabilization = 10 * time.Second // healthy for as long before it is given a vote
	DefaultDeadAfter     = 10 * time.Second // without an answer before its vote is taken away
	doubtAfter           = 3 * time.Second
	maxLag               = 4096 // entries behind the leader that still count as caught up
)

// autopilot remembers, while this node leads, since when which member has been healthy.
type autopilot struct {
	mu           sync.Mutex
	healthySince map[raft.ServerID]time.Time
}

func (p *autopilot) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healthySince = map[raft.ServerID]time.Time{}
}

// stable notes the health of a member, and reports whether it has been good for long
// enough.
func (p *autopilot) stable(id raft.ServerID, h memberHealth, now time.Time, enough time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.healthySince[id]
	switch {
	case h != healthyMember:
		delete(p.healthySince, id)
		return false
	case !ok:
		since = now
		p.healthySince[id] = now
	}
	return now.Sub(since) >= enough
}

// healthOf judges a member by when it last answered; the zero time is never. Nobody can
// have answered before the term began.
func healthOf(now, answered, began time.Time, dead time.Duration) memberHealth {
	silent := now.Sub(began)
	if !answered.IsZero() {
		silent = now.Sub(answered)
	}
	switch {
	case silent >= dead:
		return deadMember
	case silent >= min(doubtAfter, dead/2) || answered.IsZero():
		return doubtfulMember
	default:
		return healthyMember
	}
}

// lookAfterVoters runs until ctx ends: it asks all members how they are, and while this
// node leads it makes one change at a time.
func (n *Node) lookAfterVoters(ctx context.Context) {
	t := time.NewTicker(n.cfg.lookEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		n.countServers()
		n.noticeRemoval()
		if !n.IsLeader() {
			n.pilot.reset()
			continue
		}
		n.correctAddress(ctx)
		n.askMembers()
		change, ok := nextVoterChange(n.voterCandidates())
		if !ok {
			continue
		}
		n.cfg.Logger.Info("changing who votes", "node", change.id, "vote", change.promote)
		if err := n.changeVoter(ctx, change); err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("could not change who votes", "node", change.id, "vote", change.promote, "error", err)
		}
	}
}

// correctAddress tells the others where this node, which leads, is reached, if it has
// moved. A cluster of one has an address that nobody could reach, until it has a
// transport.
func (n *Node) correctAddress(ctx context.Context) {
	s, ok := n.server(n.id.ID)
	if address := n.cfg.Transport.LocalAddr(); ok && s.Address != address {
		ctx, cancel := context.WithTimeout(ctx, configWait)
		defer cancel()
		if err := n.addServer(ctx, n.id.ID, string(address)); err != nil {
			n.cfg.Logger.Warn("could not tell the others the new address of this node", "address", address, "error", err)
		}
	}
}

func (n *Node) changeVoter(ctx context.Context, c voterChange) error {
	ctx, cancel := context.WithTimeout(ctx, configWait)
	defer cancel()
	if c.promote {
		return n.addVote(ctx, string(c.id))
	}
	return n.removeVote(ctx, string(c.id))
}

// askMembers has every other member say how far it is, and returns a channel that is
// closed when all have answered, or can't.
func (n *Node) askMembers() <-chan struct{} {
	done := make(chan struct{})
	var pending atomic.Int64
	answered := func(bool) {
		if pending.Add(-1) == 0 {
			close(done)
		}
	}
	pending.Add(1) // so that it ends when the last has been asked
	if term, ok := leadingTerm(n.raft); ok {
		for _, s := range n.servers() {
			if string(s.ID) == n.id.ID {
				continue
			}
			pending.Add(1)
			if !n.quorum.ask(s, term, 0, answered) {
				answered(false)
			}
		}
	}
	answered(true)
	return done
}

// hearMembers asks all members how they are and waits a while for their answers, for
// decisions that can't wait until everybody has been heard of by itself.
func (n *Node) hearMembers(ctx context.Context) {
	timeout := time.NewTimer(askWait)
	defer timeout.Stop()
	select {
	case <-n.askMembers():
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// voterCandidates returns the members as they are now. Only the leader knows.
func (n *Node) voterCandidates() []voterCandidate {
	now, last, v := n.cfg.Now(), n.raft.LastIndex(), n.View()
	servers := n.servers()
	out := make([]voterCandidate, 0, len(servers))
	for _, s := range servers {
		m := voterCandidate{id: s.ID, voter: s.Suffrage == raft.Voter}
		if string(s.ID) == n.id.ID {
			m.leader, m.health, m.current, m.stable, m.lastLog = true, healthyMember, true, true, last
			out = append(out, m)
			continue
		}
		node, described := v.Node(string(s.ID))
		c := n.quorum.contact(s.ID)
		m.lastLog, m.current = c.lastLog, c.lastLog+maxLag >= last && !c.at.IsZero()
		m.leaving = !described || node.Eligibility == api.EligibilityDraining
		m.health = healthOf(now, c.at, n.leases.start(), n.cfg.DeadAfter)
		if described && node.Status == api.NodeDown && m.health == doubtfulMember {
			m.health = deadMember // others have noticed as well
		}
		m.stable = n.pilot.stable(s.ID, m.health, now, n.cfg.Stabilization)
		out = append(out, m)
	}
	return out
}
