package route

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func newRouter(t testing.TB, cfg Config) *Router {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func service(name string) *api.Service {
	s := &api.Service{Name: name, Command: "true"}
	s.SetDefaults()
	return s
}

func instance(ref string, weight int) *api.Instance {
	r, err := api.ParseRef(ref)
	if err != nil {
		panic(err)
	}
	i := &api.Instance{Service: r.Service, ID: r.ID, Weight: &weight}
	i.SetDefaults()
	return i
}

func TestMatch(t *testing.T) {
	plain := newRouter(t, Config{Domain: "example.com"})
	custom := newRouter(t, Config{
		Domain: "example.com", Default: "web",
		Subdomain: map[string]string{"www": "web", "a.b": "notes"},
		Path:      map[string]string{"docs": "notes", "/docs/v2/*": "web"},
		Names:     []string{"server-1", "ten.example.org", "10.0.0.1"},
	})
	local := newRouter(t, Config{})
	for _, r := range []*Router{plain, custom, local} {
		r.PutService(service("notes"))
		r.PutService(service("web"))
		r.PutService(service("api"))
		r.PutInstance(instance("notes:anna", 100))
	}
	for _, tc := range []struct {
		r    *Router
		url  string
		want string
	}{
		{plain, "example.com/", "local"},
		{plain, "EXAMPLE.com.:443/x", "local"},
		{plain, "localhost:8080/", "local"},
		{plain, "127.0.0.1:8080/", "local"},
		{plain, "[::1]/", "local"},
		{plain, "notes.example.com/", "weighted notes"},
		{plain, "api.example.com/", "weighted api"},
		{plain, "anna.notes.example.com/", "direct notes:anna"},
		{plain, "ANNA.Notes.Example.com./", "direct notes:anna"},
		{plain, "bob.notes.example.com/", "direct notes:bob, no instance"},
		{plain, "x.anna.notes.example.com/", "unknown"},
		{plain, "-x.notes.example.com/", "unknown"},
		{plain, "nothing.example.com/", "unknown"},
		{plain, "anna.nothing.example.com/", "unknown"},
		{plain, "notes.localhost/", "unknown"},
		{plain, "notexample.com/", "unknown"},
		{plain, "example.com.evil.org/", "unknown"},
		{plain, "/", "unknown"},
		{plain, "a b/", "unknown"},
		{local, "localhost/", "local"},
		{local, "notes.localhost/", "weighted notes"},
		{local, "anna.notes.localhost:8080/", "direct notes:anna"},
		{custom, "example.com/", "weighted web"},
		{custom, "example.com/api", "local"},
		{custom, "example.com/api/instances", "local"},
		{custom, "example.com/apiary", "weighted web"},
		{custom, "example.com/metrics", "local"},
		{custom, "example.com/health", "local"},
		{custom, "example.com/docs", "weighted notes"},
		{custom, "example.com/docs/", "weighted notes"},
		{custom, "example.com/docs/a/b", "weighted notes"},
		{custom, "example.com/docs/v2", "weighted web"},
		{custom, "example.com/docs/v2/x", "weighted web"},
		{custom, "example.com/docs/v21", "weighted notes"},
		{custom, "example.com/docsx", "weighted web"},
		{custom, "www.example.com/", "weighted web"},
		{custom, "a.b.example.com/", "weighted notes"},
		{custom, "example.com/terraform/providers/v1/", "local"},
		{custom, "example.com/terraformed", "weighted web"},
		{custom, "example.com/.well-known/terraform.json", "local"},
		{custom, "example.com/.well-known/acme-challenge/x", "weighted web"},
		{custom, "server-1:8443/", "local"},
		{custom, "Ten.Example.org/x", "local"},
		{custom, "x.ten.example.org/", "unknown"},
		{plain, "server-1/", "unknown"},
		{custom, "127.0.0.1/", "local"},
		{custom, "localhost/", "local"},
	} {
		host, path, _ := strings.Cut(tc.url, "/")
		m := tc.r.Match(host, "/"+path)
		got := m.Kind.String()
		switch m.Kind {
		case Direct:
			got = fmt.Sprintf("direct %s:%s", m.Service.Name(), m.ID)
			if m.Target == nil {
				got += ", no instance"
			} else if m.Target.Ref().ID != m.ID {
				got += ", but " + m.Target.Ref().String()
			}
		case Weighted:
			got = "weighted " + m.Service.Name()
		}
		if got != tc.want {
			t.Errorf("%s: %s; want %s", tc.url, got, tc.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg   Config
		field string
	}{
		{Config{Domain: "a b"}, "domain"},
		{Config{Domain: "10.0.0.1"}, "domain"},
		{Config{Domain: "example.com:80"}, "domain"},
		{Config{Default: "No"}, "routing.default"},
		{Config{Subdomain: map[string]string{"a b": "web"}}, "routing.subdomain"},
		{Config{Subdomain: map[string]string{"x": ""}}, "routing.subdomain.x"},
		{Config{Path: map[string]string{"/api/*": "web"}}, "routing.path"},
		{Config{Path: map[string]string{"/": "web"}}, "routing.path"},
		{Config{Path: map[string]string{"terraform": "web"}}, "routing.path"},
		{Config{Path: map[string]string{".well-known/terraform.json": "web"}}, "routing.path"},
		{Config{Names: []string{"a b"}}, "names"},
		{Config{Names: []string{"a:1"}}, "names"},
		{Config{Path: map[string]string{"a*b": "web"}}, "routing.path"},
		{Config{Path: map[string]string{"x": "-"}}, "routing.path.x"},
	} {
		_, err := New(tc.cfg)
		fe, ok := errors.AsType[*api.FieldError](err)
		if !ok || fe.Field != tc.field {
			t.Errorf("New(%+v): %v; want an error of field %s", tc.cfg, err, tc.field)
		}
	}
}

func TestUpdates(t *testing.T) {
	r := newRouter(t, Config{})
	r.PutInstance(instance("notes:a", 100)) // before its service: not routable yet
	if m := r.Match("a.notes.localhost", "/"); m.Kind != Unknown {
		t.Fatalf("instance of an undeclared service: %v", m.Kind)
	}
	r.PutService(service("notes"))
	m := r.Match("a.notes.localhost", "/")
	if m.Target == nil || m.Target.State() != Asleep {
		t.Fatalf("new instance: %+v", m)
	}
	r.DeleteInstance(m.Target.Ref())
	if m := r.Match("a.notes.localhost", "/"); m.Kind != Direct || m.Target != nil {
		t.Fatalf("deleted instance: %+v", m)
	}
	r.DeleteService("notes")
	if m := r.Match("a.notes.localhost", "/"); m.Kind != Unknown {
		t.Fatalf("deleted service: %+v", m)
	}
	if r.services.Load() != nil {
		t.Error("a deleted service leaves something behind")
	}
}

func TestResetKeepsGates(t *testing.T) {
	r := newRouter(t, Config{})
	r.PutService(service("notes"))
	r.PutService(service("old"))
	ref := api.Ref{Service: "notes", ID: "a"}
	busy := api.Ref{Service: "old", ID: "busy"}
	r.PutInstance(instance("notes:a", 100))
	r.PutInstance(instance("notes:b", 100))
	r.PutInstance(instance("old:busy", 100))
	r.Open(ref, api.Endpoint{Network: "tcp", Address: "127.0.0.1:1"})
	r.Open(busy, api.Endpoint{Network: "tcp", Address: "127.0.0.1:2"})
	a, _ := mustService(t, r, "notes").Target("a")
	old, _ := mustService(t, r, "old").Target("busy")
	if _, ok := old.Claim(); !ok {
		t.Fatal("can't claim")
	}
	r.Reset(slices.Values([]*api.Service{service("notes"), service("new")}),
		slices.Values([]*api.Instance{instance("notes:a", 7), instance("new:x", 100)}))
	if got, ok := mustService(t, r, "notes").Target("a"); !ok || got != a || got.State() != Open {
		t.Error("the gate of an instance that stays was lost")
	}
	for _, host := range []string{"old.localhost", "busy.old.localhost"} {
		if m := r.Match(host, "/"); m.Kind != Unknown {
			t.Errorf("%s still leads to %v", host, m.Kind)
		}
	}
	if m := r.Match("b.notes.localhost", "/"); m.Target != nil {
		t.Error("an instance that left is still there")
	}
	if r.InFlight(busy) != 1 {
		t.Error("the open request of a removed instance is forgotten")
	}
	r.Hold(busy)
	old.Release(time.Now())
	if err := r.Drain(t.Context(), busy); err != nil {
		t.Error(err)
	}
	if _, ok := r.services.Load().get(r.hasher("old"), "old"); ok {
		t.Error("a removed service stays after its last request")
	}
}

func mustService(t testing.TB, r *Router, name string) *Service {
	t.Helper()
	s, ok := r.Service(name)
	if !ok {
		t.Fatalf("no service %s", name)
	}
	return s
}

func TestAwait(t *testing.T) {
	r := newRouter(t, Config{})
	r.PutService(service("notes"))
	ref := api.Ref{Service: "notes", ID: "a"}
	got := make(chan *Target)
	go func() {
		target, err := r.Await(t.Context(), ref)
		if err != nil {
			t.Error(err)
		}
		got <- target
	}()
	r.PutInstance(instance("notes:a", 100))
	if target := <-got; target.Ref() != ref {
		t.Errorf("awaited %v", target.Ref())
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	r := newRouter(t, Config{Domain: "example.com"})
	r.PutService(service("notes"))
	r.PutInstance(instance("notes:a", 100))
	ep := api.Endpoint{Network: "tcp", Address: "127.0.0.1:1"}
	r.Open(api.Ref{Service: "notes", ID: "a"}, ep)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		m := r.Match("a.notes.example.com:8080", "/")
		if _, ok := m.Target.Claim(); !ok {
			t.Fatal("can't claim")
		}
		m.Target.Release(now)
		if r.Match("notes.example.com", "/").Service.Pick(nil) == nil {
			t.Fatal("can't pick")
		}
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func many(n int) []*api.Instance {
	out := make([]*api.Instance, n)
	for i := range out {
		out[i] = instance(fmt.Sprintf("notes:tenant-%d", i), 100)
	}
	return out
}

func TestSleepersAreCheap(t *testing.T) {
	const n = 100_000
	instances := many(n)
	r := newRouter(t, Config{})
	before := heap()
	r.Reset(slices.Values([]*api.Service{service("notes")}), slices.Values(instances))
	per := float64(heap()-before) / n
	t.Logf("%.0f bytes of heap per sleeping instance", per)
	if per > 250 {
		t.Errorf("%.0f bytes of heap per sleeping instance, want at most 250", per)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(instances)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkRouter(b *testing.B) {
	const n = 100_000
	instances := many(n)
	r := newRouter(b, Config{})
	before := heap()
	r.Reset(slices.Values([]*api.Service{service("notes")}), slices.Values(instances))
	per := float64(heap()-before) / n
	b.Run("match among 100000", func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(per, "heap-bytes/instance")
		for b.Loop() {
			if r.Match("tenant-77777.notes.localhost:8080", "/").Target == nil {
				b.Fatal("not found")
			}
		}
	})
	b.Run("add one to 100000", func(b *testing.B) {
		b.ReportAllocs()
		extra := instance("notes:one-more", 100)
		for b.Loop() {
			r.PutInstance(extra)
			r.DeleteInstance(extra.Ref())
		}
	})
	b.Run("reset 100000", func(b *testing.B) {
		for b.Loop() {
			r.Reset(slices.Values([]*api.Service{service("notes")}), slices.Values(instances))
		}
	})
	runtime.KeepAlive(instances)
}
