package provider_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// What there is is found, as terraform query of 1.14 does it: by kind, with the identity to
// import it by, and described as the import would, but for what may be secret.
func TestList(t *testing.T) {
	c := acctest.Alone(t, acctest.Config{TOML: "[service.filed]\ncommand = \"true\"\nisolation = \"process\"\n[instances]\nfiled = [\"x\"]\n"})
	ctx := t.Context()
	const secret = "a-secret-value"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"app", "web"} {
		_, err := c.Client.PutService(ctx, &api.Service{Name: name, Command: "true", Isolation: api.IsolationProcess, Env: map[string]string{"KEY": secret}}, nil)
		must(err)
		_, err = c.Client.PutInstance(ctx, &api.Instance{Service: name, ID: "one"}, nil)
		must(err)
	}
	_, err := c.Client.PutFleet(ctx, &api.Fleet{Service: "web", Name: "many", Replicas: 2}, nil)
	must(err)
	_, err = c.Client.PutRoute(ctx, &api.Route{Name: "shop", Hosts: []string{"a.example.com"}, Backends: []api.Backend{{Service: "web"}}}, nil)
	must(err)
	self, err := c.Client.Node(ctx)
	must(err)

	p := acctest.Speak(t)
	p.Must(nil, p.Configure(map[string]any{"endpoints": []any{c.Endpoints[0]}, "token": c.Token}))
	server, ok := p.ProviderServer.(tfprotov6.ListResourceServer)
	if !ok {
		t.Fatalf("%T lists nothing", p.ProviderServer)
	}
	list := func(kind string, config map[string]any, limit int64) (names []string, objects []map[string]any) {
		t.Helper()
		schema := p.Schemas.ListResourceSchemas[kind]
		if schema == nil {
			t.Fatalf("no list resource %s", kind)
		}
		checked, err := server.ValidateListResourceConfig(ctx, &tfprotov6.ValidateListResourceConfigRequest{TypeName: kind, Config: p.Value(schema, config)})
		p.Must(err, checked.Diagnostics)
		stream, err := server.ListResource(ctx, &tfprotov6.ListResourceRequest{TypeName: kind, Config: p.Value(schema, config), IncludeResource: true, Limit: limit})
		must(err)
		for r := range stream.Results {
			p.Must(nil, r.Diagnostics)
			if r.Identity == nil || r.Identity.IdentityData == nil {
				t.Errorf("%s %s has no identity", kind, r.DisplayName)
			}
			names = append(names, r.DisplayName)
			objects = append(objects, p.Map(p.Schemas.ResourceSchemas[kind], r.Resource))
		}
		return names, objects
	}
	for _, test := range []struct {
		kind   string
		config map[string]any
		limit  int64
		want   string
	}{
		{"ten_service", nil, 0, "app web"},
		{"ten_service", nil, 1, "app"},
		{"ten_instance", nil, 0, "app:one web:one"},
		{"ten_instance", map[string]any{"service": "web"}, 0, "web:one"},
		{"ten_fleet", nil, 0, "web:many"},
		{"ten_fleet", map[string]any{"service": "app"}, 0, ""},
		{"ten_route", nil, 0, "shop"},
		{"ten_node", nil, 0, self.Name},
	} {
		names, objects := list(test.kind, test.config, test.limit)
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s %v: got %q, want %q", test.kind, test.config, got, test.want)
		}
		for _, o := range objects {
			if env := o["env"]; env != nil {
				t.Errorf("%s: the environment is told: %v", test.kind, env)
			}
		}
	}
	_, services := list("ten_service", nil, 1)
	if s := services[0]; s["name"] != "app" || s["command"] != "true" || s["health_interval"] != "10s" {
		t.Errorf("described as %v", s)
	}
	if names, _ := list("ten_token", nil, 0); len(names) == 0 || slices.ContainsFunc(names, func(id string) bool { return len(id) != 12 }) {
		t.Errorf("tokens %v", names)
	}
}
