package service_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// secretive is a service with secret variables, as env_wo has them; "" is none at all.
func secretive(c *acctest.Cluster, envWO string, version int, rest string) string {
	if envWO != "" {
		envWO = fmt.Sprintf("env_wo = %s\n  env_wo_version = %d", envWO, version)
	}
	return c.HCL("%s", service("web", fmt.Sprintf("command = \"true\"\n  isolation = \"process\"\n  %s\n  %s", envWO, rest)))
}

// names checks which secret variables the state knows of.
func names(want ...string) []statecheck.StateCheck {
	all := make([]knownvalue.Check, len(want))
	for i, name := range want {
		all[i] = knownvalue.StringExact(name)
	}
	is := knownvalue.Check(knownvalue.Null())
	if len(all) > 0 {
		is = knownvalue.ListExact(all)
	}
	return []statecheck.StateCheck{statecheck.ExpectKnownValue(at, tfjsonpath.New("secret_env"), is)}
}

// has checks what the programs of the service get, and that the state has no secret.
func has(t *testing.T, c *acctest.Cluster, want map[string]string) resource.TestCheckFunc {
	return func(s *terraformState) error {
		got := c.Environment(t, "web")
		for _, name := range []string{"PLAIN", "SECRET", "OTHER"} {
			if got[name] != want[name] {
				return fmt.Errorf("the programs get %s=%q, want %q", name, got[name], want[name])
			}
		}
		if text := fmt.Sprint(s); strings.Contains(text, "hunter") {
			return fmt.Errorf("the state has the secret: %s", text)
		}
		return nil
	}
}

type env = map[string]string

// A secret reaches the programs and nothing that Terraform writes; it is written again when
// its version changes, and only then.
func TestServiceSecrets(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	const plain = `env = { PLAIN = "1" }`
	update, noop := planned(plancheck.ResourceActionUpdate), planned(plancheck.ResourceActionNoop)
	acctest.Run(t,
		resource.TestStep{
			Config: secretive(c, `{ SECRET = "hunter1" }`, 1, plain), Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter1"}), ConfigStateChecks: names("SECRET"),
		},
		resource.TestStep{Config: secretive(c, `{ SECRET = "hunter2" }`, 1, plain), Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter1"}), ConfigPlanChecks: noop},
		resource.TestStep{Config: secretive(c, `{ SECRET = "hunter4" }`, 2, plain), Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter4"}), ConfigPlanChecks: update},
		resource.TestStep{ // a name more: its value is new, the other's stays
			Config: secretive(c, `{ SECRET = "hunter5", OTHER = "hunter6" }`, 2, plain+"\n  idle_timeout = \"1m\""), ConfigPlanChecks: update,
			Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter4", "OTHER": "hunter6"}), ConfigStateChecks: names("OTHER", "SECRET"),
		},
		resource.TestStep{Config: secretive(c, "{}", 2, plain), Check: has(t, c, env{"PLAIN": "1"}), ConfigPlanChecks: update, ConfigStateChecks: names()},
		resource.TestStep{ // secret that was plain
			Config: secretive(c, `{ PLAIN = "hunter8" }`, 2, `env = { OTHER = "2" }`), ConfigPlanChecks: update,
			Check: has(t, c, env{"PLAIN": "hunter8", "OTHER": "2"}), ConfigStateChecks: names("PLAIN"),
		},
		resource.TestStep{ // nothing is said of them: they stay
			Config: secretive(c, "", 0, `env = { OTHER = "3" }`), ConfigPlanChecks: update,
			Check: has(t, c, env{"PLAIN": "hunter8", "OTHER": "3"}), ConfigStateChecks: names("PLAIN"),
		},
		resource.TestStep{ // but for one that is plain now
			Config: secretive(c, "", 0, `env = { OTHER = "3", PLAIN = "4" }`), ConfigPlanChecks: update,
			Check: has(t, c, env{"PLAIN": "4", "OTHER": "3"}), ConfigStateChecks: names(),
		},
	)
}

// An import has the names of the secret variables and leaves their values where they are,
// whether the configuration knows of them or not.
func TestServiceSecretsImport(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	made := &api.Service{
		Name: "web", Command: "true", Isolation: api.IsolationProcess,
		Env: env{"PLAIN": "1", "SECRET": "hunter1"}, SecretEnv: []string{"SECRET"},
	}
	if _, err := c.Client.PutService(t.Context(), made, nil); err != nil {
		t.Fatal(err)
	}
	const plain = `env = { PLAIN = "1" }`
	block := "import {\n  to = " + at + "\n  id = \"web\"\n}\n"
	acctest.Run(t,
		resource.TestStep{
			Config: block + secretive(c, "", 0, plain), ConfigPlanChecks: planned(plancheck.ResourceActionNoop),
			Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter1"}), ConfigStateChecks: names("SECRET"),
		},
		resource.TestStep{
			ResourceName: at, ImportState: true, ImportStateId: "web", ImportStateVerify: true, ImportStateVerifyIdentifierAttribute: "name",
		},
		resource.TestStep{
			Config: secretive(c, `{ SECRET = "hunter2" }`, 1, plain), ConfigPlanChecks: planned(plancheck.ResourceActionUpdate),
			Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter2"}), ConfigStateChecks: names("SECRET"),
		},
	)
}

// What somebody else does to secret variables is seen by their names and put right; one
// that was made plain does not get into the state by that.
func TestServiceSecretsDrift(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	config := secretive(c, `{ SECRET = "hunter1" }`, 1, `env = { PLAIN = "1" }`)
	drifted := func(about string, change func(*api.Service)) resource.TestStep {
		return resource.TestStep{
			PreConfig: func() {
				s, err := c.Client.Service(t.Context(), "web")
				if err != nil {
					t.Fatal(err)
				}
				change(s)
				if _, err := c.Client.PutService(t.Context(), s, nil); err != nil {
					t.Fatalf("%s: %v", about, err)
				}
			},
			Config: config, ConfigPlanChecks: planned(plancheck.ResourceActionUpdate),
			Check: has(t, c, env{"PLAIN": "1", "SECRET": "hunter1"}), ConfigStateChecks: names("SECRET"),
		}
	}
	acctest.Run(t,
		resource.TestStep{Config: config},
		drifted("another one", func(s *api.Service) { s.Env["OTHER"], s.SecretEnv = "hunter2", []string{"OTHER", "SECRET"} }),
		drifted("none any more", func(s *api.Service) { s.SecretEnv = nil }),
		drifted("plain", func(s *api.Service) { s.Env["SECRET"], s.SecretEnv = "hunter1", nil }),
	)
}

// A create whose answer was lost, or a service like it: secrets can't be compared, so that
// they are what the configuration says.
func TestServiceSecretsAdopted(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	made := &api.Service{
		Name: "web", Command: "true", Isolation: api.IsolationProcess,
		Env: env{"PLAIN": "1", "SECRET": "hunter1"}, SecretEnv: []string{"SECRET"},
	}
	if _, err := c.Client.PutService(t.Context(), made, nil); err != nil {
		t.Fatal(err)
	}
	acctest.Run(t, resource.TestStep{
		Config: secretive(c, `{ SECRET = "hunter2" }`, 1, `env = { PLAIN = "1" }`),
		Check:  has(t, c, env{"PLAIN": "1", "SECRET": "hunter2"}), ConfigStateChecks: names("SECRET"),
	})
}

// The names are planned as far as they are known.
func TestServiceSecretsPlanned(t *testing.T) {
	p := acctest.Speak(t)
	p.Must(nil, p.Configure(map[string]any{"endpoints": acctest.Unknown, "token": acctest.Unknown}))
	schema := p.Schemas.ResourceSchemas["ten_service"]
	type values = map[string]any
	state := values{"name": "web", "command": "true", "env": values{"PLAIN": "1"}, "secret_env": []any{"A", "B"}}
	for about, test := range map[string]struct {
		envWO, env, was, want any
	}{
		"a value is not known":             {values{"B": acctest.Unknown, "A": "x"}, nil, nil, []any{"A", "B"}},
		"nothing is known":                 {acctest.Unknown, nil, nil, acctest.Unknown},
		"nothing is said":                  {nil, nil, nil, nil},
		"none":                             {values{}, nil, state, nil},
		"fewer":                            {values{"B": "x"}, nil, state, []any{"B"}},
		"what there is":                    {nil, values{"PLAIN": "1"}, state, []any{"A", "B"}},
		"what there is, but one is plain":  {nil, values{"A": "1"}, state, []any{"B"}},
		"what there is, but who are plain": {nil, acctest.Unknown, state, acctest.Unknown},
	} {
		prior := p.Null(schema)
		if test.was != nil {
			prior = p.Value(schema, state)
		}
		config := values{"name": "web", "command": "true", "env": test.env}
		proposed := p.Value(schema, config)
		config["env_wo"] = test.envWO
		resp, err := p.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
			TypeName: "ten_service", PriorState: prior, ProposedNewState: proposed, Config: p.Value(schema, config),
		})
		p.Must(err, resp.Diagnostics)
		if got := p.Map(schema, resp.PlannedState); !reflect.DeepEqual(got["secret_env"], test.want) || got["env_wo"] != nil {
			t.Errorf("%s: planned %v, want %v", about, got["secret_env"], test.want)
		}
	}
}
