package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/state"
)

const (
	clients   = 4
	thinkTime = 800 * time.Millisecond // at most, between operations of a client
	opTime    = 8 * time.Second        // a client's patience
)

// ledger is what was acknowledged: tokens, put and deleted.
type ledger struct {
	mu      sync.Mutex
	next    int
	order   []string        // in which they were acknowledged
	deleted map[string]bool // acknowledged
	unsure  map[string]bool // a delete was not answered
}

func (l *ledger) init() { l.deleted, l.unsure = map[string]bool{}, map[string]bool{} }

func (l *ledger) fresh() *api.Token {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	id := fmt.Sprintf("%012x", l.next)
	sum := sha256.Sum256([]byte(id))
	return &api.Token{ID: id, SHA256: sum[:]}
}

// promise is what must be found by reads that begin now.
type promise struct {
	there, gone []string
}

// promised returns what has been acknowledged: all of it, or the newest and some others.
func (l *ledger) promised(rng *rand.Rand, all bool) promise {
	l.mu.Lock()
	defer l.mu.Unlock()
	var p promise
	add := func(id string) {
		switch {
		case l.deleted[id]:
			p.gone = append(p.gone, id)
		case !l.unsure[id]:
			p.there = append(p.there, id)
		}
	}
	if all {
		for _, id := range l.order {
			add(id)
		}
		return p
	}
	for i := max(0, len(l.order)-30); i < len(l.order); i++ {
		add(l.order[i])
	}
	for range min(10, len(l.order)) {
		add(l.order[rng.IntN(len(l.order))])
	}
	return p
}

// kept returns what a view does not keep of a promise.
func (p promise) kept(v *state.View, l *ledger) error {
	for _, id := range p.there {
		if _, ok := v.Token(id); !ok && !l.mayBeGone(id) {
			return fmt.Errorf("token %s was acknowledged and is not there at index %d", id, v.Index())
		}
	}
	for _, id := range p.gone {
		if _, ok := v.Token(id); ok {
			return fmt.Errorf("the deletion of token %s was acknowledged and it is there at index %d", id, v.Index())
		}
	}
	return nil
}

func (l *ledger) mayBeGone(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deleted[id] || l.unsure[id]
}

// client does random things, one after the other, through any node.
type client struct {
	w   *world
	id  int
	rng *rand.Rand
	n   int

	think time.Duration
}

func (w *world) startClients() {
	n, think := clients, thinkTime
	if w.busy {
		n, think = 3*clients, thinkTime/4
	}
	for i := range n {
		c := &client{w: w, id: i, think: think, rng: rand.New(rand.NewPCG(w.seed, uint64(5000+i)))}
		w.wg.Go(c.run)
	}
}

func (c *client) run() {
	for c.w.net.sleep(time.Duration(c.rng.Int64N(int64(c.think)))) {
		if c.w.quiet.Load() {
			continue
		}
		h := c.w.hosts[c.rng.IntN(len(c.w.hosts))]
		p, n := h.running()
		if p == nil {
			c.w.count("operations at a dead node", 1)
			continue
		}
		calm := c.w.calm.Load()
		began := time.Now()
		ok := c.operate(p, n)
		if ok {
			c.w.count("operations that succeeded", 1)
		} else {
			c.w.count("operations that failed", 1)
		}
		if calm != 0 && c.w.calm.Load() == calm && !ok {
			c.w.violate("an operation at host %d failed after %s although everything works", h.index, time.Since(began))
		}
	}
}

func (c *client) operate(p *process, n *consensus.Node) bool {
	ctx, cancel := context.WithTimeout(c.w.ctx, opTime)
	defer cancel()
	if !p.host.awake() {
		return false
	}
	switch x := c.rng.IntN(10); {
	case x < 2:
		return c.putToken(ctx, p, n)
	case x < 3:
		return c.deleteToken(ctx, p, n)
	case x < 6:
		return c.read(ctx, p, n)
	case x < 9:
		return c.write(ctx, p, n)
	default:
		return c.swap(ctx, p, n)
	}
}

// answered reports whether an answer reached the client.
func answered(p *process, err error) bool { return err == nil && p.host.awake() && !p.isDead() }

func (c *client) putToken(ctx context.Context, p *process, n *consensus.Node) bool {
	t := c.w.ledger.fresh()
	_, err := n.PutToken(ctx, t, nil)
	if !answered(p, err) {
		return false
	}
	c.w.ledger.mu.Lock()
	c.w.ledger.order = append(c.w.ledger.order, t.ID)
	c.w.ledger.mu.Unlock()
	c.w.count("acknowledged writes", 1)
	return true
}

func (c *client) deleteToken(ctx context.Context, p *process, n *consensus.Node) bool {
	l := &c.w.ledger
	l.mu.Lock()
	if len(l.order) == 0 {
		l.mu.Unlock()
		return true
	}
	id := l.order[c.rng.IntN(len(l.order))]
	if l.deleted[id] || l.unsure[id] {
		l.mu.Unlock()
		return true
	}
	l.unsure[id] = true
	l.mu.Unlock()
	_, err := n.DeleteToken(ctx, id)
	if !answered(p, err) {
		return false
	}
	l.mu.Lock()
	l.deleted[id] = true
	l.mu.Unlock()
	c.w.count("acknowledged writes", 1)
	return true
}

func (c *client) read(ctx context.Context, p *process, n *consensus.Node) bool {
	r := c.w.history.pick(c.rng.IntN(registersAtOnce))
	promise := c.w.ledger.promised(c.rng, false)
	returned := c.w.history.called(r, c.id, input{kind: read})
	v, err := n.ConsistentView(ctx)
	if !answered(p, err) {
		returned(output{unknown: true})
		return false
	}
	out := output{}
	if s, ok := v.Service(r.name); ok {
		out.value = s.Command
		r.learn(s)
	}
	returned(out)
	if err := promise.kept(v, &c.w.ledger); err != nil {
		c.w.violate("a consistent read at host %d: %v", p.host.index, err)
	}
	c.w.count("consistent reads", 1)
	return true
}

func (r *register) learn(s *api.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[s.Command] = s.Revision
}

func (c *client) value() string {
	c.n++
	return fmt.Sprintf("v%d-%d", c.id, c.n)
}

func (c *client) write(ctx context.Context, p *process, n *consensus.Node) bool {
	r := c.w.history.pick(c.rng.IntN(registersAtOnce))
	in := input{kind: write, new: c.value()}
	returned := c.w.history.called(r, c.id, in)
	s, err := n.PutService(ctx, &api.Service{Name: r.name, Command: in.new}, nil)
	if !answered(p, err) {
		returned(output{unknown: true})
		return false
	}
	returned(output{})
	r.learn(s)
	c.w.count("acknowledged writes", 1)
	if have, ok := n.View().Service(r.name); !ok || have.Revision < s.Revision {
		c.w.violate("host %d acknowledged revision %d of %s and does not show it", p.host.index, s.Revision, r.name)
	}
	return true
}

// swap replaces a value that was seen, if it is still there.
func (c *client) swap(ctx context.Context, p *process, n *consensus.Node) bool {
	r := c.w.history.pick(c.rng.IntN(registersAtOnce))
	in := input{kind: swap, new: c.value()}
	var revision uint64
	r.mu.Lock()
	for v, rev := range r.known {
		if rev > revision {
			in.old, revision = v, rev
		}
	}
	r.mu.Unlock()
	returned := c.w.history.called(r, c.id, in)
	s, err := n.PutService(ctx, &api.Service{Name: r.name, Command: in.new}, &revision)
	if api.CodeOf(err) == api.CodeStaleRevision && answered(p, nil) {
		returned(output{})
		return true
	}
	if !answered(p, err) {
		returned(output{unknown: true})
		return false
	}
	returned(output{swapped: true})
	r.learn(s)
	c.w.count("acknowledged writes", 1)
	return true
}
