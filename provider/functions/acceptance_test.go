package functions_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

const file = `
[settings]
max_restarts = 7

[service.web]
command = "./server --port {port}"
isolation = "process"
idle_timeout = 300

secret_env = ["KEY"]

[service.web.env]
MODE = "live"
KEY = "sesame"

[service.web.placement]
constraints = ["zone = eu-1"]

[service.job]
command = "true"
isolation = "process"

[instances]
job = ["one", "two"]
`

// What a tenement.toml declares becomes resources, whose second plan is empty.
func TestTenementTOML(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	name := filepath.Join(t.TempDir(), "tenement.toml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	config := c.HCL(`
locals {
  file = provider::ten::tenement_toml(file(%q), "/srv/app")
}
resource "ten_service" "web" {
  name             = local.file.services["web"].name
  command          = local.file.services["web"].command
  args             = local.file.services["web"].args
  workdir          = local.file.services["web"].workdir
  env              = local.file.services["web"].env
  isolation        = local.file.services["web"].isolation
  idle_timeout     = local.file.services["web"].idle_timeout
  max_restarts     = local.file.services["web"].max_restarts
  placement        = local.file.services["web"].placement
  spawn_on_request = local.file.services["web"].spawn_on_request
}
resource "ten_service" "job" {
  name      = local.file.services["job"].name
  command   = local.file.services["job"].command
  isolation = local.file.services["job"].isolation
}
resource "ten_instance" "one" {
  service    = local.file.instances["job:one"].service
  id         = local.file.instances["job:one"].id
  depends_on = [ten_service.job]
}
output "secret" {
  value = join(",", local.file.services["web"].secret_env)
}
output "url" {
  value = provider::ten::instance_url(ten_instance.one.ref, "http://localhost:8080")
}
output "ref" {
  value = provider::ten::parse_ref("job:two").id
}
`, name)
	is := func(address, attribute, want string) statecheck.StateCheck {
		return statecheck.ExpectKnownValue(address, tfjsonpath.New(attribute), knownvalue.StringExact(want))
	}
	acctest.Run(t,
		resource.TestStep{Config: config, ConfigStateChecks: []statecheck.StateCheck{
			is("ten_service.web", "command", "/srv/app/server"),
			is("ten_service.web", "workdir", "/srv/app"),
			statecheck.ExpectKnownValue("ten_service.web", tfjsonpath.New("env"), knownvalue.MapExact(map[string]knownvalue.Check{"MODE": knownvalue.StringExact("live")})),
			statecheck.ExpectKnownOutputValue("secret", knownvalue.StringExact("KEY")),
			statecheck.ExpectKnownValue("ten_service.web", tfjsonpath.New("max_restarts"), knownvalue.Int64Exact(7)),
			statecheck.ExpectKnownValue("ten_service.web", tfjsonpath.New("placement").AtMapKey("constraints").AtSliceIndex(0), knownvalue.StringExact("zone = eu-1")),
			statecheck.ExpectKnownValue("ten_service.web", tfjsonpath.New("spawn_on_request"), knownvalue.Bool(true)),
			is("ten_instance.one", "service", "job"),
			statecheck.ExpectKnownOutputValue("url", knownvalue.StringExact("http://one.job.localhost:8080")),
			statecheck.ExpectKnownOutputValue("ref", knownvalue.StringExact("two")),
		}},
		resource.TestStep{Config: config, ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}},
	)
}

// What is wrong is told of the argument, with what was given and what is allowed.
func TestBadArguments(t *testing.T) {
	var steps []resource.TestStep
	for call, want := range map[string]string{
		`parse_ref("web")`:                                  `(?s)ref.*got "web", want service:id`,
		`instance_url("WEB", "http://localhost")`:           `(?s)got "WEB", want service:id or`,
		`instance_url("web:a", "localhost:8080")`:           `(?s)base.*got "localhost:8080", want the`,
		`instance_url("web:a", "http://127.0.0.1:8080")`:    `an IP address has no names`,
		`tenement_toml("[service.web]\ncomand = \"x\"")`:    `tenement.toml:2: service.web.comand: got an unknown key .did you mean "command"`,
		`tenement_toml("[service.web]\ncommand=\"x\"","a")`: `an absolute path`,
		`tenement_toml("", "/a", "/b")`:                     `one directory at most`,
	} {
		steps = append(steps, resource.TestStep{
			Config:      acctest.Provider([]string{"http://127.0.0.1:1"}, "") + "output \"o\" {\n  value = provider::ten::" + call + "\n}\n",
			ExpectError: regexp.MustCompile(strings.ReplaceAll(want, " ", `\s+`)),
		})
	}
	acctest.Run(t, steps...)
}
