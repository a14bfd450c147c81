package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// The times of server/lease.go.
const (
	leaseTerm  = 10 * time.Second
	leaseAsk   = leaseTerm / 4
	leaseGrace = 5 * time.Second
	leaseEnd   = leaseTerm + leaseGrace + 2*time.Second
)

const (
	agentRound  = 100 * time.Millisecond // between two looks, when nothing changes
	reportEvery = 250 * time.Millisecond
)

// program is a running copy of an instance. It belongs to the machine: it goes on when
// ten is killed.
type program struct {
	generation uint64
	ready      time.Time // when it takes requests
	stopping   time.Time // when it will have ended; zero while it is to run
	single     bool      // must not run twice
	excused    bool      // its machine was stopped beyond its lease: nobody could end it
}

// agent is a model of runtime/agent and of what package server puts around it.
type agent struct {
	p    *process
	node *consensus.Node
	rng  *rand.Rand

	mu      sync.Mutex
	until   time.Time          // the lease
	fetched map[api.Ref]uint64 // in which generation what it left elsewhere is here
	fetches map[api.Ref]uint64 // under way
}

func (p *process) runAgent(node *consensus.Node) {
	a := &agent{p: p, node: node, rng: rand.New(rand.NewPCG(p.host.w.seed, uint64(1000+p.host.index))), fetched: map[api.Ref]uint64{}, fetches: map[api.Ref]uint64{}}
	a.begin()
	p.wg.Go(a.keepLease)
	p.wg.Go(a.report)
	for p.ctx.Err() == nil && p.host.awake() {
		v := node.View()
		a.converge(v)
		wait := time.NewTimer(agentRound)
		select {
		case <-v.Changed():
		case <-wait.C:
		case <-p.ctx.Done():
		}
		wait.Stop()
	}
}

func (a *agent) held() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.until)
}

// begin takes the lease before the first look at what runs here, as the server does.
func (a *agent) begin() {
	for end := time.Now().Add(leaseTerm / 2); !a.held() && time.Now().Before(end); {
		a.renew()
		if a.held() || !a.p.host.w.net.sleep(100*time.Millisecond) || a.p.isDead() {
			return
		}
	}
}

func (a *agent) keepLease() {
	for a.p.ctx.Err() == nil {
		a.renew()
		t := time.NewTimer(leaseAsk)
		select {
		case <-t.C:
		case <-a.p.ctx.Done():
		}
		t.Stop()
	}
}

func (a *agent) renew() {
	began := time.Now()
	if !a.p.host.awake() {
		return
	}
	ctx, cancel := context.WithTimeout(a.p.ctx, leaseAsk)
	defer cancel()
	var err error
	if a.node.IsLeader() {
		err = a.node.GrantLease(ctx, a.node.ID())
	} else if leader, _, ok := a.node.Leader(); ok {
		_, err = ask(ctx, a.p, leader, func(n *consensus.Node) (struct{}, error) {
			return struct{}{}, n.GrantLease(a.p.host.w.ctx, a.node.ID())
		})
	} else {
		return
	}
	if err == nil {
		// As server/lease.go: not before it knows what was given to another meanwhile.
		_, err = a.node.ConsistentView(ctx)
	}
	if err == nil {
		a.mu.Lock()
		a.until = began.Add(leaseTerm)
		a.mu.Unlock()
		a.p.host.mu.Lock()
		a.p.host.leased = began.Add(leaseTerm)
		a.p.host.mu.Unlock()
	}
}

// assigned returns what is to run here, as server's specs do.
func (a *agent) assigned(v *state.View) map[api.Ref]assignment {
	out := map[api.Ref]assignment{}
	add := func(i *api.Instance, generation uint64, dataNode string) {
		s, ok := v.Service(i.Service)
		if !ok || i.Desired != api.DesiredRunning || s.Disconnect() == api.DisconnectStop && !a.held() {
			return
		}
		out[i.Ref()] = assignment{generation, dataNode}
	}
	for i := range v.InstancesOn(a.node.ID()) {
		add(i, i.Generation, i.DataNode)
	}
	for i := range v.Moving() {
		if i.Node != a.node.ID() && i.Previous != nil && i.Previous.Node == a.node.ID() {
			add(i, i.Previous.Generation, "")
		}
	}
	return out
}

type assignment struct {
	generation uint64
	dataNode   string // whom to ask before the first start
}

// converge starts and stops programs.
func (a *agent) converge(v *state.View) {
	h, now := a.p.host, time.Now()
	want := a.assigned(v)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != a.p || a.p.isDead() || h.asleep != nil {
		return
	}
	for ref, p := range h.programs {
		as, ok := want[ref]
		switch {
		case !p.stopping.IsZero() && !now.Before(p.stopping):
			delete(h.programs, ref)
		case !p.stopping.IsZero():
		case !ok:
			p.stopping = now.Add(time.Duration(a.rng.Int64N(int64(leaseGrace - 2*agentRound))))
		default:
			p.generation, p.excused = as.generation, false
		}
	}
	for ref, as := range want {
		if as.dataNode != "" {
			a.fetchOnce(ref, as)
			continue // until the cluster knows that they are here, as the agent does
		}
		if h.programs[ref] != nil {
			continue
		}
		s, _ := v.Service(ref.Service)
		single := s.Disconnect() == api.DisconnectStop
		if single {
			h.w.sawStart(ref, h)
		}
		h.programs[ref] = &program{
			generation: as.generation, single: single,
			ready: now.Add(20*time.Millisecond + time.Duration(a.rng.Int64N(int64(time.Second)))),
		}
	}
}

// fetchOnce begins to fetch what an instance has left on another node.
func (a *agent) fetchOnce(ref api.Ref, as assignment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fetched[ref] != as.generation && a.fetches[ref] != as.generation {
		a.fetches[ref] = as.generation
		a.p.wg.Go(func() { a.fetch(ref, as) })
	}
}

// fetch asks the node that an instance has left, until nothing of it runs there any more.
// A node that is down can't be asked: there the lease has to end.
func (a *agent) fetch(ref api.Ref, as assignment) {
	for a.p.ctx.Err() == nil && a.p.host.w.net.sleep(agentRound) {
		if i, ok := a.node.View().Instance(ref); !ok || i.Generation != as.generation {
			return
		}
		ctx, cancel := context.WithTimeout(a.p.ctx, 2*time.Second)
		var err error
		if n, ok := a.node.View().Node(as.dataNode); !ok || n.Status == api.NodeDown {
			err = a.askLeaseEnded(ctx, as.dataNode)
		} else {
			_, err = ask(ctx, a.p, as.dataNode, func(n *consensus.Node) (struct{}, error) {
				return struct{}{}, a.p.host.w.byID(n.ID()).left(n, ref, a.node.ID())
			})
		}
		cancel()
		if err == nil {
			a.mu.Lock()
			a.fetched[ref] = as.generation
			a.mu.Unlock()
			return
		}
	}
}

var errNotYet = errors.New("not yet")

// left is what server's dataSender answers.
func (h *host) left(n *consensus.Node, ref api.Ref, to string) error {
	i, ok := n.View().Instance(ref)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !ok || i.Node != to || h.programs[ref] != nil {
		return errNotYet
	}
	return nil
}

func (a *agent) askLeaseEnded(ctx context.Context, node string) error {
	leader, _, ok := a.node.Leader()
	if !ok {
		return errNotYet
	}
	at := a.p.host.w.byID(leader)
	ended := func(n *consensus.Node) (struct{}, error) {
		if at == nil || !n.LeaseEnded(node, at.clock.now()) {
			return struct{}{}, errNotYet
		}
		return struct{}{}, nil
	}
	var err error
	if leader == a.node.ID() {
		_, err = ended(a.node)
	} else {
		_, err = ask(ctx, a.p, leader, ended)
	}
	return err
}

// report tells the cluster what runs, until it knows.
func (a *agent) report() {
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-a.p.ctx.Done():
			return
		}
		reports := a.news()
		if len(reports) == 0 || !a.p.host.awake() {
			continue
		}
		ctx, cancel := context.WithTimeout(a.p.ctx, 5*time.Second)
		if err := a.node.Report(ctx, reports); err == nil {
			a.p.host.w.count("reports", 1)
		}
		cancel()
	}
}

// news returns what the state does not say yet.
func (a *agent) news() []api.Report {
	h, now := a.p.host, time.Now()
	var out []api.Report
	v := a.node.View()
	a.mu.Lock()
	defer a.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range v.InstancesOn(a.node.ID()) {
		seen := api.Observed{State: api.StatePending, Generation: i.Generation, Desired: i.Desired}
		if p := h.programs[i.Ref()]; p != nil && p.generation == i.Generation && p.stopping.IsZero() {
			seen.State = api.StateStarting
			if !now.Before(p.ready) {
				seen.State = api.StateRunning
			}
		}
		here := i.DataNode != "" && a.fetched[i.Ref()] == i.Generation
		if i.Observed == nil || i.Observed.State != seen.State || i.Observed.Generation != seen.Generation || here {
			out = append(out, api.Report{Ref: i.Ref(), Observed: seen, DataHere: here})
		}
	}
	return out
}
