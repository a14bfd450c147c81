package route

import (
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Config says what a Router's host names are.
type Config struct {
	// Domain is the node's own name, under which services and instances have theirs;
	// "localhost" when empty.
	Domain string
	// Default names the service that serves Domain itself, but for the paths that are
	// always local: /api, /metrics, /health, /terraform and /.well-known/terraform.json.
	// Empty: all of Domain is local.
	Default string
	// Subdomain maps x to the service that serves x.Domain, before any service named x.
	Subdomain map[string]string
	// Path maps x to the service that serves Domain/x and all below it. The path
	// reaches the service unchanged.
	Path map[string]string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Self is the id of this node; empty: every instance is here.
	Self string
	// Names are further names of the node: they are local, all of them.
	Names []string
}

// Router finds the instance for a request and guards each instance's gate. Its methods
// may be called from several goroutines; lookups take no lock.
type Router struct {
	domain    string
	suffix    string // "." + domain
	fallback  string
	subdomain map[string]string
	path      map[string]string
	pathDepth int // segments of the longest key of path
	now       func() time.Time
	base      time.Time
	hasher    hasher
	self      string
	names     map[string]bool

	zone     atomic.Pointer[string]
	peers    atomic.Pointer[map[string]*Peer] // every other node, by id
	services atomic.Pointer[node[*Service]]
	made     atomic.Uint64 // counts when a name may lead to another *Service
	hosts    atomic.Pointer[node[*hostRoutes]]

	mu      sync.Mutex // guards every change
	drains  map[*Target]chan struct{}
	awaited map[api.Ref]chan struct{}
	routes  map[string]*Route // that are stored, by name
}

// New returns an empty Router. A domain or custom route that can't be is an error.
func New(cfg Config) (*Router, error) {
	if cfg.Domain == "" {
		cfg.Domain = "localhost"
	}
	domain, err := ParseHost(cfg.Domain)
	if err != nil || domain.IP || strings.Contains(cfg.Domain, ":") {
		return nil, &api.FieldError{Field: "domain", Got: cfg.Domain, Want: "a DNS name without a port"}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Router{
		domain: domain.Name, suffix: "." + domain.Name, fallback: cfg.Default,
		subdomain: make(map[string]string), path: make(map[string]string),
		now: cfg.Now, base: cfg.Now(), hasher: newHasher(), self: cfg.Self, names: make(map[string]bool),
		drains: make(map[*Target]chan struct{}), awaited: make(map[api.Ref]chan struct{}),
		routes: make(map[string]*Route),
	}
	if err := checkService("routing.default", cfg.Default, true); err != nil {
		return nil, err
	}
	for _, name := range cfg.Names {
		host, err := ParseHost(name)
		if err != nil || strings.Contains(name, ":") {
			return nil, &api.FieldError{Field: "names", Got: name, Want: "a DNS name without a port"}
		}
		r.names[host.Name] = true
	}
	for sub, service := range cfg.Subdomain {
		host, err := ParseHost(sub)
		if err != nil || host.IP || strings.Contains(sub, ":") {
			return nil, &api.FieldError{Field: "routing.subdomain", Got: sub, Want: "one or more DNS labels"}
		}
		if err := checkService("routing.subdomain."+sub, service, false); err != nil {
			return nil, err
		}
		r.subdomain[host.Name] = service
	}
	for path, service := range cfg.Path {
		if err := r.addPath(path, service); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// addPath accepts the forms "x", "/x", "/x/" and "/x/*".
func (r *Router) addPath(path, service string) error {
	key := strings.Trim(strings.TrimSuffix(path, "*"), "/")
	if key == "" || reservedPath("/"+key) || strings.ContainsAny(key, "*?#") || strings.Contains(key, "//") {
		return &api.FieldError{Field: "routing.path", Got: path, Want: "a path other than / /api /metrics /health /terraform, without * ? #"}
	}
	if err := checkService("routing.path."+path, service, false); err != nil {
		return err
	}
	r.path[key] = service
	r.pathDepth = max(r.pathDepth, 1+strings.Count(key, "/"))
	return nil
}

func checkService(field, name string, empty bool) error {
	if name == "" && empty || api.ValidName(name) {
		return nil
	}
	return &api.FieldError{Field: field, Got: name, Want: "the name of a service"}
}

// Domain returns the node's own host name.
func (r *Router) Domain() string { return r.domain }

// since turns a time into nanoseconds since the router's base, by the monotonic clock.
func (r *Router) since(t time.Time) int64 { return int64(t.Sub(r.base)) }

// Kind says what a host and path lead to.
type Kind uint8

// The kinds.
const (
	Unknown  Kind = iota // nothing: 404
	Local                // this node's own API and pages
	Direct               // one instance, named by the host
	Weighted             // a service: any of its instances, by weight
	Routed               // a stored route: any of its backends, by weight
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"unknown", "local", "direct", "weighted", "routed"}[k]
}

// Match is where a request goes.
type Match struct {
	Kind    Kind
	Service *Service // for Direct and Weighted
	Target  *Target  // for Direct; nil when the service has no such instance
	ID      string   // for Direct: a valid instance id
	Route   *Route   // for Routed
}

// Match finds where a request for a host and path goes. It never allocates for a
// lower-case host.
func (r *Router) Match(host, path string) Match {
	h, err := ParseHost(host)
	if err != nil {
		return Match{}
	}
	own := h.Name == r.domain
	if own && reservedPath(path) || !own && (h.IP || h.Name == "localhost") {
		return Match{Kind: Local}
	}
	if rt := r.stored(h.Name, path); rt != nil && (!r.names[h.Name] || !reservedPath(path)) {
		return Match{Kind: Routed, Route: rt}
	}
	if own {
		return r.matchDomain(path)
	}
	sub, ok := strings.CutSuffix(h.Name, r.suffix)
	if !ok {
		if r.names[h.Name] {
			return Match{Kind: Local}
		}
		return Match{}
	}
	if len(r.subdomain) > 0 {
		if name, ok := r.subdomain[sub]; ok {
			return r.weighted(name)
		}
	}
	id, name, direct := strings.Cut(sub, ".")
	if !direct {
		return r.weighted(sub)
	}
	return r.direct(name, id)
}

// matchDomain finds where a path of the domain goes that is not the node's own.
func (r *Router) matchDomain(path string) Match {
	if rt := r.stored("", path); rt != nil {
		return Match{Kind: Routed, Route: rt}
	}
	if r.pathDepth > 0 {
		if name, ok := r.matchPath(path); ok {
			return r.weighted(name)
		}
	}
	if r.fallback != "" {
		return r.weighted(r.fallback)
	}
	return Match{Kind: Local}
}

// matchPath finds the longest configured prefix of path, by whole segments.
func (r *Router) matchPath(path string) (service string, ok bool) {
	path = strings.TrimPrefix(path, "/")
	for depth, end := 0, 0; depth < r.pathDepth && end < len(path); depth++ {
		if i := strings.IndexByte(path[end:], '/'); i < 0 {
			end = len(path)
		} else {
			end += i
		}
		if s, found := r.path[path[:end]]; found {
			service, ok = s, true
		}
		end++ // past the slash
	}
	return service, ok
}

// reservedPath reports whether a path of the domain is the node's own, whatever the
// custom routing says.
func reservedPath(path string) bool {
	for _, own := range [...]string{"/api", "/metrics", "/health", "/terraform", "/.well-known/terraform.json"} {
		if rest, ok := strings.CutPrefix(path, own); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// Service returns the declared service of that name.
func (r *Router) Service(name string) (*Service, bool) {
	s, ok := r.services.Load().get(r.hasher(name), name)
	if !ok || s.Spec() == nil {
		return nil, false
	}
	return s, true
}

func (r *Router) weighted(name string) Match {
	s, ok := r.Service(name)
	if !ok {
		return Match{}
	}
	return Match{Kind: Weighted, Service: s}
}

func (r *Router) direct(name, id string) Match {
	s, ok := r.Service(name)
	if !ok || !api.ValidName(id) {
		return Match{}
	}
	t, _ := s.Target(id)
	return Match{Kind: Direct, Service: s, Target: t, ID: id}
}

// Services yields every declared service.
func (r *Router) Services() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for s := range r.services.Load().all() {
			if s.Spec() != nil && !yield(s) {
				return
			}
		}
	}
}

// String describes the router for logs.
func (r *Router) String() string { return fmt.Sprintf("router of %s", r.domain) }
