package service_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const at = "ten_service.web"

func planned(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(at, a)}}
}

func service(name, rest string) string {
	return fmt.Sprintf("resource \"ten_service\" \"web\" {\n  name = %q\n%s\n}\n", name, rest)
}

const every = `
  command = "true"
  args = ["--port", "{port}"]
  workdir = "/tmp"
  env = { A = "1", B = "2" }
  socket = "{data_dir}/s"
  health = "/up"
  health_interval = "2s"
  isolation = "process"
  idle_timeout = "5m"
  startup_timeout = "20s"
  request_timeout = "1m"
  stop_timeout = "3s"
  restart = "on-failure"
  max_restarts = 7
  restart_window = "10m"
  backoff_base = "2s"
  backoff_max = "2m"
  memory_limit = "1GiB"
  cpu_shares = 512
  storage_quota = "2GiB"
  storage_persist = false
  kernel = "/k"
  rootfs = "/r"
  memory = "128MiB"
  vcpus = 2
  vsock_port = 5000
  spawn_on_request = true
  max_instances = 9
  on_disconnect = "keep"
  placement = {
    strategy = "binpack"
    spread_by = "zone"
    constraints = ["zone = eu-1|eu-2", "!label.old"]
    affinities = [{ match = "label.ssd", weight = 50 }]
    anti_affinity = ["db"]
  }
  timeouts = { create = "90s" }
`

// other has another value for every attribute of every.
const other = `
  command = "sh"
  args = ["-c", "true"]
  workdir = "/"
  env = { A = "3" }
  socket = "{data_dir}/t"
  health = "/healthy"
  health_interval = "3s"
  isolation = "namespace"
  idle_timeout = "0s"
  startup_timeout = "21s"
  request_timeout = "2m"
  stop_timeout = "4s"
  restart = "never"
  max_restarts = -1
  restart_window = "11m"
  backoff_base = "3s"
  backoff_max = "3m"
  memory_limit = "2GiB"
  cpu_shares = 256
  storage_quota = "3GiB"
  storage_persist = true
  kernel = "/k2"
  rootfs = "/r2"
  memory = "256MiB"
  vcpus = 3
  vsock_port = 5001
  spawn_on_request = false
  max_instances = 10
  on_disconnect = "stop"
  placement = { affinities = [{ match = "zone = a", weight = -5 }, { match = "zone = b", weight = 5 }] }
`

// respelled means the same as every.
var respelled = strings.NewReplacer(
	`"2s"`, `"2000ms"`, `"5m"`, `"300"`, `"1m"`, `"60s"`, `"10m"`, `"600s"`, `"1GiB"`, `"1024MiB"`, `"128MiB"`, `"128M"`,
	"zone = eu-1|eu-2", "zone=eu-1 | eu-2", `"!label.old"`, `"! label.old"`,
).Replace(every)

// Every attribute is created, read, written in another way without a change, changed in
// place, taken out, and imported; each plan after an apply is empty, which the test kit
// sees to. Another name is another service.
func TestService(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	byName := resource.TestStep{
		ResourceName: at, ImportState: true, ImportStateId: "web", ImportStateVerify: true,
		ImportStateVerifyIdentifierAttribute: "name", ImportStateVerifyIgnore: []string{"timeouts"},
	}
	empty := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}
	acctest.Run(t,
		resource.TestStep{Config: c.HCL("%s", service("web", every)), ConfigPlanChecks: planned(plancheck.ResourceActionCreate)},
		byName,
		resource.TestStep{Config: c.HCL("%s", service("web", respelled)), ConfigPlanChecks: empty},
		resource.TestStep{Config: c.HCL("%s", service("web", other)), ConfigPlanChecks: planned(plancheck.ResourceActionUpdate)},
		byName,
		resource.TestStep{
			Config:           c.HCL("%s", service("web", `command = "true --port {port}"`)),
			ConfigPlanChecks: planned(plancheck.ResourceActionUpdate),
			Check: func(*terraformState) error {
				got, err := c.Client.Service(t.Context(), "web")
				want := &api.Service{Name: "web", Command: "true --port {port}"}
				want.SetDefaults()
				if err == nil && !got.Equal(want) {
					err = fmt.Errorf("without attributes it is %+v", got)
				}
				return err
			},
		},
		resource.TestStep{
			Config:           c.HCL("%s", service("web2", `command = "true"`)),
			ConfigPlanChecks: planned(plancheck.ResourceActionReplace),
		},
	)
}

// What is changed or removed outside of Terraform is seen, told and put right.
func TestServiceDrift(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	config := c.HCL("%s", service("web", `command = "true --port {port}"
  idle_timeout = "5m"`))
	acctest.Run(t,
		resource.TestStep{Config: config},
		resource.TestStep{
			PreConfig: func() {
				s, err := c.Client.Service(t.Context(), "web")
				if err != nil {
					t.Fatal(err)
				}
				s.IdleTimeout, s.Args = api.Seconds(1), []string{"other"}
				if _, err := c.Client.PutService(t.Context(), s, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config:           config,
			ConfigPlanChecks: planned(plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(at, tfjsonpath.New("idle_timeout"), knownvalue.StringExact("5m")),
				statecheck.ExpectKnownValue(at, tfjsonpath.New("args"), knownvalue.Null()),
			},
		},
		resource.TestStep{
			PreConfig: func() {
				if err := c.Client.DeleteService(t.Context(), "web", nil); err != nil {
					t.Fatal(err)
				}
			},
			Config:           config,
			ConfigPlanChecks: planned(plancheck.ResourceActionCreate),
		},
	)
}

// A service is not removed with what somebody else has declared of it.
func TestServiceInUse(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	config := c.HCL("%s", service("web", `command = "true"
  isolation = "process"`))
	ref := api.Ref{Service: "web", ID: "alice"}
	acctest.Run(t,
		resource.TestStep{Config: config},
		resource.TestStep{
			PreConfig: func() {
				if _, err := c.Client.PutInstance(t.Context(), &api.Instance{Service: "web", ID: "alice"}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Config: config, Destroy: true, ExpectError: regexp.MustCompile(`(?s)Cannot delete service web.*instance\s+web:alice`),
		},
		resource.TestStep{
			PreConfig: func() {
				if err := c.Client.Purge(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			},
			Config: config,
		},
	)
}
