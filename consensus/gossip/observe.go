package gossip

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"
)

// look asks for a look at memberlist's table; it may be called anywhere.
func (p *Pool) look() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// observe looks at memberlist's table whenever an event asks for it, and at intervals
// because nothing tells of suspicions.
func (p *Pool) observe(ctx context.Context) {
	for {
		timer := time.NewTimer(p.lookInterval())
		select {
		case <-p.dirty:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		start := time.Now()
		if err := p.lookNow(); err != nil && ctx.Err() == nil {
			p.logs.once("look", quietTime, slog.LevelWarn, "gossip's members may be out of date", "error", err)
		}
		// However many events there are, four fifths of the time go to others.
		select {
		case <-time.After(4 * time.Since(start)):
		case <-ctx.Done():
			return
		}
	}
}

// lookInterval is how often suspicions are looked for: reading the table costs some 30
// microseconds a node.
func (p *Pool) lookInterval() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.probeInterval, time.Duration(len(p.known))*5*time.Millisecond)
}

func (p *Pool) lookNow() error {
	nodes, err := p.mirror.read()
	if err != nil {
		return err
	}
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	turned, changed := p.known.merge(nodes, now)
	for _, r := range turned {
		p.logTurn(r, now)
	}
	for id, r := range p.known {
		if e := p.probes.of(id); e.tcpOnly() != r.tcpOnly || e.failing() != r.failing {
			r.tcpOnly, r.failing, changed = e.tcpOnly(), e.failing(), true
		}
	}
	if !changed {
		return nil
	}
	p.probes.keep(func(id string) bool { return p.known[id] != nil })
	p.notify()
	return nil
}

// notify wakes who waits for a change; p.mu is held.
func (p *Pool) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// logTurn says what became of a node; p.mu is held.
func (p *Pool) logTurn(r *record, now time.Time) {
	if r.id == p.cfg.NodeID {
		return
	}
	log := p.log.With("node", r.id, "name", r.meta.Name, "addr", r.addr.String())
	switch r.state {
	case StateAlive:
		log.Info("gossip: node is alive")
	case StateSuspect:
		log.Info("gossip: node is suspected", "reason", p.probes.of(r.id).why(now))
	case StateDead:
		log.Warn("gossip: node is given up", "reason", p.probes.of(r.id).why(now))
	case StateLeft:
		log.Info("gossip: node has left")
	}
}

// claimWarn is how long an id may be claimed at two addresses before it is certain that
// no node has merely moved: by then the old address would have been given up.
const claimWarn = 2 * time.Minute

// claimTime is how long a claim is remembered: it comes up again in each exchange of
// members.
func (p *Pool) claimTime() time.Duration { return 3 * p.pushPull }

// conflict notes that other claims the id of the node at addr. It runs under memberlist's
// lock.
func (p *Pool) conflict(id string, addr, other netip.AddrPort) {
	if id == p.cfg.NodeID {
		select {
		case p.disputed <- struct{}{}:
		default:
		}
	}
	now := p.cfg.Now()
	p.mu.Lock()
	r := p.known[id]
	if r == nil { // so new that it was not looked at yet; the claim will come again
		p.mu.Unlock()
		return
	}
	fresh := r.claim != other || now.Sub(r.claimAt) >= p.claimTime()
	if fresh {
		r.claim, r.claimFirst = other, now
		p.notify()
	}
	r.claimAt = now
	lasting := now.Sub(r.claimFirst) >= claimWarn
	p.mu.Unlock()
	level, text := slog.LevelWarn, "a node's id is claimed at another address: it has moved, or its data directory was copied"
	if lasting {
		level, text = slog.LevelError, "two nodes have the same id: the data directory of one is a copy; stop one and empty its data directory"
	}
	p.logs.once(level.String()+id+other.String(), 10*time.Minute, level, text,
		"node", id, "addr", addr.String(), "other", other.String())
}

// announce tells the others of this node's address when they hold another one for it:
// after a crash it may have come back elsewhere, and they take the new address only once
// they have given up the old.
func (p *Pool) announce(ctx context.Context) {
	for {
		select {
		case <-p.disputed:
		case <-ctx.Done():
			return
		}
		wait := p.probeInterval
		for again := true; again; wait = min(2*wait, 5*p.probeInterval) {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			select {
			case <-p.disputed:
			default:
			}
			p.exchange(3, func(r *record) bool { return r.state == StateAlive })
			again = len(p.disputed) > 0
		}
	}
}

// reconnect tries one dead node at a time. memberlist does not, once it has forgotten
// it: a partition of a minute would last for ever.
func (p *Pool) reconnect(ctx context.Context) {
	ticker := time.NewTicker(p.pushPull)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.exchange(1, func(r *record) bool { return r.state == StateDead && p.known.taken(r) == nil })
		case <-ctx.Done():
			return
		}
	}
}

// exchange exchanges members with up to n random ones of those that which selects. That
// it may fail is why it is repeated.
func (p *Pool) exchange(n int, which func(*record) bool) {
	p.mu.Lock()
	var addrs []string
	for _, r := range p.known {
		if r.id != p.cfg.NodeID && which(r) {
			addrs = append(addrs, r.addr.String())
		}
	}
	p.mu.Unlock()
	//nolint:gosec // nobody gains from guessing whom a node talks to
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, addr := range addrs[:min(n, len(addrs))] {
		_, _ = p.list.Join([]string{addr})
	}
}
