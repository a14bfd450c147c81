package service_test

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

// A service is created, read, changed in place, imported and destroyed.
func TestService(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	acctest.Run(t,
		resource.TestStep{
			Config: c.HCL(`resource "ten_service" "web" {
  name = "web"
  command = "true --port {port}"
  isolation = "process"
  idle_timeout = "5m"
}`),
			Check: resource.TestCheckResourceAttr("ten_service.web", "health_interval", "10s"),
		},
		resource.TestStep{
			Config: c.HCL(`resource "ten_service" "web" {
  name = "web"
  command = "true --port {port}"
  isolation = "process"
  idle_timeout = "300s"
}`),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}},
		},
	)
}
