package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

// backend reads service, service:instance or service/fleet, and a weight.
func backend(name string, weight int) api.Backend {
	b := api.Backend{Service: name, Weight: &weight}
	if s, id, ok := strings.Cut(name, ":"); ok {
		b.Service, b.Instance = s, id
	} else if s, fleet, ok := strings.Cut(name, "/"); ok {
		b.Service, b.Fleet = s, fleet
	}
	return b
}

func stored(name string, hosts, paths []string, backends ...api.Backend) *api.Route {
	r := &api.Route{Name: name, Hosts: hosts, Paths: paths, Backends: backends}
	r.SetDefaults()
	return r
}

func describeMatch(m Match) string {
	switch m.Kind {
	case Routed:
		return m.Route.Spec().Name
	case Weighted:
		return "weighted " + m.Service.Name()
	case Direct:
		return "direct " + m.Service.Name() + ":" + m.ID
	default:
		return m.Kind.String()
	}
}

func TestStoredComesFirst(t *testing.T) {
	r := newRouter(t, Config{Domain: "example.com", Default: "web", Path: map[string]string{"docs": "notes"}, Names: []string{"box.test"}})
	r.PutService(service("web"))
	r.PutService(service("notes"))
	for _, rt := range []*api.Route{
		stored("shop", []string{"shop.test"}, nil),
		stored("basket", []string{"shop.test"}, []string{"/basket", "/basket/now"}),
		stored("item", []string{"shop.test"}, []string{"/item/1/2"}),
		stored("part", []string{"part.test"}, []string{"/a"}),
		stored("derived", []string{"notes.example.com", "x.notes.example.com"}, []string{"/new"}),
		stored("own", nil, []string{"/docs/v2", "/shop"}),
		stored("named", []string{"example.com"}, []string{"/shop/x", "/api"}),
		stored("box", []string{"box.test"}, []string{"/", "/api"}),
	} {
		r.PutRoute(rt)
	}
	for url, want := range map[string]string{
		"shop.test/": "shop", "SHOP.test:443": "shop", "shop.test./x": "shop", "shop.test/basketball": "shop",
		"shop.test/basket": "basket", "shop.test/basket/": "basket", "shop.test/basket/now/x": "basket",
		"shop.test/item/1/2/3": "item", "shop.test/item/1": "shop", "shop.test/item/1//2": "shop", "shop.test//basket": "shop",
		"www.shop.test/": "unknown", "test/": "unknown",
		"part.test/": "unknown", "part.test/a": "part", "part.test/ab": "unknown",
		"notes.example.com/": "weighted notes", "notes.example.com/new/1": "derived",
		"x.notes.example.com/new": "derived", "x.notes.example.com/": "direct notes:x", "y.notes.example.com/new": "direct notes:y",
		"example.com/docs": "weighted notes", "example.com/docs/v2/x": "own", "example.com/docs/v21": "weighted notes",
		"example.com/shop": "own", "example.com/shop/x/y": "named", "example.com/": "weighted web",
		"example.com/api": "local", "example.com/api/routes": "local", "example.com/health": "local",
		"box.test/": "box", "box.test/api/x": "local", "box.test/metrics": "local",
		"localhost/shop": "local", "127.0.0.1/shop": "local", "[::1]/docs/v2": "local",
	} {
		host, path, _ := strings.Cut(url, "/")
		if got := describeMatch(r.Match(host, "/"+path)); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	if got := describeMatch(r.Match("shop.test", "*")) + describeMatch(r.Match("shop.test", "")); got != "shopshop" {
		t.Errorf("odd paths lead to %s", got)
	}
	everything := newRouter(t, Config{})
	everything.PutRoute(stored("all", nil, []string{"/"}))
	for url, want := range map[string]string{"localhost/": "all", "localhost/x": "all", "localhost/api": "local", "127.0.0.1/": "local", "a.localhost/": "unknown"} {
		host, path, _ := strings.Cut(url, "/")
		if got := describeMatch(everything.Match(host, "/"+path)); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestRouteIsReplaced(t *testing.T) {
	r := newRouter(t, Config{})
	r.PutRoute(stored("a", []string{"a.test", "b.test"}, []string{"/x", "/y"}))
	r.PutRoute(stored("b", []string{"a.test"}, nil))
	first := r.Match("a.test", "/x").Route
	r.PutRoute(stored("a", []string{"a.test"}, []string{"/y"}))
	select {
	case <-first.Replaced():
	default:
		t.Error("the first one does not know that it was replaced")
	}
	got := describeMatch(r.Match("a.test", "/x")) + " " + describeMatch(r.Match("a.test", "/y")) + " " + describeMatch(r.Match("b.test", "/y"))
	if got != "b a unknown" {
		t.Errorf("got %s", got)
	}
	a, _ := r.Route("a")
	b, _ := r.Route("b")
	r.ResetRoutes(slices.Values([]*api.Route{b.Spec(), stored("c", []string{"a.test"}, []string{"/y"})}))
	select {
	case <-b.Replaced():
		t.Error("one that stays was replaced")
	case <-a.Replaced():
	}
	if now, ok := r.Route("b"); !ok || now != b || describeMatch(r.Match("a.test", "/y")) != "c" {
		t.Errorf("after a reset: %v, %s", ok, describeMatch(r.Match("a.test", "/y")))
	}
	r.DeleteRoute("c")
	r.DeleteRoute("b")
	r.DeleteRoute("b")
	if r.hosts.Load() != nil || len(r.routes) > 0 {
		t.Errorf("something is left: %v %v", r.hosts.Load(), r.routes)
	}
	<-b.Replaced()
}

func routePicks(t *testing.T, r *Router, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range n {
		rt := r.Match("shop.test", "/").Route
		if p := rt.Pick(nil); p != nil {
			got[p.Ref().String()]++
		} else {
			got["none"]++
		}
	}
	return got
}

func TestRoutePicks(t *testing.T) {
	r := fleetRouter(t)
	r.PutService(service("web"))
	r.PutService(service("old"))
	put := func(ref string, weight int, change ...func(*api.Instance)) {
		i := instance(ref, weight)
		i.Node = "self"
		for _, f := range change {
			f(i)
		}
		r.PutInstance(i)
	}
	check := func(what string, want map[string]int) {
		t.Helper()
		if got := routePicks(t, r, 100); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	shop := func(backends ...api.Backend) { r.PutRoute(stored("shop", []string{"shop.test"}, nil, backends...)) }

	shop(backend("web:v1", 90), backend("web:v2", 10))
	check("nothing is there", map[string]int{"none": 100})
	put("web:v1", 0) // its own weight is for the service's host
	check("one is there", map[string]int{"web:v1": 100})
	put("web:v2", 100)
	check("by the route's weights", map[string]int{"web:v1": 90, "web:v2": 10})
	shop(backend("web:v1", 10), backend("web:v2", 90))
	check("by its new weights", map[string]int{"web:v1": 10, "web:v2": 90})
	shop(backend("web:v1", 0), backend("web:v2", 0))
	if check("no weight", map[string]int{"none": 100}); !r.Match("shop.test", "/").Route.Weightless() {
		t.Error("not weightless")
	}
	shop(backend("web:v1", 50), backend("web:v2", 50))
	put("web:v2", 100, func(i *api.Instance) { i.Desired = api.DesiredAsleep })
	check("asleep on demand is out of weighted traffic", map[string]int{"web:v1": 100})
	put("web:v2", 100)
	r.Down(ref("web:v2"))
	check("down is stepped past", map[string]int{"web:v1": 100})
	r.Down(ref("web:v1"))
	if got := routePicks(t, r, 100); got["none"] > 0 {
		t.Errorf("all down: one of them is to be waited for: %v", got)
	}
	r.DeleteService("web")
	check("the service is deleted", map[string]int{"none": 100})
	r.PutService(service("web"))
	put("web:v1", 100)
	put("web:v3", 100)
	r.Sleep(ref("web:v1"))
	check("and made again, asleep", map[string]int{"web:v1": 100})

	for i, node := range []string{"self", "self", "near", "far", "far"} {
		r.PutInstance(member(fmt.Sprint("f-", i), node, 0))
	}
	shop(backend("app/f", 60), backend("web", 40), backend("old", 60), backend("app/none", 50), backend("nowhere", 9), backend("app:gone", 9))
	check("a fleet and a service", map[string]int{"app:f-0": 30, "app:f-1": 30, "web:v1": 20, "web:v3": 20})
	put("web:v3", 0)
	check("a service by its own weights", map[string]int{"app:f-0": 30, "app:f-1": 30, "web:v1": 40})
	put("web:v1", 0)
	check("a service without weights", map[string]int{"app:f-0": 50, "app:f-1": 50})
	put("old:x", 7)
	check("a service gets its first instance", map[string]int{"app:f-0": 25, "app:f-1": 25, "old:x": 50})
	r.DeleteInstance(ref("old:x"))
	for _, id := range []string{"f-0", "f-1"} {
		r.Down(api.Ref{Service: "app", ID: id})
	}
	check("the nearest members are down", map[string]int{"app:f-2": 100})
	r.PutNode(&api.Node{ID: "near", Name: "near", Zone: "z1", PeerAddress: "near", Status: api.NodeDown})
	check("so is the next node", map[string]int{"app:f-3": 50, "app:f-4": 50})
}

func ref(s string) api.Ref {
	r, err := api.ParseRef(s)
	if err != nil {
		panic(err)
	}
	return r
}

func TestRoutedDoesNotAllocate(t *testing.T) {
	r := newRouter(t, Config{Domain: "example.com"})
	r.PutService(service("web"))
	for _, id := range []string{"web:v1", "web:v2"} {
		r.PutInstance(instance(id, 100))
		r.Open(ref(id), api.Endpoint{Network: "tcp", Address: "127.0.0.1:1"})
	}
	r.PutRoute(stored("shop", []string{"shop.test"}, []string{"/", "/a/b"}, backend("web:v1", 90), backend("web:v2", 10), backend("web", 5)))
	r.PutRoute(stored("own", nil, []string{"/a/b"}, backend("web", 5)))
	if n := testing.AllocsPerRun(100, func() {
		for _, at := range [...][2]string{{"shop.test:8080", "/x"}, {"shop.test", "/a/b/c"}, {"example.com", "/a/b"}} {
			if m := r.Match(at[0], at[1]); m.Route.Pick(nil) == nil {
				t.Fatal("can't pick")
			}
		}
		if r.Match("web.example.com", "/").Service.Pick(nil) == nil {
			t.Fatal("can't pick")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// model is what the routes mean, said as simply as can be.
type model map[string]*api.Route

func (m model) match(host, path string) string {
	best, length := "", -1
	for name, rt := range m {
		if !slices.Contains(rt.EffectiveHosts(), host) {
			continue
		}
		for _, p := range rt.EffectivePaths() {
			if (p == "/" || path == p || strings.HasPrefix(path, p+"/")) && len(p) > length {
				best, length = name, len(p)
			}
		}
	}
	return best
}

func (m model) free(spec *api.Route) bool {
	for _, rt := range m {
		for _, host := range rt.EffectiveHosts() {
			for _, path := range rt.EffectivePaths() {
				if rt.Name != spec.Name && slices.Contains(spec.EffectiveHosts(), host) && slices.Contains(spec.EffectivePaths(), path) {
					return false
				}
			}
		}
	}
	return true
}

// However routes come and go, each request finds what the routes of then say.
func TestTableMeansWhatTheRoutesSay(t *testing.T) {
	hosts, paths := []string{"a.test", "b.test", "c.d.test"}, []string{"/", "/x", "/x/y", "/x/y/z", "/xy", "/w"}
	rapid.Check(t, func(t *rapid.T) {
		r, err := New(Config{Domain: "own.test"})
		if err != nil {
			t.Fatal(err)
		}
		m := model{}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			name := rapid.SampledFrom([]string{"r1", "r2", "r3", "r4"}).Draw(t, "route")
			spec := stored(name, rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 0, 2, rapid.ID).Draw(t, "hosts"),
				rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 0, 3, rapid.ID).Draw(t, "paths"))
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op == 0:
				delete(m, name)
				r.DeleteRoute(name)
			case op == 1:
				r.ResetRoutes(func(yield func(*api.Route) bool) {
					for _, rt := range m {
						if !yield(rt) {
							return
						}
					}
				})
			case m.free(spec):
				m[name] = spec
				r.PutRoute(spec)
			}
			for _, host := range append(hosts, "", "e.test") {
				for _, path := range append(paths, "/x/", "/x/yy", "/x/y/z/1/2", "/1") {
					want, asked := m.match(host, path), host
					if host == "" {
						asked = "own.test"
					}
					got := ""
					if rt := r.Match(asked, path).Route; rt != nil {
						got = rt.Spec().Name
					}
					if got != want {
						t.Fatalf("%s%s: %q, want %q of %+v", asked, path, got, want, m)
					}
				}
			}
		}
	})
}

// Weights are kept whoever asks, and while instances of others come and go.
func TestRouteWeightsHold(t *testing.T) {
	const n = 20_000
	random := rand.New(rand.NewPCG(4, 2)) //nolint:gosec // a fixed sequence
	r := newRouter(t, Config{})
	r.PutService(service("web"))
	r.PutService(service("noise"))
	var backends []api.Backend
	total := 0
	for i := range 7 {
		name, w := fmt.Sprintf("web:v%d", i), random.IntN(101)
		r.PutInstance(instance(name, 100))
		backends = append(backends, backend(name, w))
		total += w
	}
	r.PutRoute(stored("shop", []string{"shop.test"}, nil, backends...))
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			mine := map[string]int{}
			for range n / 4 {
				mine[r.Match("shop.test", "/").Route.Pick(nil).id]++
			}
			mu.Lock()
			defer mu.Unlock()
			for id, k := range mine {
				got[id] += k
			}
		})
	}
	for i := range 200 {
		r.PutInstance(instance(fmt.Sprintf("noise:n%d", i), 100))
		r.PutInstance(instance("web:extra", i%2))
	}
	wg.Wait()
	for _, b := range backends {
		want := float64(n) * float64(b.EffectiveWeight()) / float64(total)
		if k := float64(got[b.Instance]); k < want-n/100 || k > want+n/100 {
			t.Errorf("%s: %v of %d, want %.0f", b.Instance, k, n, want)
		}
	}
}

// FuzzStored holds any host and path against what the routes say.
func FuzzStored(f *testing.F) {
	for _, s := range [][2]string{{"shop.test", "/a/b"}, {"SHOP.test.:80", "/a//b"}, {"own.test", "/api/../a"}, {"[::1]", "/"}, {"shop.test", "*"}, {"shop.test", ""}} {
		f.Add(s[0], s[1])
	}
	r, err := New(Config{Domain: "own.test"})
	if err != nil {
		f.Fatal(err)
	}
	m := model{}
	for _, rt := range []*api.Route{
		stored("shop", []string{"shop.test"}, nil), stored("ab", []string{"shop.test"}, []string{"/a/b", "/ü"}),
		stored("own", nil, []string{"/", "/a"}), stored("api", []string{"own.test"}, []string{"/api", "/a/b"}),
	} {
		m[rt.Name] = rt
		r.PutRoute(rt)
	}
	f.Fuzz(func(t *testing.T, host, path string) {
		got := r.Match(host, path)
		h, err := ParseHost(host)
		want := ""
		switch {
		case err != nil:
		case h.Name == "own.test" && reservedPath(path):
		case h.Name == "own.test":
			if want = m.match("own.test", path); want == "" {
				want = m.match("", path)
			}
		default:
			want = m.match(h.Name, path)
		}
		if (got.Kind == Routed) != (want != "") || want != "" && got.Route.Spec().Name != want {
			t.Fatalf("%q %q: %s, want %q", host, path, describeMatch(got), want)
		}
	})
}
