package route_test

import (
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// A route is created with weights, changed in place, seen to drift, made anew when it is
// gone, imported by name and by identity, and destroyed. The data source tells the shares.
func TestRoute(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	const config = `
resource "ten_service" "web" {
  name      = "web"
  command   = "true"
  isolation = "process"
}
resource "ten_instance" "v1" {
  service = ten_service.web.name
  id      = "v1"
}
resource "ten_instance" "v2" {
  service = ten_service.web.name
  id      = "v2"
}
resource "ten_route" "shop" {
  name  = "shop"
  hosts = ["shop.example.com", "www.shop.example.com"]
  backends = [
    { service = "web", instance = ten_instance.v1.id, weight = %d },
    { service = "web", instance = ten_instance.v2.id, weight = 10 },
    { service = "web", fleet = "later" },
  ]
  %s
}
data "ten_route" "shop" {
  name       = ten_route.shop.name
  depends_on = [ten_route.shop]
}
`
	const it, seen = "ten_route.shop", "data.ten_route.shop"
	acts := func(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(it, a)}}
	}
	empty := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}
	ctx := t.Context()
	acctest.Run(t,
		resource.TestStep{Config: c.HCL(config, 90, ""), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr(it, "mode", "live"),
			resource.TestCheckResourceAttr(it, "backends.2.weight", "100"),
			resource.TestCheckResourceAttr(seen, "effective.0.share", "90"),
			resource.TestCheckResourceAttr(seen, "effective.1.share", "10"),
			resource.TestCheckResourceAttr(seen, "effective.2.share", "0"),
			resource.TestMatchResourceAttr(seen, "effective.2.reason", regexp.MustCompile("later")),
			resource.TestCheckResourceAttr(seen, "source", "api"),
		)},
		resource.TestStep{Config: c.HCL(config, 90, ""), ConfigPlanChecks: empty},
		resource.TestStep{Config: c.HCL(config, 0, `paths = ["/", "/cart"]`), ConfigPlanChecks: acts(plancheck.ResourceActionUpdate), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr(seen, "effective.1.share", "100"),
			resource.TestCheckResourceAttr(seen, "effective.0.reason", "its weight is 0"),
		)},
		resource.TestStep{ // changed by hand
			PreConfig: func() {
				r, err := c.Client.StoredRoute(ctx, "shop")
				if err == nil {
					r.Mode = api.RoutePause
					_, err = c.Client.PutRoute(ctx, &r.Route, nil)
				}
				if err != nil {
					t.Fatal(err)
				}
			},
			Config: c.HCL(config, 0, `paths = ["/", "/cart"]`), ConfigPlanChecks: acts(plancheck.ResourceActionUpdate), Check: resource.TestCheckResourceAttr(it, "mode", "live"),
		},
		resource.TestStep{ // removed by hand
			PreConfig: func() {
				if err := c.Client.DeleteRoute(ctx, "shop", nil); err != nil {
					t.Fatal(err)
				}
			},
			Config:           c.HCL(config, 1, "mode = \"maintenance\"\n  message = \"back soon\""),
			ConfigPlanChecks: acts(plancheck.ResourceActionCreate), Check: resource.TestCheckResourceAttr(seen, "message", "back soon"),
		},
		resource.TestStep{ResourceName: it, ImportState: true, ImportStateId: "shop", ImportStateVerify: true, ImportStateVerifyIdentifierAttribute: "name"},
	)
	if left, err := c.Client.Routes(ctx); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What is wrong is told on the attribute, and nothing is taken from another route.
func TestBadRoutes(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	taken := &api.Route{Name: "taken", Hosts: []string{"a.example.com"}, Backends: []api.Backend{{Service: "web"}}}
	if _, err := c.Client.PutRoute(t.Context(), taken, nil); err != nil {
		t.Fatal(err)
	}
	config := func(rest string) string {
		return c.HCL("resource \"ten_route\" \"r\" {\n  name = \"r\"\n  %s\n}\n", rest)
	}
	const web = "\n  backends = [{ service = \"web\" }]"
	acctest.Run(t,
		resource.TestStep{Config: config(web), ExpectError: regexp.MustCompile(`(?s)Invalid hosts.*want hosts, paths or both`)},
		resource.TestStep{Config: config(`hosts = ["10.0.0.1"]` + web), ExpectError: regexp.MustCompile(`(?s)Invalid hosts.*Got "10.0.0.1"`)},
		resource.TestStep{Config: config(`paths = ["/api"]` + web), ExpectError: regexp.MustCompile(`(?s)Invalid paths.*Got "/api"`)},
		resource.TestStep{Config: config(`paths = ["/a"]`), ExpectError: regexp.MustCompile(`(?s)Invalid backends.*at least one`)},
		resource.TestStep{
			Config:      config("paths = [\"/a\"]\n  backends = [{ service = \"web\", instance = \"a\", fleet = \"b\" }]"),
			ExpectError: regexp.MustCompile(`(?s)backends.*not\s+both`),
		},
		resource.TestStep{Config: config("mode = \"off\"\n  paths = [\"/a\"]" + web), ExpectError: regexp.MustCompile(`(?s)Invalid mode.*Got "off"`)},
		resource.TestStep{Config: config(`hosts = ["a.example.com"]` + web), ExpectError: regexp.MustCompile(`(?s)Cannot create route r.*taken`)},
		resource.TestStep{Config: c.HCL(`data "ten_route" "r" { name = "other" }`), ExpectError: regexp.MustCompile(`(?i)no route "other"`)},
	)
}
