package state

import (
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// PutRoute creates or replaces a route. What its backends name need not exist. It is
// refused while another route has one of its hosts with one of its paths.
type PutRoute struct {
	Route   api.Route `json:"route"`
	IfMatch *uint64   `json:"if_match,omitempty"`
}

// DeleteRoute removes a route.
type DeleteRoute struct {
	Name    string  `json:"name"`
	IfMatch *uint64 `json:"if_match,omitempty"`
}

// claim says that the requests for a host and path are a route's.
type claim struct {
	at    address
	route string
}

// address is a host, "" for the nodes' own domain, and a path of it.
type address struct{ host, path string }

var (
	routesByName    = &order[string, *api.Route]{func(r *api.Route) string { return r.Name }, strings.Compare}
	claimsByAddress = &order[address, *claim]{func(c *claim) address { return c.at }, compareAddresses}
)

func compareAddresses(a, b address) int {
	if c := strings.Compare(a.host, b.host); c != 0 {
		return c
	}
	return strings.Compare(a.path, b.path)
}

func (c *PutRoute) apply(t *txn) (any, error) {
	r := c.Route
	if r.Name == "" {
		return nil, noKey("route.name")
	}
	have, exists := t.routes.get(r.Name)
	var was api.Route
	if exists {
		was = *have
	}
	if err := match(c.IfMatch, was.Revision, "route", r.Name); err != nil {
		return nil, err
	}
	if exists && have.Equal(&r) {
		return have, nil
	}
	if exists {
		t.removeRoute(have)
	}
	r.CreatedAt = t.now
	if exists {
		r.Name, r.CreatedAt = have.Name, have.CreatedAt
	}
	r.Revision, r.UpdatedAt = t.at, t.now
	if err := t.setRoute(&r); err != nil {
		return nil, err
	}
	t.emit(api.Event{Type: api.EventRouteUpdated, Key: r.Name, Route: &r})
	return &r, nil
}

func (c *DeleteRoute) apply(t *txn) (any, error) {
	have, ok := t.routes.get(c.Name)
	if !ok {
		return nil, notFound("route", c.Name)
	}
	if err := match(c.IfMatch, have.Revision, "route", c.Name); err != nil {
		return nil, err
	}
	t.removeRoute(have)
	t.emit(api.Event{Type: api.EventRouteDeleted, Key: have.Name})
	return have, nil
}

// setRoute stores a route that is not there, and must not be changed afterwards.
func (d *data) setRoute(r *api.Route) error {
	d.routes = d.routes.put(r)
	for _, host := range r.EffectiveHosts() {
		for _, path := range r.EffectivePaths() {
			at := address{host, path}
			if other, ok := d.claims.get(at); ok && other.route != r.Name {
				return api.Errorf(api.CodeConflict, "put route %s: route %s has %s already", r.Name, other.route, at)
			}
			d.claims = d.claims.put(&claim{at: at, route: r.Name})
		}
	}
	return nil
}

// removeRoute removes what setRoute stored.
func (d *data) removeRoute(r *api.Route) {
	d.routes = d.routes.delete(r.Name)
	for _, host := range r.EffectiveHosts() {
		for _, path := range r.EffectivePaths() {
			d.claims = d.claims.delete(address{host, path})
		}
	}
}

// String says the address in words.
func (a address) String() string {
	if a.host == "" {
		return "path " + a.path + " of the cluster's own domain"
	}
	return "host " + a.host + ", path " + a.path
}
