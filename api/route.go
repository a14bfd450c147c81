package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Route sends requests for its hosts and paths to its backends, by weight. It comes before
// the hosts that services and instances have by themselves.
type Route struct {
	Name string `json:"name"`
	// Hosts are whole DNS names. Without any, Paths are those of the node's own domain.
	Hosts []string `json:"hosts,omitempty"`
	// Paths are prefixes of whole segments, the longest of which wins; none is all paths.
	// They reach the backend unchanged.
	Paths    []string  `json:"paths,omitempty"`
	Backends []Backend `json:"backends,omitempty"`
	Mode     RouteMode `json:"mode"`
	// Message is what clients read while the mode is maintenance.
	Message string `json:"message,omitempty"`
	Source  Source `json:"source"`

	Revision  uint64    `json:"revision,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// Backend is what a route leads to: one instance, a fleet, or with neither all of a
// service by its own weights. It need not exist yet.
type Backend struct {
	Service  string `json:"service"`
	Instance string `json:"instance,omitempty"`
	Fleet    string `json:"fleet,omitempty"`
	// Weight is the share, 0 to 100, of the route's requests; null means 100.
	Weight *int `json:"weight"`
}

// RouteMode says what a route does with requests.
type RouteMode string

// The modes of a route.
const (
	RouteLive        RouteMode = "live"        // they go to the backends
	RoutePause       RouteMode = "pause"       // they are held, within bounds, until the mode is another
	RouteMaintenance RouteMode = "maintenance" // they are answered with 503 and the message
)

// RouteModes lists every mode.
func RouteModes() []RouteMode { return []RouteMode{RouteLive, RoutePause, RouteMaintenance} }

// RouteStatus is a route and what becomes of its requests now.
type RouteStatus struct {
	Route
	// Effective has an entry for each of Backends, in their order.
	Effective []BackendStatus `json:"effective"`
}

// BackendStatus is a backend and what it gets now.
type BackendStatus struct {
	Backend
	// Share is how many of 100 requests it gets.
	Share float64 `json:"share"`
	// Reason says why Share is 0; empty when it is not.
	Reason string `json:"reason,omitempty"`
}

// The bounds of a route.
const (
	MaxRouteHosts    = 100
	MaxRoutePaths    = 100
	MaxBackends      = 100
	MaxRouteMessage  = 2000 // bytes
	maxRoutePath     = 1000 // bytes
	maxHost          = 253  // bytes
	wantHost         = "a whole DNS name such as shop.example.com: lower case, without port, IP address or *"
	wantPath         = "a path such as /shop: whole segments, without / at its end, *, ?, # or %"
	wantFreePath     = "hosts beside it, for on the node's own domain it is the node's"
	wantLeadsNowhere = "hosts, paths or both"
)

// SetDefaults fills every unset field with its default.
func (r *Route) SetDefaults() {
	setDefault(&r.Mode, RouteLive)
	setDefault(&r.Source, SourceAPI)
	for i := range r.Backends {
		r.Backends[i].SetDefaults()
	}
}

// SetDefaults fills every unset field with its default.
func (b *Backend) SetDefaults() {
	if b.Weight == nil {
		w := DefaultWeight
		b.Weight = &w
	}
}

// Validate checks a route after SetDefaults; see [Service.Validate].
func (r *Route) Validate() error {
	var c fieldChecks
	c.name("name", r.Name)
	check(&c, len(r.Hosts)+len(r.Paths) > 0, "hosts", "", wantLeadsNowhere)
	listed(&c, "hosts", r.Hosts, MaxRouteHosts)
	for _, h := range r.Hosts {
		check(&c, validHost(h), "hosts", h, wantHost)
	}
	listed(&c, "paths", r.Paths, MaxRoutePaths)
	for _, p := range r.Paths {
		switch {
		case !validPath(p):
			check(&c, false, "paths", p, wantPath)
		case len(r.Hosts) == 0:
			check(&c, !ReservedPath(p), "paths", p, wantFreePath)
		}
	}
	check(&c, slices.Contains(RouteModes(), r.Mode), "mode", r.Mode, oneOf[RouteMode](RouteModes()))
	r.checkBackends(&c)
	check(&c, len(r.Message) <= MaxRouteMessage && readable(r.Message), "message", r.Message,
		"at most "+strconv.Itoa(MaxRouteMessage)+" bytes of text without control characters")
	check(&c, slices.Contains(Sources(), r.Source), "source", r.Source, oneOf[Source](Sources()))
	return c.err()
}

func (r *Route) checkBackends(c *fieldChecks) {
	check(c, len(r.Backends) <= MaxBackends, "backends", len(r.Backends), "at most "+strconv.Itoa(MaxBackends))
	check(c, len(r.Backends) > 0 || r.Mode == RouteMaintenance, "backends", "", "at least one, unless the mode is maintenance")
	for i := range r.Backends {
		b := &r.Backends[i]
		c.name("backends.service", b.Service)
		if b.Instance != "" {
			c.name("backends.instance", b.Instance)
		}
		if b.Fleet != "" {
			c.name("backends.fleet", b.Fleet)
			check(c, b.Instance == "", "backends.fleet", b.Fleet, "an instance or a fleet, not both")
		}
		w := b.EffectiveWeight()
		check(c, 0 <= w && w <= MaxWeight, "backends.weight", w, "0 to 100")
		again := slices.ContainsFunc(r.Backends[:i], func(o Backend) bool { return o.String() == b.String() })
		check(c, !again, "backends", b, "each backend once")
	}
}

// listed checks that a list is not too long and has nothing twice.
func listed(c *fieldChecks, field string, list []string, most int) {
	check(c, len(list) <= most, field, len(list), "at most "+strconv.Itoa(most))
	for i, s := range list {
		check(c, !slices.Contains(list[:i], s), field, s, "each once")
	}
}

// validHost reports whether s is a DNS name as requests are compared with: lower case, of
// several labels, the last of which is no number, as an IP address has it.
func validHost(s string) bool {
	if len(s) > maxHost || !strings.Contains(s, ".") {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if !ValidName(label) || strings.HasSuffix(label, "-") {
			return false
		}
		last = label
	}
	_, err := strconv.ParseUint(last, 0, 64)
	_, ipErr := netip.ParseAddr(s)
	return err != nil && ipErr != nil
}

// validPath reports whether s is a path in the one form that it may be written in.
func validPath(s string) bool {
	if s == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(s, "/")
	if !ok || len(s) > maxRoutePath || strings.ContainsAny(s, "*?#%\\") || !readable(s) || strings.Contains(s, "\n") {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// readable reports whether s is text of lines.
func readable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' })
}

// ReservedPath reports whether a path of a node's own domain is the node's, whatever routes
// there are.
func ReservedPath(path string) bool {
	for _, own := range [...]string{"/api", "/metrics", "/health", "/terraform", "/.well-known"} {
		if rest, ok := strings.CutPrefix(path, own); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// EffectiveHosts returns Hosts, or the empty name, which stands for the node's own domain.
func (r *Route) EffectiveHosts() []string {
	if len(r.Hosts) == 0 {
		return []string{""}
	}
	return r.Hosts
}

// EffectivePaths returns Paths, or / when there are none.
func (r *Route) EffectivePaths() []string {
	if len(r.Paths) == 0 {
		return []string{"/"}
	}
	return r.Paths
}

// Equal reports whether two routes are the same specification.
func (r *Route) Equal(o *Route) bool {
	return r.Name == o.Name && slices.Equal(r.Hosts, o.Hosts) && slices.Equal(r.Paths, o.Paths) &&
		slices.EqualFunc(r.Backends, o.Backends, func(a, b Backend) bool { return a.Equal(&b) }) &&
		r.Mode == o.Mode && r.Message == o.Message && r.Source == o.Source
}

// Clone returns a deep copy.
func (r *Route) Clone() *Route {
	c := *r
	c.Hosts, c.Paths, c.Backends = slices.Clone(r.Hosts), slices.Clone(r.Paths), slices.Clone(r.Backends)
	for i := range c.Backends {
		c.Backends[i] = *r.Backends[i].Clone()
	}
	return &c
}

// String returns the backend's name: service, service:instance or "fleet service:name".
func (b *Backend) String() string {
	switch {
	case b.Fleet != "":
		return "fleet " + b.Service + ":" + b.Fleet
	case b.Instance != "":
		return b.Service + ":" + b.Instance
	default:
		return b.Service
	}
}

// EffectiveWeight returns Weight or its default.
func (b *Backend) EffectiveWeight() int {
	if b.Weight == nil {
		return DefaultWeight
	}
	return *b.Weight
}

// Equal reports whether two backends are the same specification.
func (b *Backend) Equal(o *Backend) bool {
	return b.Service == o.Service && b.Instance == o.Instance && b.Fleet == o.Fleet && b.EffectiveWeight() == o.EffectiveWeight()
}

// Clone returns a deep copy.
func (b *Backend) Clone() *Backend {
	c := *b
	if b.Weight != nil {
		w := *b.Weight
		c.Weight = &w
	}
	return &c
}
