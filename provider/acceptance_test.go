package provider_test

import (
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

// The journey: a service, an instance and a fleet on three nodes; a second plan is empty;
// the fleet grows; destroy leaves nothing.
func TestJourney(t *testing.T) {
	c := acctest.Start(t, 3, acctest.Config{})
	const config = `
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
}
resource "ten_instance" "blue" {
  service = ten_service.web.name
  id      = "blue"
  weight  = 10
}
resource "ten_fleet" "green" {
  service  = ten_service.web.name
  name     = "green"
  replicas = %d
}
`
	empty := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}
	acctest.Run(t,
		resource.TestStep{Config: c.HCL(config, 2), Check: resource.TestCheckResourceAttr("ten_instance.blue", "ref", "web:blue")},
		resource.TestStep{Config: c.HCL(config, 2), ConfigPlanChecks: empty},
		resource.TestStep{Config: c.HCL(config, 4), Check: resource.TestCheckResourceAttr("ten_fleet.green", "replicas", "4")},
	)
	left, err := c.Client.Services(t.Context())
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	_ = regexp.MustCompile
}
