package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"pgregory.net/rapid"
)

func testRoute(name string, change ...func(*api.Route)) api.Route {
	r := api.Route{Name: name, Hosts: []string{name + ".example.com"}, Backends: []api.Backend{{Service: "web"}}}
	for _, f := range change {
		f(&r)
	}
	r.SetDefaults()
	return r
}

func putRoute(r api.Route) Command { return Command{PutRoute: &PutRoute{Route: r}} }

func addressed(hosts []string, paths ...string) func(*api.Route) {
	return func(r *api.Route) { r.Hosts, r.Paths = hosts, paths }
}

func TestRouteLifeCycle(t *testing.T) {
	d := drive(t)
	d.fails(Command{PutRoute: &PutRoute{Route: testRoute(""), IfMatch: ptr(uint64(0))}}, api.CodeInvalid)
	r := d.must(putRoute(testRoute("shop"))).(*api.Route)
	if r.Revision != 1 || !r.CreatedAt.Equal(at(1)) || !r.UpdatedAt.Equal(at(1)) {
		t.Errorf("got %+v", r)
	}
	before := d.View()
	if d.must(putRoute(testRoute("shop"))); d.View() != before {
		t.Error("the same again changed something")
	}
	d.fails(Command{PutRoute: &PutRoute{Route: testRoute("shop"), IfMatch: ptr(uint64(0))}}, api.CodeStaleRevision)
	d.must(putRoute(testRoute("blog")))
	paused := testRoute("shop", func(r *api.Route) { r.Mode = api.RoutePause })
	r = d.must(Command{PutRoute: &PutRoute{Route: paused, IfMatch: ptr(uint64(1))}}).(*api.Route)
	if r.Revision != 3 || !r.CreatedAt.Equal(at(1)) || !r.UpdatedAt.Equal(at(5)) || r.Mode != api.RoutePause {
		t.Errorf("got %+v", r)
	}
	var names []string
	for r := range d.View().Routes() {
		names = append(names, r.Name)
	}
	if !slices.Equal(names, []string{"blog", "shop"}) {
		t.Errorf("got %q", names)
	}
	d.fails(Command{DeleteRoute: &DeleteRoute{Name: "shop", IfMatch: ptr(uint64(1))}}, api.CodeStaleRevision)
	d.must(Command{DeleteRoute: &DeleteRoute{Name: "shop", IfMatch: ptr(uint64(3))}})
	d.fails(Command{DeleteRoute: &DeleteRoute{Name: "shop"}}, api.CodeNotFound)
	if _, ok := d.View().Route("shop"); ok {
		t.Error("it is still there")
	}
	events, _, _ := d.Events(0)
	got := ""
	for _, e := range events {
		got += fmt.Sprint(e.Index, " ", e.Type, " ", e.Key, " ", e.Route != nil, "\n")
	}
	if want := "1 route.updated shop true\n2 route.updated blog true\n3 route.updated shop true\n4 route.deleted shop false\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A route outlives what its backends name.
func TestRouteNeedsNoBackend(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("web")))
	d.must(putRoute(testRoute("shop")))
	d.must(Command{DeleteService: &DeleteService{Name: "web"}})
	if r, ok := d.View().Route("shop"); !ok || r.Backends[0].Service != "web" {
		t.Errorf("got %+v", r)
	}
}

func TestRoutesDoNotOverlap(t *testing.T) {
	d := drive(t)
	d.must(putRoute(testRoute("one", addressed([]string{"a.test", "b.test"}, "/x", "/y"))))
	d.must(putRoute(testRoute("own", addressed(nil, "/x"))))
	for want, r := range map[string]api.Route{
		"put route two: route one has host b.test, path /y already":                testRoute("two", addressed([]string{"c.test", "b.test"}, "/z", "/y")),
		"put route two: route own has path /x of the cluster's own domain already": testRoute("two", addressed(nil, "/w", "/x")),
	} {
		if got := d.fails(putRoute(r), api.CodeConflict); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	d.must(putRoute(testRoute("two", addressed([]string{"a.test"}))))                              // all of it but /x and /y
	d.must(putRoute(testRoute("three", addressed([]string{"a.test", "b.test"}, "/x/deep", "/z")))) // below
	d.fails(putRoute(testRoute("three", addressed([]string{"a.test"}, "/"))), api.CodeConflict)    // / is all of it, too
	d.must(putRoute(testRoute("one", addressed([]string{"a.test"}, "/y"))))                        // lets go of the rest
	d.must(putRoute(testRoute("four", addressed([]string{"b.test"}, "/y"))))
	d.fails(putRoute(testRoute("one", addressed([]string{"a.test", "b.test"}, "/y"))), api.CodeConflict)
	d.must(Command{DeleteRoute: &DeleteRoute{Name: "four"}})
	d.must(putRoute(testRoute("one", addressed([]string{"a.test", "b.test"}, "/y"))))
	checkRoutes(t, d.View())
}

// checkRoutes compares the claims with the routes that they are derived from.
func checkRoutes(t rapid.TB, v *View) {
	v.routes.check(t)
	v.claims.check(t)
	claims := 0
	for r := range v.Routes() {
		seen := map[address]bool{}
		for _, host := range r.EffectiveHosts() {
			for _, path := range r.EffectivePaths() {
				at := address{host, path}
				if c, ok := v.claims.get(at); !ok || c.route != r.Name {
					t.Fatalf("route %s does not have %s: %+v", r.Name, at, c)
				}
				seen[at] = true
			}
		}
		claims += len(seen)
	}
	if v.claims.len != claims {
		t.Fatalf("%d claims, want %d", v.claims.len, claims)
	}
}

func TestSnapshotRefusesOverlap(t *testing.T) {
	d := drive(t)
	d.must(putRoute(testRoute("one")))
	d.must(putRoute(testRoute("two")))
	good := string(snapshotOf(t, d.View()))
	for _, change := range [][2]string{{"two.example.com", "one.example.com"}, {`"name":"two"`, `"name":"one"`}, {`"name":"two"`, `"name":""`}} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("nothing to replace: %s", good)
		}
		if err := New().Restore(strings.NewReader(bad)); err == nil {
			t.Errorf("restored\n%s", bad)
		}
	}
}

func genRouteCommand(t *rapid.T, match func() *uint64) Command {
	name := rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "route")
	if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		return Command{DeleteRoute: &DeleteRoute{name, match()}}
	}
	some := func(of ...string) []string { return rapid.SliceOfN(rapid.SampledFrom(of), 0, 2).Draw(t, "some") }
	return Command{PutRoute: &PutRoute{testRoute(name, func(r *api.Route) {
		r.Hosts, r.Paths = some("a.test", "b.test"), some("/", "/x", "/y")
		r.Mode = rapid.SampledFrom(api.RouteModes()).Draw(t, "mode")
		r.Backends[0].Weight = rapid.Ptr(rapid.IntRange(0, 100), true).Draw(t, "weight")
	}), match()}}
}
