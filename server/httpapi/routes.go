package httpapi

import (
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listRoutes(c *call) (list[*api.RouteStatus], error) {
	return func(yield func(*api.RouteStatus) bool) {
		for r := range c.view.Routes() {
			if !yield(routeStatus(c.view, r)) {
				return
			}
		}
	}, nil
}

func (s *Server) getRoute(c *call) (*api.RouteStatus, error) {
	r, err := routeIn(c.view, c.name)
	if err != nil {
		return nil, err
	}
	return routeStatus(c.view, r), nil
}

func (s *Server) putRoute(c *call, r *api.Route) (*api.Route, error) {
	if err := agree("name", &r.Name, c.name); err != nil {
		return nil, err
	}
	// What the cluster writes is not the client's to set.
	r.Source, r.Revision, r.CreatedAt, r.UpdatedAt = api.SourceAPI, 0, time.Time{}, time.Time{}
	r.SetDefaults()
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var revision uint64
	cur, exists := c.view.Route(c.name)
	if exists {
		revision = cur.Revision
	}
	ifMatch, err := c.args.ifMatch(revision, exists)
	if err != nil {
		return nil, err
	}
	return s.cfg.Cluster.PutRoute(c.ctx, r, ifMatch)
}

func (s *Server) deleteRoute(c *call) (none, error) {
	cur, err := routeIn(c.view, c.name)
	if err != nil {
		return none{}, err
	}
	ifMatch, err := c.args.ifMatch(cur.Revision, true)
	if err != nil {
		return none{}, err
	}
	_, err = s.cfg.Cluster.DeleteRoute(c.ctx, c.name, ifMatch)
	return none{}, err
}

// routeIn finds a route; without one the error suggests a similar name.
func routeIn(view View, name string) (*api.Route, error) {
	if r, ok := view.Route(name); ok {
		return r, nil
	}
	var names []string
	for r := range view.Routes() {
		names = append(names, r.Name)
	}
	if near := closest(name, names); near != "" {
		return nil, api.Errorf(api.CodeNotFound, "no route %q; perhaps %q", clip(name), near)
	}
	return nil, api.Errorf(api.CodeNotFound, "no route %q", clip(name))
}

// routeStatus says what becomes of a route's requests, as far as the state tells.
func routeStatus(view View, r *api.Route) *api.RouteStatus {
	out := &api.RouteStatus{Route: *r, Effective: make([]api.BackendStatus, len(r.Backends))}
	total := 0
	for i := range r.Backends {
		b := &r.Backends[i]
		e := api.BackendStatus{Backend: *b, Reason: unready(view, b)}
		switch {
		case e.Reason != "":
		case b.EffectiveWeight() == 0:
			e.Reason = "its weight is 0"
		case r.Mode == api.RoutePause:
			e.Reason = "the route pauses"
		case r.Mode == api.RouteMaintenance:
			e.Reason = "the route is under maintenance"
		default:
			total += b.EffectiveWeight()
		}
		out.Effective[i] = e
	}
	for i := range out.Effective {
		if e := &out.Effective[i]; e.Reason == "" {
			e.Share = math.Round(100*100*float64(e.EffectiveWeight())/float64(total)) / 100
		}
	}
	return out
}

// unready says why a backend takes no requests; "" when it does.
func unready(view View, b *api.Backend) string {
	if _, ok := view.Service(b.Service); !ok {
		return "unknown: there is no service " + b.Service
	}
	switch {
	case b.Instance != "":
		ref := api.Ref{Service: b.Service, ID: b.Instance}
		if i, ok := view.Instance(ref); ok {
			return outOfTraffic(view, i)
		}
		if _, ok := view.Fleet(ref); ok {
			return fmt.Sprintf("unknown: there is no instance %s, but a fleet of that name", ref)
		}
		return fmt.Sprintf("unknown: there is no instance %s", ref)
	case b.Fleet != "":
		ref := api.Ref{Service: b.Service, ID: b.Fleet}
		f, ok := view.Fleet(ref)
		if !ok {
			return fmt.Sprintf("unknown: there is no fleet %s", ref)
		}
		return noneOf(view, func(yield func(*api.Instance) bool) {
			for n := range f.Replicas {
				if i, ok := view.Instance(f.Member(n)); ok && !yield(i) {
					return
				}
			}
		})
	default:
		return noneOf(view, func(yield func(*api.Instance) bool) {
			for i := range view.Instances(b.Service) {
				if i.EffectiveWeight() > 0 && !yield(i) {
					return
				}
			}
		})
	}
}

// noneOf says why none of the instances takes requests; "" when one does.
func noneOf(view View, instances iter.Seq[*api.Instance]) string {
	first := ""
	for i := range instances {
		why := outOfTraffic(view, i)
		if why == "" {
			return ""
		}
		if first == "" {
			first = fmt.Sprintf("none of its instances takes requests; %s: %s", i.Ref(), why)
		}
	}
	if first == "" {
		return "it has no instance with a weight"
	}
	return first
}

// outOfTraffic says why an instance gets no requests but those for its own host; "" when
// it does.
func outOfTraffic(view View, i *api.Instance) string {
	switch i.Desired {
	case api.DesiredAsleep:
		return "it is stopped, and only a request for its own host wakes it"
	case api.DesiredStopped:
		return "it is held down"
	}
	node := i.Node
	if i.Previous != nil {
		node = i.Previous.Node
	}
	if n, ok := view.Node(node); ok && !n.Reachable() {
		return "its node " + n.Name + " is " + string(n.Status)
	}
	switch s := i.State(); s {
	case api.StateBackoff, api.StateUnhealthy, api.StateFailed, api.StateStopped:
		if i.Observed.Reason != "" {
			return "it is " + string(s) + ": " + i.Observed.Reason
		}
		return "it is " + string(s)
	}
	return ""
}
