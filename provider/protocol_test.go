package provider_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

type config = map[string]any

// Each bad input is told on its attribute, with what was given and what is allowed, before
// any server is asked.
func TestBadInputs(t *testing.T) {
	p := acctest.Speak(t)
	service := func(more config) config {
		c := config{"name": "web", "command": "true"}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	for _, test := range []struct {
		resource string
		config   config
		want     string // what the first error begins with; "" for none
	}{
		{"ten_service", service(nil), ""},
		{"ten_service", service(config{"name": "Web!"}), `AttributeName("name"): Invalid name: Got "Web!", want 1 to 63 of a-z 0-9 _ -`},
		{"ten_service", service(config{"name": "api_token"}), `AttributeName("name"): Invalid name: Got "api_token"`},
		{"ten_service", service(config{"name": acctest.Unknown}), ""},
		{"ten_service", service(config{"command": ""}), `AttributeName("command"): Invalid command`},
		{"ten_service", service(config{"command": "'open"}), `AttributeName("command"): Invalid command: Got "'open", want a program and its arguments, quotes balanced`},
		{"ten_service", service(config{"health": "up"}), `AttributeName("health"): Invalid health: Got "up", want an HTTP path that starts with /`},
		{"ten_service", service(config{"isolation": "vm"}), `AttributeName("isolation"): Invalid isolation: Got "vm", want one of "process", "namespace"`},
		{"ten_service", service(config{"isolation": acctest.Unknown}), ""},
		{"ten_service", service(config{"restart": "often"}), `AttributeName("restart"): Invalid restart: Got "often", want one of "always"`},
		{"ten_service", service(config{"idle_timeout": "soon"}), `AttributeName("idle_timeout"): Not a duration: Got "soon", want a duration such as "90s"`},
		{"ten_service", service(config{"idle_timeout": "-5s"}), `AttributeName("idle_timeout"): Invalid idle_timeout: Got "-5s", want a duration from 0s to 8760h`},
		{"ten_service", service(config{"health_interval": "0s"}), `AttributeName("health_interval"): Invalid health_interval: Got "0s", want a duration from 100ms`},
		{"ten_service", service(config{"backoff_base": "5m", "backoff_max": "1m"}), `AttributeName("backoff_max"): Invalid backoff_max: Got "1m", want a duration from 5m`},
		{"ten_service", service(config{"memory_limit": "lots"}), `AttributeName("memory_limit"): Not a size: Got "lots", want a size such as "512MiB"`},
		{"ten_service", service(config{"max_restarts": 0}), `AttributeName("max_restarts"): Invalid Attribute Value`},
		{"ten_service", service(config{"max_instances": 0}), `AttributeName("max_instances"): Invalid max_instances: Got "0", want 1 to 1000000`},
		{"ten_service", service(config{"cpu_shares": 20000}), `AttributeName("cpu_shares"): Invalid cpu_shares: Got "20000", want 1 to 10000`},
		{"ten_service", service(config{"env": config{"A=B": "1"}}), `AttributeName("env"): Invalid env: Got "A=B", want names without = or NUL`},
		{"ten_service", service(config{"env": config{"A": "x\x00"}}), `AttributeName("env").ElementKeyString("A"): Invalid env.A: Got "(hidden)"`},
		{"ten_service", service(config{"env": config{"A": "1"}, "env_wo": config{"A": "2"}}), `AttributeName("env_wo").ElementKeyString("A"): Variable set twice`},
		{"ten_service", service(config{"on_disconnect": "wait"}), `AttributeName("on_disconnect"): Invalid on_disconnect: Got "wait"`},
		{"ten_service", service(config{"placement": config{"strategy": "pile"}}), `AttributeName("placement").AttributeName("strategy"): Invalid placement.strategy: Got "pile"`},
		{"ten_service", service(config{"placement": config{"constraints": []any{"zone = a", "speed > 9"}}}), `AttributeName("placement").AttributeName("constraints"): Invalid placement.constraints: Got "speed > 9", want a condition such as`},
		{"ten_service", service(config{"placement": config{"affinities": []any{config{"match": "label.ssd", "weight": 0}}}}), `AttributeName("placement").AttributeName("affinities"): Invalid placement.affinities.weight: Got "0", want -100 to 100, but not 0`},
		{"ten_service", service(config{"placement": config{"anti_affinity": []any{"DB"}}}), `AttributeName("placement").AttributeName("anti_affinity"): Invalid placement.anti_affinity: Got "DB"`},

		{"ten_instance", config{"service": "web", "id": "blue"}, ""},
		{"ten_instance", config{"service": "web", "id": "Blue"}, `AttributeName("id"): Invalid id: Got "Blue"`},
		{"ten_instance", config{"service": "", "id": "blue"}, `AttributeName("service"): Invalid service: Got ""`},
		{"ten_instance", config{"service": acctest.Unknown, "id": "blue"}, ""},
		{"ten_instance", config{"service": "web", "id": "blue", "weight": 101}, `AttributeName("weight"): Invalid weight: Got "101", want 0 to 100`},
		{"ten_instance", config{"service": "web", "id": "blue", "desired": "up"}, `AttributeName("desired"): Invalid desired: Got "up", want one of "running", "asleep", "stopped"`},
		{"ten_instance", config{"service": "web", "id": "blue", "wait_for": "ready"}, `AttributeName("wait_for"): Invalid Attribute Value Match`},
		{"ten_instance", config{"service": "web", "id": "blue", "timeouts": config{"create": "soon"}}, `AttributeName("timeouts").AttributeName("create"): Invalid Attribute Value Time Duration`},

		{"ten_fleet", config{"service": "web", "name": "green", "replicas": 0}, ""},
		{"ten_fleet", config{"service": "web", "name": "green", "replicas": -1}, `AttributeName("replicas"): Invalid replicas: Got "-1", want 0 to 100000`},
		{"ten_fleet", config{"service": "web", "name": strings.Repeat("x", 60), "replicas": 1}, `AttributeName("name"): Invalid name`},
		{"ten_fleet", config{"service": "web", "name": "green", "replicas": 1, "weight": -1}, `AttributeName("weight"): Invalid weight: Got "-1"`},
	} {
		s := p.Schemas.ResourceSchemas[test.resource]
		resp, err := p.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{
			TypeName: test.resource, Config: p.Value(s, test.config),
			ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(resp.Diagnostics) > 0 {
			got = acctest.Text(resp.Diagnostics[0])
		}
		if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s %v:\ngot  %s\nwant %s", test.resource, test.config, got, test.want)
		}
	}
}

func TestBadProviderConfiguration(t *testing.T) {
	for _, test := range []struct {
		config config
		want   string
	}{
		{config{}, ""},
		{config{"endpoints": []any{"http://a:1", "https://b"}, "token": "ten_x"}, ""},
		{config{"endpoints": acctest.Unknown, "token": acctest.Unknown, "ca": acctest.Unknown}, ""},
		{config{"endpoints": []any{"http://a", "a:1"}}, `AttributeName("endpoints").ElementKeyInt(1): Invalid endpoint: Got "a:1", want "http://host:port"`},
		{config{"token": "two words"}, `AttributeName("token"): Invalid token: The token holds blanks`},
		{config{"ca": "/no/such/file"}, `AttributeName("ca"): Invalid ca: Neither PEM nor a file that can be read`},
		{config{"ca": "-----BEGIN CERTIFICATE-----\nx"}, `AttributeName("ca"): Invalid ca`},
	} {
		got := ""
		if diags := acctest.Speak(t).Configure(test.config); len(diags) > 0 {
			got = acctest.Text(diags[0])
		}
		if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
			t.Errorf("%v:\ngot  %s\nwant %s", test.config, got, test.want)
		}
	}
}

// Import by identity, which needs Terraform 1.12, is the same as by name.
func TestImport(t *testing.T) {
	p := acctest.Speak(t)
	ids, err := p.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		resource, id string
		identity     config
		want         string // an error
	}{
		{"ten_service", "web", config{"name": "web"}, ""},
		{"ten_instance", "web:blue", config{"service": "web", "id": "blue"}, ""},
		{"ten_fleet", "web:green", config{"service": "web", "name": "green"}, ""},
		{"ten_route", "shop", config{"name": "shop"}, ""},
		{"ten_node", "n1", config{"node": "n1"}, ""},
		{"ten_token", "0123456789ab", config{"id": "0123456789ab"}, ""},
		{"ten_service", "Web", nil, `Cannot import service "Web": name: Got "Web", want the name of a service`},
		{"ten_instance", "blue", nil, `Cannot import instance "blue": instance: Got "blue", want service:id`},
		{"ten_fleet", "web:", nil, `Cannot import fleet "web:": id: Got "", want`},
		{"ten_route", "Shop", nil, `Cannot import route "Shop": name: Got "Shop", want the name of a route`},
		{"ten_token", "ten_0123", nil, `Cannot import token "ten_0123": id: Got "ten_0123", want 12 hex digits`},
	} {
		s, id := p.Schemas.ResourceSchemas[test.resource], ids.IdentitySchemas[test.resource]
		byName, err := p.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: test.resource, ID: test.id})
		if err != nil {
			t.Fatal(err)
		}
		if test.want != "" {
			if len(byName.Diagnostics) == 0 || !strings.HasPrefix(acctest.Text(byName.Diagnostics[0]), test.want) {
				t.Errorf("%s %q: got %v, want %s", test.resource, test.id, byName.Diagnostics, test.want)
			}
			continue
		}
		p.Must(nil, byName.Diagnostics)
		raw, err := tfprotov6.NewDynamicValue(id.ValueType(), acctest.Tree(id.ValueType(), test.identity))
		if err != nil {
			t.Fatal(err)
		}
		byIdentity, err := p.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{
			TypeName: test.resource, Identity: &tfprotov6.ResourceIdentityData{IdentityData: &raw},
		})
		p.Must(err, byIdentity.Diagnostics)
		for _, r := range []*tfprotov6.ImportResourceStateResponse{byName, byIdentity} {
			got := p.Map(s, r.ImportedResources[0].State)
			for k, v := range test.identity {
				if got[k] != v {
					t.Errorf("%s: imported %s=%v, want %v", test.resource, k, got[k], v)
				}
			}
			if r.ImportedResources[0].Identity == nil {
				t.Errorf("%s: imported without identity", test.resource)
			}
		}
	}
}

// What can't be moved says why.
func TestMoves(t *testing.T) {
	p := acctest.Speak(t)
	for _, test := range [][3]string{
		{"ten_instance", "ten_fleet", "A ten_instance can't be moved here: An instance can't become the member of a fleet"},
		{"ten_fleet", "ten_instance", "A ten_fleet can't be moved here: A fleet's instances belong to the fleet"},
	} {
		resp, err := p.MoveResourceState(t.Context(), &tfprotov6.MoveResourceStateRequest{
			SourceTypeName: test[0], TargetTypeName: test[1], SourceProviderAddress: "registry.terraform.io/tenement/ten",
			SourceState: &tfprotov6.RawState{JSON: []byte(`{}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Diagnostics) == 0 || !strings.HasPrefix(acctest.Text(resp.Diagnostics[0]), test[2]) {
			t.Errorf("%s to %s: %v", test[0], test[1], resp.Diagnostics)
		}
	}
}
