package route

import (
	"iter"
	"strings"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Route is one revision of a route that is stored. It never changes but for what is
// derived from the instances that there are.
type Route struct {
	spec     *api.Route
	router   *Router
	services []string // that its backends name, each once
	replaced chan struct{}

	mix    atomic.Pointer[mix]
	cursor atomic.Uint64
}

// mix is a balancer of a route's backends, as long as nothing of what it was made from has
// changed.
type mix struct {
	balancer *balancer
	made     uint64 // of the router
	parts    []part // of each service that there is
}

type part struct {
	service *Service
	version uint64
}

func newRoute(r *Router, spec *api.Route) *Route {
	rt := &Route{spec: spec, router: r, replaced: make(chan struct{})}
	seen := make(map[string]bool)
	for i := range spec.Backends {
		if name := spec.Backends[i].Service; !seen[name] {
			seen[name] = true
			rt.services = append(rt.services, name)
		}
	}
	return rt
}

// Spec returns what is stored, shared and not to be changed.
func (rt *Route) Spec() *api.Route { return rt.spec }

// Replaced is closed when the route is another one, or gone.
func (rt *Route) Replaced() <-chan struct{} { return rt.replaced }

// Weightless reports whether no backend has a weight, so that nothing can get a request.
func (rt *Route) Weightless() bool {
	for i := range rt.spec.Backends {
		if rt.spec.Backends[i].EffectiveWeight() > 0 {
			return false
		}
	}
	return true
}

// Pick chooses the instance for the next request, a backend by the weights first; see
// [Service.Pick]. It returns nil when no backend has an instance that takes weighted traffic.
func (rt *Route) Pick(avoid *Target) *Target {
	return rt.current().pick(&rt.cursor, avoid)
}

// current returns the balancer for the instances of now; see [Service.current].
func (rt *Route) current() *balancer {
	old := rt.mix.Load()
	if old != nil && old.valid(rt.router) {
		return old.balancer
	}
	m := &mix{made: rt.router.made.Load(), parts: make([]part, 0, len(rt.services))}
	for _, name := range rt.services {
		if s, ok := rt.router.services.Load().get(rt.router.hasher(name), name); ok {
			m.parts = append(m.parts, part{s, s.version.Load()})
		}
	}
	groups, weights := make([]*group, 0, len(rt.spec.Backends)), make([]uint64, 0, len(rt.spec.Backends))
	for i := range rt.spec.Backends {
		b := &rt.spec.Backends[i]
		w := b.EffectiveWeight()
		s, ok := m.service(b.Service)
		if w <= 0 || !ok {
			continue
		}
		if g := s.groupOf(b); g != nil {
			groups, weights = append(groups, g), append(weights, uint64(w))
		}
	}
	m.balancer = newBalancer(0, groups, weights)
	rt.mix.CompareAndSwap(old, m)
	return m.balancer
}

func (m *mix) valid(r *Router) bool {
	if m.made != r.made.Load() {
		return false
	}
	for i := range m.parts {
		if m.parts[i].service.version.Load() != m.parts[i].version {
			return false
		}
	}
	return true
}

func (m *mix) service(name string) (*Service, bool) {
	for i := range m.parts {
		if s := m.parts[i].service; s.name == name {
			return s, s.Spec() != nil
		}
	}
	return nil, false
}

// groupOf returns what a backend of this service leads to; nil when that is nothing that
// takes weighted traffic.
func (s *Service) groupOf(b *api.Backend) *group {
	var members []*Target
	switch {
	case b.Instance != "":
		if t, ok := s.Target(b.Instance); ok && t.weighted() {
			members = append(members, t)
		}
	case b.Fleet != "":
		for t := range s.instances.Load().all() {
			if inst := t.instance.Load(); inst != nil && inst.Fleet == b.Fleet && t.weighted() {
				members = append(members, t)
			}
		}
	default:
		if s.current().total > 0 {
			return &group{service: s}
		}
	}
	if len(members) == 0 {
		return nil
	}
	return newGroup(s.router, members)
}

// weighted reports whether the target is in weighted traffic, whatever its weight.
func (t *Target) weighted() bool {
	inst := t.instance.Load()
	return inst != nil && inst.Desired == api.DesiredRunning
}

// hostRoutes are the routes of one host. They are immutable.
type hostRoutes struct {
	name  string // "" for the node's own domain
	all   *Route // of /
	paths *node[*pathRoute]
	depth int // no path has more segments
}

type pathRoute struct {
	path  string
	route *Route
}

func (h *hostRoutes) key() string { return h.name }
func (p *pathRoute) key() string  { return p.path }

// match finds the route with the longest prefix of path, by whole segments.
func (h *hostRoutes) match(hash hasher, path string) *Route {
	best := h.all
	for depth, end := 0, 0; depth < h.depth && end < len(path); depth++ {
		if i := strings.IndexByte(path[end+1:], '/'); i < 0 {
			end = len(path)
		} else {
			end += 1 + i
		}
		if p, ok := h.paths.get(hash(path[:end]), path[:end]); ok {
			best = p.route
		}
	}
	return best
}

// stored returns the stored route for a host and path; nil when there is none.
func (r *Router) stored(host, path string) *Route {
	if h, ok := r.hosts.Load().get(r.hasher(host), host); ok {
		return h.match(r.hasher, path)
	}
	return nil
}

// PutRoute adds or changes a route. Of two for the same host and path the later one counts.
func (r *Router) PutRoute(spec *api.Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, next := r.routes[spec.Name], newRoute(r, spec)
	hosts := r.hosts.Load()
	if old != nil {
		next.cursor.Store(old.cursor.Load())
		hosts = r.without(hosts, old)
	}
	r.routes[spec.Name] = next
	r.hosts.Store(r.with(hosts, next))
	if old != nil {
		close(old.replaced)
	}
}

// DeleteRoute removes a route.
func (r *Router) DeleteRoute(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.routes[name]; ok {
		delete(r.routes, name)
		r.hosts.Store(r.without(r.hosts.Load(), old))
		close(old.replaced)
	}
}

// ResetRoutes makes the router hold exactly these routes.
func (r *Router) ResetRoutes(routes iter.Seq[*api.Route]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.routes
	r.routes = make(map[string]*Route)
	var hosts *node[*hostRoutes]
	for spec := range routes {
		rt, ok := old[spec.Name]
		if ok && rt.spec == spec {
			delete(old, spec.Name)
		} else {
			rt = newRoute(r, spec)
		}
		r.routes[spec.Name] = rt
		hosts = r.with(hosts, rt)
	}
	r.hosts.Store(hosts)
	for _, rt := range old {
		close(rt.replaced)
	}
}

// Route returns the route of that name.
func (r *Router) Route(name string) (*Route, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rt, ok := r.routes[name]
	return rt, ok
}

// with returns the hosts with a route's addresses.
func (r *Router) with(hosts *node[*hostRoutes], rt *Route) *node[*hostRoutes] {
	for _, name := range rt.spec.EffectiveHosts() {
		h := hostRoutes{name: name}
		if have, ok := hosts.get(r.hasher(name), name); ok {
			h = *have
		}
		for _, path := range rt.spec.EffectivePaths() {
			if path == "/" {
				h.all = rt
				continue
			}
			h.paths = h.paths.with(r.hasher, &pathRoute{path, rt})
			h.depth = max(h.depth, strings.Count(path, "/"))
		}
		hosts = hosts.with(r.hasher, &h)
	}
	return hosts
}

// without returns the hosts without what with has put there.
func (r *Router) without(hosts *node[*hostRoutes], rt *Route) *node[*hostRoutes] {
	for _, name := range rt.spec.EffectiveHosts() {
		have, ok := hosts.get(r.hasher(name), name)
		if !ok {
			continue
		}
		h := *have
		for _, path := range rt.spec.EffectivePaths() {
			if path == "/" && h.all == rt {
				h.all = nil
			}
			if p, ok := h.paths.get(r.hasher(path), path); ok && p.route == rt {
				h.paths = h.paths.without(r.hasher, path)
			}
		}
		if h.all == nil && h.paths == nil {
			hosts = hosts.without(r.hasher, name)
			continue
		}
		hosts = hosts.with(r.hasher, &h)
	}
	return hosts
}
