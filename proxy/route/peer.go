package route

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// PeerNetwork is the network of the endpoint of a [Backend] on another node; the
// endpoint's address is that node's id.
const PeerNetwork = "peer"

// suspectFor is how long a node that could not be reached is left alone.
const suspectFor = 500 * time.Millisecond

// Peer is another node as the proxy sees it: one backend for all instances there.
type Peer struct {
	id      string
	router  *Router
	node    atomic.Pointer[api.Node]
	backend atomic.Pointer[Backend] // nil while the node is down
	suspect atomic.Int64            // until when, since the router's base
}

// Suspect tells that the node could not be reached: for a moment its instances count as
// down, so that requests wait or go elsewhere instead of trying again at once.
func (p *Peer) Suspect() { p.suspect.Store(p.router.since(p.router.now().Add(suspectFor))) }

// open returns the way to the node; nil while it is down or suspected to be.
func (p *Peer) open() *Backend {
	if p == nil {
		return nil
	}
	if until := p.suspect.Load(); until != 0 && p.router.since(p.router.now()) < until {
		return nil
	}
	return p.backend.Load()
}

// nearness orders the instances of one fleet: this node's own before those of its zone,
// those before all others.
type nearness uint8

const (
	here nearness = iota
	sameZone
	elsewhere
	distances
)

func (r *Router) nearness(node string) nearness {
	if node == r.self {
		return here
	}
	own, other := r.zone.Load(), r.peer(node)
	if own == nil || other == nil || *own == "" || other.node.Load().Zone != *own {
		return elsewhere
	}
	return sameZone
}

func (r *Router) peer(id string) *Peer {
	if all := r.peers.Load(); all != nil {
		return (*all)[id]
	}
	return nil
}

// PutNode adds or changes a node. Requests for instances on other nodes flow while the
// node is up. The router's own node says which zone is near.
func (r *Router) PutNode(n *api.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.ID == r.self {
		if own := r.zone.Swap(&n.Zone); own == nil || *own != n.Zone {
			r.rebalance()
		}
		return
	}
	p := r.peer(n.ID)
	if p == nil {
		p = &Peer{id: n.ID, router: r}
		p.node.Store(n)
		r.setPeers(func(all map[string]*Peer) { all[n.ID] = p })
	}
	before := p.node.Swap(n)
	if before == n || before.Zone != n.Zone {
		r.rebalance()
	}
	if n.Reachable() && p.backend.Load() != nil && before.PeerAddress == n.PeerAddress {
		return
	}
	var next *Backend
	if n.Reachable() {
		next = newBackend(api.Endpoint{Network: PeerNetwork, Address: n.ID})
		next.Peer = p
		p.suspect.Store(0)
	}
	if old := p.backend.Swap(next); old != nil {
		old.close()
	}
}

// DeleteNode removes a node.
func (r *Router) DeleteNode(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peer(id)
	if p == nil {
		return
	}
	r.setPeers(func(all map[string]*Peer) { delete(all, id) })
	if old := p.backend.Swap(nil); old != nil {
		old.close()
	}
	r.rebalance()
}

func (r *Router) setPeers(change func(map[string]*Peer)) {
	next := make(map[string]*Peer)
	if all := r.peers.Load(); all != nil {
		next = maps.Clone(*all)
	}
	change(next)
	r.peers.Store(&next)
}

// rebalance has every balancer built anew: who is near has changed.
func (r *Router) rebalance() {
	for s := range r.services.Load().all() {
		s.version.Add(1)
	}
}

// owner returns the id of the node that serves an instance now: where it was before,
// while it is being moved; "" while it is on none.
func owner(inst *api.Instance) string {
	if inst.Previous != nil {
		return inst.Previous.Node
	}
	return inst.Node
}

// remote returns the node that serves the instance, when that is not this one.
func (t *Target) remote(inst *api.Instance) (id string, remote bool) {
	r := t.service.router
	if r.self == "" { // the only node there is
		return "", false
	}
	id = owner(inst)
	return id, id != r.self
}

// remoteState is the State of an instance on another node: what that node does with a
// request is its own affair, as long as it can be reached.
func (t *Target) remoteState(id string) State {
	switch {
	case id == "":
		return Asleep // waking it waits for a node
	case t.service.router.peer(id).open() == nil:
		return Down
	default:
		return Open
	}
}

// pickable reports whether weighted traffic may go to the target: of an instance on
// another node, what that node has last reported counts.
func (t *Target) pickable(state State) bool {
	if state != Open && state != Asleep {
		return false
	}
	inst := t.instance.Load()
	if inst == nil || inst.Observed == nil {
		return true
	}
	if _, remote := t.remote(inst); !remote {
		return true
	}
	switch inst.Observed.State {
	case api.StateBackoff, api.StateUnhealthy, api.StateFailed, api.StateStopped:
		return false
	default:
		return true
	}
}

// Here reports whether this node serves the instance.
func (t *Target) Here() bool {
	inst := t.instance.Load()
	if inst == nil {
		return false
	}
	_, remote := t.remote(inst)
	return !remote
}
