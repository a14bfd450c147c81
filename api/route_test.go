package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

const (
	wantHost = "a whole DNS name such as shop.example.com: lower case, without port, IP address or *"
	wantPath = "a path such as /shop: whole segments, without / at its end, *, ?, # or %"
)

func validRoute() *api.Route {
	return &api.Route{
		Name: "shop", Hosts: []string{"shop.example.com", "xn--lden-zoa.example.com"}, Paths: []string{"/", "/a/b.c", "/über"},
		Backends: []api.Backend{{Service: "web"}, {Service: "web", Instance: "v1"}, {Service: "web", Fleet: "v1"}},
		Message:  "Back soon.\nReally.",
	}
}

func TestValidateRoute(t *testing.T) {
	type r = api.Route
	long := strings.Repeat("x", api.MaxRouteMessage+1)
	host := func(h string) rule[r] {
		return rule[r]{func(r *r) { r.Hosts[1] = h }, "hosts", h, wantHost}
	}
	path := func(p string) rule[r] {
		return rule[r]{func(r *r) { r.Paths[2] = p }, "paths", p, wantPath}
	}
	own := func(p string) rule[r] {
		return rule[r]{func(r *r) { r.Hosts, r.Paths[2] = nil, p }, "paths", p, "hosts beside it, for on the node's own domain it is the node's"}
	}
	rules := []rule[r]{
		{func(r *r) { r.Name = "Shop" }, "name", "Shop", wantName},
		{func(r *r) { r.Hosts, r.Paths = nil, nil }, "hosts", "", "hosts, paths or both"},
		{func(r *r) { r.Hosts[1] = r.Hosts[0] }, "hosts", "shop.example.com", "each once"},
		{func(r *r) { r.Hosts = manyHosts(101) }, "hosts", "101", "at most 100"},
		{func(r *r) { r.Paths[2] = "/" }, "paths", "/", "each once"},
		{func(r *r) { r.Mode = "off" }, "mode", "off", `one of "live", "pause", "maintenance"`},
		{func(r *r) { r.Backends = nil }, "backends", "", "at least one, unless the mode is maintenance"},
		{func(r *r) { r.Backends[1].Service = "" }, "backends.service", "", wantName},
		{func(r *r) { r.Backends[1].Instance = "v:1" }, "backends.instance", "v:1", wantName},
		{func(r *r) { r.Backends[2].Fleet = "V" }, "backends.fleet", "V", wantName},
		{func(r *r) { r.Backends[2].Instance = "v2" }, "backends.fleet", "v1", "an instance or a fleet, not both"},
		{func(r *r) { w := 101; r.Backends[0].Weight = &w }, "backends.weight", "101", "0 to 100"},
		{func(r *r) { r.Backends[2] = r.Backends[1] }, "backends", "web:v1", "each backend once"},
		{func(r *r) { r.Message = long }, "message", long, "at most 2000 bytes of text without control characters"},
		{func(r *r) { r.Message = "a\x1b[1m" }, "message", "a\x1b[1m", "at most 2000 bytes of text without control characters"},
		{func(r *r) { r.Source = "me" }, "source", "me", `one of "api", "file", "request", "fleet"`},
	}
	for _, h := range []string{
		"", "shop", "Shop.example.com", "shop.example.com.", "shop.example.com:80", "*.example.com", "a..b", ".a.b", "a b.c", "10.0.0.1", "[::1]", "a.0x7f",
		"-a.b", "a-.b", strings.Repeat("a", 64) + ".b", strings.Repeat("a.", 127) + "b", "münchen.de",
	} {
		rules = append(rules, host(h))
	}
	for _, p := range []string{"", "shop", "/shop/", "//", "/a//b", "/a/../b", "/.", "/a*", "/a?b", "/a#b", "/a%20b", `/a\b`, "/a\nb", "/\xff", "/" + strings.Repeat("x", 1000)} {
		rules = append(rules, path(p))
	}
	for _, p := range []string{"/api", "/api/x", "/metrics", "/health", "/terraform/x", "/.well-known/acme-challenge"} {
		rules = append(rules, own(p))
	}
	for _, rule := range rules {
		r := validRoute()
		r.SetDefaults()
		rule.breakIt(r)
		want := api.FieldErrors{{Field: rule.field, Got: rule.got, Want: rule.want}}
		var got api.FieldErrors
		if err := r.Validate(); !errors.As(err, &got) || !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}

	for _, change := range []func(*r){
		func(r *r) { r.Mode, r.Backends = api.RouteMaintenance, nil },
		func(r *r) { r.Paths = nil },
		func(r *r) { r.Hosts = nil },
		func(r *r) { r.Hosts, r.Paths = nil, []string{"/apiary", "/healthy"} },
		func(r *r) { r.Paths = []string{"/api"} }, // of another host
		func(r *r) { r.Hosts = manyHosts(100) },
	} {
		r := validRoute()
		change(r)
		r.SetDefaults()
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func manyHosts(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("h%d.example.com", i)
	}
	return out
}

func TestRouteSaysWhatIsMeant(t *testing.T) {
	r := api.Route{Backends: []api.Backend{{Service: "web"}, {Service: "web", Instance: "v1"}, {Service: "web", Fleet: "blue"}}}
	got := fmt.Sprintf("%q %q", r.EffectiveHosts(), r.EffectivePaths())
	for i := range r.Backends {
		got += fmt.Sprintf(" %s=%d", &r.Backends[i], r.Backends[i].EffectiveWeight())
	}
	if want := `[""] ["/"] web=100 web:v1=100 fleet web:blue=100`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Hosts, r.Paths = []string{"a.b"}, []string{"/x"}
	if got := fmt.Sprint(r.EffectiveHosts(), r.EffectivePaths()); got != "[a.b] [/x]" {
		t.Errorf("got %s", got)
	}
	if b := (&api.Backend{Service: "a"}); !b.Equal(&api.Backend{Service: "a", Weight: new(100)}) {
		t.Error("backends differ by the default weight's being written")
	}
	hundred := validRoute()
	hundred.SetDefaults()
	plain := validRoute()
	if plain.Mode, plain.Source = api.RouteLive, api.SourceAPI; !plain.Equal(hundred) {
		t.Error("routes differ by a default weight that is written")
	}
}

// A status reads as the route that it is of, with more beside.
func TestRouteStatusIsARoute(t *testing.T) {
	r := validRoute()
	r.SetDefaults()
	b, err := json.Marshal(api.RouteStatus{Route: *r, Effective: []api.BackendStatus{{Backend: r.Backends[0], Share: 12.5}}})
	if err != nil {
		t.Fatal(err)
	}
	var back api.Route
	if err := json.Unmarshal(b, &back); err != nil || !back.Equal(r) {
		t.Errorf("got %+v, %v of %s", back, err, b)
	}
}
