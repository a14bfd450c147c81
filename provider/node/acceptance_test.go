package node_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

var empty = resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}

// A node is adopted, cordoned, drained until it is empty, seen to drift, imported, and
// released: it stays in the cluster, eligible.
func TestNode(t *testing.T) {
	c := acctest.Start(t, 2, acctest.Config{})
	members, err := c.Client.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, id := members[1].Name, members[1].ID
	const config = `
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
}
resource "ten_fleet" "web" {
  service  = ten_service.web.name
  name     = "web"
  replicas = 4
}
resource "ten_node" "n" {
  node        = %q
  eligibility = %q
  depends_on  = [ten_fleet.web]
}
data "ten_node" "n" {
  node       = ten_node.n.node
  depends_on = [ten_node.n]
}
data "ten_nodes" "all" {
  depends_on = [ten_node.n]
}
data "ten_nodes" "free" {
  eligibility = "eligible"
  status      = "up"
  match       = ["node = ` + "${data.ten_node.n.id}" + `"]
  depends_on  = [ten_node.n]
}
`
	is := func(want api.Eligibility) resource.TestCheckFunc {
		return resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr("ten_node.n", "eligibility", string(want)),
			resource.TestCheckResourceAttr("data.ten_node.n", "eligibility", string(want)),
			resource.TestCheckResourceAttr("data.ten_node.n", "id", id),
			resource.TestCheckResourceAttr("data.ten_node.n", "status", "up"),
			resource.TestCheckResourceAttr("data.ten_nodes.all", "nodes.#", strconv.Itoa(c.Size)),
		)
	}
	acctest.Run(t,
		resource.TestStep{Config: c.HCL(config, name, "eligible"), Check: resource.ComposeAggregateTestCheckFunc(
			is("eligible"), resource.TestCheckResourceAttr("data.ten_nodes.free", "nodes.0.name", name),
		)},
		resource.TestStep{Config: c.HCL(config, name, "eligible"), ConfigPlanChecks: empty},
		resource.TestStep{Config: c.HCL(config, name, "cordoned"), Check: is("cordoned")},
		resource.TestStep{Config: c.HCL(config, name, "draining"), Check: resource.ComposeAggregateTestCheckFunc(
			is("draining"),
			resource.TestCheckResourceAttr("data.ten_node.n", "instances", "0"),
			resource.TestCheckResourceAttr("data.ten_nodes.free", "nodes.#", "0"),
		)},
		resource.TestStep{Config: c.HCL(config, name, "draining"), ConfigPlanChecks: empty},
		resource.TestStep{ // somebody has changed it by hand
			PreConfig: func() {
				if _, err := c.Client.SetEligibility(t.Context(), id, api.EligibilityEligible, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config:           c.HCL(config, name, "draining"),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction("ten_node.n", plancheck.ResourceActionUpdate)}},
			Check:            is("draining"),
		},
		resource.TestStep{ResourceName: "ten_node.n", ImportState: true, ImportStateId: name, ImportStateVerify: true, ImportStateVerifyIdentifierAttribute: "node"},
		resource.TestStep{Config: c.HCL(config, id, "draining"), Check: is("draining")}, // by id
	)
	after, err := c.Client.Member(t.Context(), id)
	if err != nil || after.Eligibility != api.EligibilityEligible {
		t.Errorf("released: %+v, %v", after, err)
	}
}

// What can't leave a node is told while planning and, with the reason, when it is drained.
// The node has no labels to be set from here.
func TestStuck(t *testing.T) {
	c := acctest.Alone(t, acctest.Config{})
	ctx := t.Context()
	if _, err := c.Client.PutService(ctx, &api.Service{Name: "app", Command: "true", Isolation: api.IsolationProcess}, nil); err != nil {
		t.Fatal(err)
	}
	ref := api.Ref{Service: "app", ID: "a"}
	if _, err := c.Client.PutInstance(ctx, &api.Instance{Service: "app", ID: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.WaitInstance(ctx, ref, func(i *api.Instance) (bool, error) { return i.Node != "", nil }); err != nil {
		t.Fatal(err)
	}
	self, err := c.Client.Node(ctx)
	if err != nil {
		t.Fatal(err)
	}
	config := func(rest string) string {
		return c.HCL("resource \"ten_node\" \"n\" {\n  node = %q\n  %s\n}\n", self.Name, rest)
	}
	acctest.Run(t,
		resource.TestStep{Config: config(`eligibility = "draining"`), ExpectError: regexp.MustCompile(`(?s)No other node takes 1 of the instances on node.*app:a`)},
		resource.TestStep{Config: config("eligibility = \"draining\"\n  wait_for = \"none\"")},
		resource.TestStep{Config: config(`eligibility = "gone"`), ExpectError: regexp.MustCompile(`Invalid eligibility`)},
		resource.TestStep{Config: config(`labels = { gpu = "yes" }`), ExpectError: regexp.MustCompile(`Unsupported argument`)},
		resource.TestStep{Config: c.HCL(`resource "ten_node" "n" { node = "nobody" }`), ExpectError: regexp.MustCompile(`(?i)no node "nobody"`)},
		resource.TestStep{Config: c.HCL(`data "ten_node" "n" { node = "nobody" }`), ExpectError: regexp.MustCompile(`(?i)no node "nobody"`)},
		resource.TestStep{Config: c.HCL(`data "ten_nodes" "n" { match = ["size = 3"] }`), ExpectError: regexp.MustCompile(`(?s)match.*Got "size = 3", want a condition`)},
	)
	left, err := c.Client.Instances(ctx, client.InstanceQuery{})
	if err != nil || len(left) != 1 {
		t.Errorf("instances afterwards: %v, %v", left, err)
	}
}
