package preview_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// Where would it go, and why not? Nothing is changed by asking.
func TestPlacement(t *testing.T) {
	c := acctest.Start(t, 2, acctest.Config{})
	ctx := t.Context()
	nodes, err := c.Client.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, rules := range map[string]*api.PlacementRules{"web": nil, "far": {Constraints: []api.Constraint{"zone = mars"}}} {
		if _, err := c.Client.PutService(ctx, &api.Service{Name: name, Command: "true", Isolation: api.IsolationProcess, Placement: rules}, nil); err != nil {
			t.Fatal(err)
		}
	}
	const it = "data.ten_placement.p"
	ask := func(rest string) string { return c.HCL("data \"ten_placement\" \"p\" {\n  %s\n}\n", rest) }
	acctest.Run(t,
		resource.TestStep{Config: ask(`service = "web"` + "\n  instances = [\"a\", \"b\"]"), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr(it, "possible", "true"),
			resource.TestCheckResourceAttr(it, "decisions.#", "2"),
			resource.TestCheckResourceAttr(it, "decisions.0.ref", "web:a"),
			resource.TestCheckResourceAttrSet(it, "decisions.0.node"),
		)},
		resource.TestStep{Config: ask("service = \"web\"\n  instances = [\"a\"]\n  pin = \"" + nodes[1].Name + `"`), Check: resource.TestCheckResourceAttr(it, "decisions.0.node", nodes[1].Name)},
		resource.TestStep{Config: ask("service = \"far\"\n  fleet = \"f\"\n  replicas = 3"), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr(it, "possible", "false"),
			resource.TestCheckResourceAttr(it, "decisions.#", "3"),
			resource.TestCheckNoResourceAttr(it, "decisions.0.node"),
			resource.TestCheckResourceAttr(it, "decisions.0.excluded.0.reason", "zone = mars"),
			resource.TestCheckResourceAttr(it, "decisions.0.excluded.0.nodes", strconv.Itoa(c.Size)),
		)},
		resource.TestStep{Config: ask(`drain = ["` + nodes[0].Name + `"]`), Check: resource.TestCheckResourceAttr(it, "possible", "true")},
		resource.TestStep{Config: ask(`drain = ["nobody"]`), ExpectError: regexp.MustCompile(`(?i)no node "nobody"`)},
		resource.TestStep{Config: ask(`instances = ["a"]`), ExpectError: regexp.MustCompile(`need service`)},
		resource.TestStep{Config: ask("service = \"web\"\n  fleet = \"f\""), ExpectError: regexp.MustCompile(`need each other`)},
		resource.TestStep{Config: ask("service = \"none\"\n  instances = [\"a\"]"), ExpectError: regexp.MustCompile(`(?i)none`)},
	)
	if all, err := c.Client.Fleets(ctx, ""); err != nil || len(all) != 0 {
		t.Errorf("asking made %v, %v", all, err)
	}
}
