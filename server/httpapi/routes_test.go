package httpapi

import (
	"fmt"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestRoutes(t *testing.T) {
	f := newFixture(t)
	const web = `{"hosts":["shop.test"],"paths":["/a"],"backends":[{"service":"notes","instance":"alice","weight":90},{"service":"notes","weight":null}]}`
	var r api.Route
	h := f.admin(t, 200, "PUT", "/api/routes/shop", web, &r)
	if r.Name != "shop" || r.Mode != api.RouteLive || r.Source != api.SourceAPI || r.Backends[1].EffectiveWeight() != 100 ||
		h.Get("ETag") != fmt.Sprintf(`"%d"`, r.Revision) {
		t.Errorf("got %+v, %v", r, h)
	}
	var status api.RouteStatus
	if h := f.admin(t, 200, "GET", "/api/routes/shop", "", &status); h.Get("ETag") != fmt.Sprintf(`"%d"`, r.Revision) {
		t.Errorf("got %v", h)
	}
	if !status.Equal(&r) || len(status.Effective) != 2 || status.Effective[0].Share != 47.37 || status.Effective[1].Share != 52.63 {
		t.Errorf("got %+v", status)
	}
	var all []api.RouteStatus
	f.admin(t, 200, "GET", "/api/routes", "", &all)
	if len(all) != 2 || all[0].Name != "notes" || all[1].Name != "shop" || len(all[0].Effective) != 1 {
		t.Errorf("got %+v", all)
	}
	f.admin(t, 412, "PUT", "/api/routes/shop", web, nil, "If-Match", `"1"`)
	f.admin(t, 412, "DELETE", "/api/routes/shop", "", nil, "If-Match", `"1"`)
	f.admin(t, 412, "PUT", "/api/routes/new", web, nil, "If-Match", `*`)
	for _, bad := range []string{
		`{"hosts":["shop"],"backends":[{"service":"notes"}]}`, `{"hosts":["shop.test"]}`, `{"backends":[{"service":"notes"}]}`, `{"name":"other"}`,
		`{"hosts":["shop.test"],"backends":[{"service":"notes","instance":"a","fleet":"b"}]}`, `{"paths":["/api"],"backends":[{"service":"notes"}]}`,
		`{"hosts":["shop.test"],"mode":"off","backends":[{"service":"notes"}]}`, `{"hosts":"shop.test"}`,
	} {
		f.admin(t, 400, "PUT", "/api/routes/shop", bad, nil)
	}
	f.admin(t, 400, "PUT", "/api/routes/No", web, nil)
	f.admin(t, 204, "DELETE", "/api/routes/shop", "", nil, "If-Match", fmt.Sprintf(`"%d"`, r.Revision))
	f.admin(t, 404, "GET", "/api/routes/shop", "", nil)
	var p api.Problem
	f.admin(t, 404, "DELETE", "/api/routes/nots", "", &p)
	if p.Detail != `no route "nots"; perhaps "notes"` {
		t.Errorf("got %q", p.Detail)
	}
}

func TestEffectiveBackends(t *testing.T) {
	f := newFixture(t)
	v := f.cluster.View().(*fakeView)
	put := func(ref string, change func(*api.Instance)) {
		r, err := api.ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		i := &api.Instance{Service: r.Service, ID: r.ID, Node: thisNode}
		i.SetDefaults()
		if change != nil {
			change(i)
		}
		v.instances[r] = i
	}
	v.services["web"] = &api.Service{Name: "web"}
	v.services["none"] = &api.Service{Name: "none"}
	state := func(s api.State, reason string) func(*api.Instance) {
		return func(i *api.Instance) { i.Observed = &api.Observed{State: s, Reason: reason} }
	}
	put("web:up", func(i *api.Instance) { i.Weight = new(0) })
	put("web:sleeps", state(api.StateAsleep, ""))
	put("web:failed", state(api.StateFailed, "exit status 3"))
	put("web:stopped", func(i *api.Instance) { i.Desired = api.DesiredAsleep })
	put("web:held", func(i *api.Instance) { i.Desired = api.DesiredStopped })
	put("web:lost", func(i *api.Instance) { i.Node = "node-0" })
	put("web:moving", func(i *api.Instance) { i.Previous = &api.Previous{Node: "node-0"} })
	put("web:f-0", state(api.StateUnhealthy, ""))
	put("web:f-1", state(api.StateBackoff, "exit status 1"))
	put("web:g-0", state(api.StateFailed, ""))
	put("web:g-1", nil)
	for name, n := range map[string]int{"f": 2, "g": 2, "empty": 0} {
		ref := api.Ref{Service: "web", ID: name}
		v.fleets[ref] = &api.Fleet{Service: "web", Name: name, Replicas: n}
	}
	backend := func(service, instance, fleet string) api.Backend {
		return api.Backend{Service: service, Instance: instance, Fleet: fleet, Weight: new(50)}
	}
	status := func(mode api.RouteMode, b ...api.Backend) string {
		s := routeStatus(v, &api.Route{Name: "r", Mode: mode, Backends: b})
		last := s.Effective[len(b)-1]
		return fmt.Sprint(last.Share, " ", last.Reason)
	}
	up := backend("web", "up", "")
	for want, b := range map[string]api.Backend{
		"50 ":                           backend("web", "sleeps", ""),
		"0 it is failed: exit status 3": backend("web", "failed", ""),
		"0 it is stopped, and only a request for its own host wakes it": backend("web", "stopped", ""),
		"0 it is held down":                                                backend("web", "held", ""),
		"0 its node two is down":                                           backend("web", "lost", ""),
		"0 unknown: there is no service nowhere":                           backend("nowhere", "x", ""),
		"0 unknown: there is no instance web:x":                            backend("web", "x", ""),
		"0 unknown: there is no instance web:f, but a fleet of that name":  backend("web", "f", ""),
		"0 unknown: there is no fleet web:x":                               backend("web", "", "x"),
		"0 none of its instances takes requests; web:f-0: it is unhealthy": backend("web", "", "f"),
		"0 it has no instance with a weight":                               backend("web", "", "empty"),
		"0 its weight is 0":                                                {Service: "web", Instance: "up", Fleet: "", Weight: new(0)},
	} {
		if got := status(api.RouteLive, up, b); got != want {
			t.Errorf("%s: got %q, want %q", b.String(), got, want)
		}
	}
	for want, b := range map[string]api.Backend{
		"100 ": backend("web", "", "g"), "0 it has no instance with a weight": backend("none", "", ""),
		"0 its node two is down": backend("web", "moving", ""),
	} {
		if got := status(api.RouteLive, b); got != want {
			t.Errorf("%s alone: got %q, want %q", b.String(), got, want)
		}
	}
	if got := status(api.RoutePause, up); got != "0 the route pauses" {
		t.Errorf("got %q", got)
	}
	if got := status(api.RouteMaintenance, up, backend("web", "x", "")); got != "0 unknown: there is no instance web:x" {
		t.Errorf("got %q", got)
	}
	if got := status(api.RouteMaintenance, up); got != "0 the route is under maintenance" {
		t.Errorf("got %q", got)
	}
}
