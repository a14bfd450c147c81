package route

import (
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Service is one service as the proxy sees it, with its instances.
type Service struct {
	name      string
	router    *Router
	spec      atomic.Pointer[api.Service] // nil: not declared, or not any more
	instances atomic.Pointer[node[*Target]]

	// version counts the changes of who is in weighted traffic with what weight; the
	// balancer is rebuilt by the first weighted request that finds it outdated.
	version  atomic.Uint64
	balancer atomic.Pointer[balancer]
	cursor   atomic.Uint64

	attached attachment
}

func (s *Service) key() string { return s.name }

// Name returns the service's name.
func (s *Service) Name() string { return s.name }

// Spec returns the service's declaration, shared and not to be changed. It is nil once
// the service is gone.
func (s *Service) Spec() *api.Service { return s.spec.Load() }

// Attached returns what the proxy keeps for the service, made by open the first time.
// It is closed when the service is deleted.
func (s *Service) Attached(open func(name string) io.Closer) io.Closer {
	if v := s.attached.value.Load(); v != nil {
		return *v
	}
	return s.attached.get(func() io.Closer { return open(s.name) })
}

// Target returns the instance of that id.
func (s *Service) Target(id string) (*Target, bool) {
	t, ok := s.instances.Load().get(s.router.hasher(id), id)
	if !ok || !t.Declared() {
		return nil, false
	}
	return t, true
}

// Pick chooses the instance for the next weighted request: a group by the weights, and of
// its instances one of the nearest. It steps past those that are down or held, and past
// avoid (which may be nil) if another one will do. When all are down it returns one of
// them, to be waited for; nil when no instance takes weighted traffic.
func (s *Service) Pick(avoid *Target) *Target {
	return s.current().pick(&s.cursor, avoid)
}

// pick does what [Service.Pick] says; cursor counts the choices.
func (b *balancer) pick(cursor *atomic.Uint64, avoid *Target) *Target {
	if b.total == 0 {
		return nil
	}
	var fallback *Target
	consider := func(t *Target) bool {
		state := t.State()
		if t != avoid && t.pickable(state) {
			return true
		}
		// Better one that is merely to be avoided than one that is down; better any than a held one.
		if fallback == nil || fallback.State() == Held || t == avoid && state == Open {
			fallback = t
		}
		return false
	}
	if t := b.draw(cursor, consider); t != nil {
		return t
	}
	return fallback
}

// draw returns the first instance that take accepts; nil if it accepts none.
func (b *balancer) draw(cursor *atomic.Uint64, take func(*Target) bool) *Target {
	for range min(window, 2*len(b.groups)) {
		if t := b.at(cursor.Add(1) - 1).choose(take); t != nil {
			return t
		}
	}
	for _, g := range b.groups {
		if t := g.choose(take); t != nil {
			return t
		}
	}
	return nil
}

// group is what one weight belongs to: an instance, the members of a fleet, the nearest
// first, or all that a service has in weighted traffic, by their own weights.
type group struct {
	service *Service // the rest is empty if it is set
	members []*Target
	ends    [distances]int // members[ends[d-1]:ends[d]] are at distance d
	turn    atomic.Uint64
}

func newGroup(r *Router, members []*Target) *group {
	if len(members) == 1 {
		return &group{members: members, ends: [distances]int{1, 1, 1}}
	}
	g := &group{members: make([]*Target, 0, len(members))}
	at := make([]nearness, len(members))
	for i, t := range members {
		at[i] = elsewhere
		if inst := t.instance.Load(); inst != nil {
			at[i] = r.nearness(owner(inst))
		}
	}
	for d := range distances {
		for i, t := range members {
			if at[i] == d {
				g.members = append(g.members, t)
			}
		}
		g.ends[d] = len(g.members)
	}
	return g
}

// choose returns one of the nearest members that take accepts, each in its turn; nil if
// it accepts none.
func (g *group) choose(take func(*Target) bool) *Target {
	if g.service != nil {
		return g.service.current().draw(&g.service.cursor, take)
	}
	if len(g.members) == 1 {
		if t := g.members[0]; take(t) {
			return t
		}
		return nil
	}
	n, begin := g.turn.Add(1)-1, 0
	for _, end := range g.ends {
		near := g.members[begin:end]
		for i := range near {
			if t := near[(n+uint64(i))%uint64(len(near))]; take(t) {
				return t
			}
		}
		begin = end
	}
	return nil
}

// current returns the balancer for the weights of now. Several requests may build it at
// once after a change; none of them waits.
func (s *Service) current() *balancer {
	old := s.balancer.Load()
	version := s.version.Load()
	if old != nil && old.version == version {
		return old
	}
	var (
		groups  []*group
		weights []uint64
		fleets  = make(map[string][]*Target)
		shares  = make(map[string]uint64)
	)
	for t := range s.instances.Load().all() {
		w, fleet := t.share()
		switch {
		case w == 0:
		case fleet != "":
			fleets[fleet] = append(fleets[fleet], t)
			shares[fleet] = max(shares[fleet], w)
		default:
			groups, weights = append(groups, newGroup(s.router, []*Target{t})), append(weights, w)
		}
	}
	for _, fleet := range slices.Sorted(maps.Keys(fleets)) {
		groups, weights = append(groups, newGroup(s.router, fleets[fleet])), append(weights, shares[fleet])
	}
	b := newBalancer(version, groups, weights)
	s.balancer.CompareAndSwap(old, b)
	return b
}
