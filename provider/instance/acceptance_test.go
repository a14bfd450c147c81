package instance_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const (
	at  = "ten_instance.blue"
	web = `
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
  max_restarts = -1
}
`
)

func planned(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(at, a)}}
}

func instance(id, rest string) string {
	return fmt.Sprintf("%sresource \"ten_instance\" \"blue\" {\n  service = ten_service.web.name\n  id = %q\n%s\n}\n", web, id, rest)
}

// Every attribute is created, changed in place, taken out and imported; each plan after an
// apply is empty. Data sources tell how it does. What is changed and removed outside is
// put right. Another id is another instance.
func TestInstance(t *testing.T) {
	c := acctest.Start(t, 2, acctest.Config{})
	ref := api.Ref{Service: "web", ID: "blue"}
	change := func(f func() error) func() {
		return func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	verify := resource.TestStep{
		ResourceName: at, ImportState: true, ImportStateId: "web:blue", ImportStateVerify: true,
		ImportStateVerifyIdentifierAttribute: "ref", ImportStateVerifyIgnore: []string{"timeouts", "wait_for"},
	}
	full := instance("blue", `desired = "running"
  weight = 10
  pin = "n2"
  wait_for = "placed"
  timeouts = { create = "2m", update = "2m" }`)
	const data = `
data "ten_instance" "blue" {
  service = ten_instance.blue.service
  id      = ten_instance.blue.id
}
data "ten_instances" "all" {
  service    = "web"
  node       = "n2"
  depends_on = [ten_instance.blue]
}
data "ten_cluster" "here" {}
data "ten_service" "web" {
  name = ten_service.web.name
}
`
	acctest.Run(t,
		resource.TestStep{Config: c.HCL("%s", full), ConfigPlanChecks: planned(plancheck.ResourceActionCreate)},
		verify,
		resource.TestStep{
			Config: c.HCL("%s", full+data),
			Check: resource.ComposeAggregateTestCheckFunc(
				resource.TestCheckResourceAttr("data.ten_instance.blue", "node", "n2"),
				resource.TestCheckResourceAttr("data.ten_instance.blue", "weight", "10"),
				resource.TestCheckResourceAttr("data.ten_instances.all", "instances.0.ref", "web:blue"),
				resource.TestCheckResourceAttr("data.ten_cluster.here", "nodes.#", strconv.Itoa(c.Size)),
				resource.TestMatchResourceAttr("data.ten_cluster.here", "leader", regexp.MustCompile(`^n[123]$`)),
				resource.TestCheckResourceAttr("data.ten_service.web", "max_restarts", "-1"),
			),
		},
		resource.TestStep{Config: c.HCL("%s", instance("blue", `desired = "stopped"
  weight = 20
  pin = "n1"`)), ConfigPlanChecks: planned(plancheck.ResourceActionUpdate)},
		resource.TestStep{Config: c.HCL("%s", instance("blue", "")), ConfigPlanChecks: planned(plancheck.ResourceActionUpdate)},
		verify,
		resource.TestStep{
			PreConfig: change(func() error { _, err := c.Client.SetWeight(t.Context(), ref, 1); return err }),
			Config:    c.HCL("%s", instance("blue", "")), ConfigPlanChecks: planned(plancheck.ResourceActionUpdate),
		},
		resource.TestStep{
			PreConfig: change(func() error { return c.Client.Purge(t.Context(), ref) }),
			Config:    c.HCL("%s", instance("blue", "")), ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
		},
		resource.TestStep{Config: c.HCL("%s", instance("green", "")), ConfigPlanChecks: planned(plancheck.ResourceActionReplace)},
	)
}

// What the cluster can't do is said while planning, on the attribute at fault.
func TestInstancePlan(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	acctest.Run(t,
		resource.TestStep{
			Config:      c.HCL("%s", instance("blue", `pin = "n7"`)),
			ExpectError: regexp.MustCompile(`(?s)pin = "n7".*Got "n7", want the id or name of a node`),
		},
		resource.TestStep{
			Config: c.HCL(`
resource "ten_service" "web" {
  name         = "web"
  command      = "true"
  isolation    = "process"
  memory_limit = "8192GiB"
}
resource "ten_instance" "blue" {
  service = ten_service.web.name
  id      = "blue"
}`),
			ExpectError: regexp.MustCompile(`(?s)No node can take instance web:blue.*nodes?\s+by\s+memory`),
		},
		resource.TestStep{
			Config: c.HCL(`
resource "ten_instance" "blue" {
  service  = "nobody"
  id       = "blue"
}`),
			ExpectError: regexp.MustCompile(`(?s)Cannot create instance nobody:blue.*No service "nobody"`),
		},
		resource.TestStep{
			Config: acctest.Provider(c.Endpoints, "ten_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") + instance("blue", ""),
			// The service is not asked about while planning, the instance of one that is to be created is.
			ExpectError: regexp.MustCompile(`(?s)does not accept the token.*TEN_TOKEN`),
		},
		resource.TestStep{
			Config:      acctest.Provider([]string{"http://127.0.0.1:1"}, "x") + instance("blue", ""),
			ExpectError: regexp.MustCompile(`(?s)No server answered.*TEN_ENDPOINTS`),
		},
	)
}

// An instance that is there already, and another one, is not written over; one that is
// the same is taken over.
func TestInstanceExists(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	ref := api.Ref{Service: "web", ID: "blue"}
	acctest.Run(t,
		resource.TestStep{Config: c.HCL("%s", web)},
		resource.TestStep{
			PreConfig: func() {
				weight := 5
				if _, err := c.Client.PutInstance(t.Context(), &api.Instance{Service: "web", ID: "blue", Weight: &weight}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config:      c.HCL("%s", instance("blue", "")),
			ExpectError: regexp.MustCompile(`(?s)Cannot create instance web:blue.*exists\s+already.*terraform import\s+ten_instance.NAME\s+web:blue`),
		},
		resource.TestStep{
			PreConfig: func() {
				if _, err := c.Client.SetWeight(t.Context(), ref, 100); err != nil {
					t.Fatal(err)
				}
			},
			Config: c.HCL("%s", instance("blue", "")),
		},
	)
}
