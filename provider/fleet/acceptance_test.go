package fleet_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const at = "ten_fleet.green"

func planned(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(at, a)}}
}

func fleet(name, rest string) string {
	return fmt.Sprintf(`
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
}
resource "ten_fleet" "green" {
  service = ten_service.web.name
  name    = %q
%s
}
`, name, rest)
}

// Every attribute is created, changed in place, taken out and imported; each plan after an
// apply is empty. What is changed and removed outside is put right, and another name is
// another fleet.
func TestFleet(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	ref := api.Ref{Service: "web", ID: "green"}
	verify := resource.TestStep{
		ResourceName: at, ImportState: true, ImportStateId: "web:green", ImportStateVerify: true,
		ImportStateVerifyIdentifierAttribute: "ref", ImportStateVerifyIgnore: []string{"timeouts", "wait_for"},
	}
	members := func(want int) resource.TestCheckFunc {
		return func(*terraformState) error {
			all, err := c.Client.Instances(t.Context(), clientQuery("web"))
			if err == nil && len(all) != want {
				err = fmt.Errorf("%d instances, want %d", len(all), want)
			}
			for _, i := range all {
				if !i.Observed.Healthy {
					err = fmt.Errorf("%s is not healthy after the apply", i.Ref())
				}
			}
			return err
		}
	}
	minimal := c.HCL("%s", fleet("green", "replicas = 1"))
	acctest.Run(t,
		resource.TestStep{
			Config: c.HCL("%s", fleet("green", `replicas = 3
  weight = 10
  wait_for = "healthy"
  placement = { strategy = "binpack", constraints = ["node = n1"] }
  timeouts = { create = "2m", update = "2m" }`)),
			ConfigPlanChecks: planned(plancheck.ResourceActionCreate), Check: members(3),
		},
		verify,
		resource.TestStep{
			Config: c.HCL("%s", fleet("green", `replicas = 2
  weight = 20
  placement = { spread_by = "zone" }`)),
			ConfigPlanChecks: planned(plancheck.ResourceActionUpdate), Check: members(2),
		},
		resource.TestStep{Config: minimal, ConfigPlanChecks: planned(plancheck.ResourceActionUpdate), Check: members(1)},
		verify,
		resource.TestStep{
			PreConfig: func() {
				if _, err := c.Client.PutFleet(t.Context(), &api.Fleet{Service: "web", Name: "green", Replicas: 4}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config: minimal, ConfigPlanChecks: planned(plancheck.ResourceActionUpdate), Check: members(1),
		},
		resource.TestStep{
			PreConfig: func() {
				if err := c.Client.DeleteFleet(t.Context(), ref, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config: minimal, ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
		},
		resource.TestStep{Config: c.HCL("%s", fleet("blue", "replicas = 1")), ConfigPlanChecks: planned(plancheck.ResourceActionReplace)},
		resource.TestStep{
			Config:      c.HCL("%s", fleet("red", "replicas = 2\n  placement = { constraints = [\"zone = mars\"] }")),
			ExpectError: regexp.MustCompile(`(?s)No node can take fleet web:red.*2 of its 2 instances.*nodes?\s+by\s+zone = mars`),
		},
		resource.TestStep{
			PreConfig: func() {
				if _, err := c.Client.PutInstance(t.Context(), &api.Instance{Service: "web", ID: "red-0"}, nil); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Client.Purge(t.Context(), api.Ref{Service: "web", ID: "red-0"}) })
			},
			Config:      c.HCL("%s", fleet("red", "replicas = 2")),
			ExpectError: regexp.MustCompile(`(?s)web:red-0 exists and is not the\s+fleet's`),
		},
		resource.TestStep{
			PreConfig: func() { _ = c.Client.Purge(t.Context(), api.Ref{Service: "web", ID: "red-0"}) },
			Config:    c.HCL("%s", fleet("red", "replicas = 2")),
		},
	)
}
