package provider_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

const fleetCall = `
variable "password" {
  type      = string
  ephemeral = true
}
provider "ten" {}
module "shop" {
  source  = "../modules/fleet"
  name    = "shop"
  command = "true"
  service = { isolation = "process", idle_timeout = "5m", storage_quota = "1GiB" }

  env            = { PLAN = "large" }
  env_wo         = { PASSWORD = var.password }
  env_wo_version = 1

  fleets = {
    web   = { replicas = %d }
    batch = { replicas = 1, weight = 0, placement = { constraints = ["node = n1"] }, timeouts = { create = "2m" } }
  }
  routes = {
    shop    = { hosts = ["shop.example.com"], weights = { web = 75, batch = 25 } }
    reports = { hosts = ["shop.example.com"], paths = ["/reports"], weights = { batch = 100 } }
    all     = { hosts = ["all.example.com"] }
    closed  = { hosts = ["closed.example.com"], weights = {}, mode = "maintenance", message = "back soon" }
  }
}
module "plain" {
  source  = "../modules/fleet"
  name    = "plain"
  command = "true"
}
output "shop" {
  value = module.shop
}
`

// The module fleet puts a service, fleets and routes as it is told, and changes them in place.
func TestFleetModule(t *testing.T) {
	a := newApplied(t, acctest.Here(t, 1, acctest.Config{}), filepath.Join(hclTree(t), "root"))
	const password = "correct-horse-battery"
	a.secrets = append(a.secrets, password)
	a.Env = append(a.Env, "TF_VAR_password="+password)
	a.Write("main.tf", need+fmt.Sprintf(fleetCall, 2))
	a.run("get")
	a.apply()
	until(t, "the weights of the route", func() bool {
		n := a.share("shop.example.com", "shop:web-")
		return n >= 74 && n <= 76
	})
	if got := a.get("shop.example.com", "/reports/env"); got != "shop:batch-0" {
		t.Errorf("/reports leads to %q", got)
	}
	if n := a.share("all.example.com", "shop:web-"); n != 100 {
		t.Errorf("by the fleets' own weights %d of 100 requests are for web", n)
	}
	if status, body, err := a.c.Nodes[0].Get("closed.example.com", "/"); err != nil || status != 503 || !strings.Contains(body, "back soon") {
		t.Errorf("closed answers %d %q, %v", status, body, err)
	}
	if env := a.get("shop.localhost", "/env"); !strings.Contains(env, "PASSWORD="+password) || !strings.Contains(env, "PLAN=large") {
		t.Errorf("the environment is %q", env)
	}
	s, err := a.c.Client.Service(t.Context(), "shop")
	if err != nil || s.IdleTimeout.String() != "5m" || s.StorageQuota != 1<<30 {
		t.Errorf("the service is %+v, %v", s, err)
	}
	a.Write("main.tf", need+fmt.Sprintf(fleetCall, 3))
	a.apply()
	if f, err := a.c.Client.Fleet(t.Context(), api.Ref{Service: "shop", ID: "web"}); err != nil || f.Replicas != 3 {
		t.Errorf("the fleet is %+v, %v", f, err)
	}
	var out struct {
		Instances []string
		Fleets    map[string]string
		Hosts     map[string][]string
	}
	err = json.Unmarshal(a.outputs()["shop"], &out)
	if err != nil || !slices.Equal(out.Instances, []string{"shop:batch-0", "shop:web-0", "shop:web-1", "shop:web-2"}) ||
		out.Fleets["web"] != "shop:web" || !slices.Equal(out.Hosts["all"], []string{"all.example.com"}) {
		t.Errorf("the outputs are %+v, %v", out, err)
	}
	a.Write("main.tf", need+strings.Replace(fmt.Sprintf(fleetCall, 3), "web = 75", "other = 75", 1))
	fails(t, a.Dir, "weights names a fleet that is not in fleets", "plan")
	a.Write("main.tf", need+fmt.Sprintf(fleetCall, 3))
	a.destroy()
}

const cloudInitCall = `
variable "given" {
  type = string
}
variable "kept_nowhere" {
  type      = string
  ephemeral = true
}
locals {
  common = { ten_url = "URL", ten_sha256 = "SUM", binary = "DIR/bin/ten", config_dir = "DIR" }
}
module "full" {
  source     = "../modules/cloud-init"
  ten_url    = local.common.ten_url
  ten_sha256 = upper(local.common.ten_sha256)
  binary     = local.common.binary
  config_dir = local.common.config_dir
  join_token = var.given
  node_name  = "ten-4"
  domain     = "example.com"
  tls_port   = 8443
  tls_names  = ["ten.example.com", "*.app.example.com"]
  region     = "eu"
  operator   = "a \"cloud\" & <more>"
  labels     = { disk = "nvme", "odd.name" = "x" }
  extra_toml = "[service.web]\ncommand = \"true\"\nisolation = \"process\"\n[instances]\nweb = [\"one\"]\n"
}
module "first" {
  source     = "../modules/cloud-init"
  ten_url    = local.common.ten_url
  ten_sha256 = local.common.ten_sha256
  join       = false
}
module "asks" {
  source             = "../modules/cloud-init"
  ten_url            = local.common.ten_url
  ten_sha256         = local.common.ten_sha256
  binary             = local.common.binary
  config_dir         = local.common.config_dir
  join_token_command = "printf 'token of %s\\n' vault"
  packages           = []
}
module "nowhere" {
  source        = "../modules/cloud-init"
  ten_url       = local.common.ten_url
  ten_sha256    = local.common.ten_sha256
  join_token_wo = var.kept_nowhere
}
# What a cloud would be given, for the test to read.
resource "terraform_data" "cloud" {
  provisioner "local-exec" {
    command     = "umask 077; printf %s \"$DATA\" >ephemeral.yaml"
    environment = { DATA = module.nowhere.user_data_wo }
  }
}
locals {
  data = { full = module.full.user_data, first = module.first.user_data, asks = module.asks.user_data, nowhere = module.nowhere.user_data }
  read = { for name, text in local.data : name => yamldecode(text) }
}
output "data" {
  value     = local.data
  sensitive = true
}
output "read" {
  value     = local.read
  sensitive = true
}
output "services" {
  value = provider::ten::tenement_toml(nonsensitive(local.read.full.write_files[0].content)).services
}
`

// userData is a #cloud-config.
type userData struct {
	Packages   []string
	RunCmd     [][]string
	WriteFiles []struct{ Path, Permissions, Owner, Content string } `json:"write_files"`
}

func (u *userData) file(end string) (content, permissions string) {
	for _, f := range u.WriteFiles {
		if strings.HasSuffix(f.Path, end) {
			return f.Content, f.Permissions
		}
	}
	return "", ""
}

// The module cloud-init renders a #cloud-config that can be read, whose tenement.toml the
// server's own parser takes, and whose script installs the binary with the right sum and no
// other; the token is in a file of its own, and in the state only where that was asked for.
func TestCloudInitModule(t *testing.T) {
	acctest.Need(t)
	root, dir := filepath.Join(hclTree(t), "root"), t.TempDir()
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	const program = "#!/bin/sh\necho a program\n"
	source := filepath.Join(t.TempDir(), "ten")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	w := acctest.Workspace(t, root)
	w.Write("main.tf", need+strings.NewReplacer("URL", "file://"+source, "SUM", fmt.Sprintf("%x", sha256.Sum256([]byte(program))), "DIR", dir).Replace(cloudInitCall))
	const given, nowhere = "token-that-was-given", "token-that-is-kept-nowhere"
	w.Env = append(w.Env, "TF_VAR_given="+given, "TF_VAR_kept_nowhere="+nowhere)
	w.Run("get")
	out, err := w.Try(t.Context(), "apply", "-auto-approve")
	if err != nil || strings.Contains(out, given) || strings.Contains(out, nowhere) {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	w.Run("plan", "-detailed-exitcode")
	if state := contents(t, filepath.Join(root, "terraform.tfstate")); strings.Contains(state, nowhere) || strings.Count(state, given) != 2 {
		t.Errorf("the state holds what is kept nowhere, or what was given more than in its two outputs:\n%s", state)
	}
	text, err := w.Try(t.Context(), "output", "-json")
	if err != nil {
		t.Fatal(err)
	}
	var outputs struct {
		Data     struct{ Value map[string]string }
		Read     struct{ Value map[string]*userData }
		Services struct {
			Value map[string]struct{ Command string }
		}
	}
	if err := json.Unmarshal([]byte(text), &outputs); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	checkUserData(t, outputs.Data.Value, outputs.Read.Value, given)
	if outputs.Services.Value["web"].Command != "true" {
		t.Errorf("tenement.toml has the services %v", outputs.Services.Value)
	}
	late := contents(t, filepath.Join(root, "ephemeral.yaml"))
	if strings.Replace(late, nowhere, "", 1) == late || !strings.HasPrefix(late, "#cloud-config\n") {
		t.Errorf("user_data_wo is\n%s", late)
	}
	runInstall(t, dir, source, outputs.Read.Value["asks"])
}

func checkUserData(t *testing.T, data map[string]string, read map[string]*userData, given string) {
	t.Helper()
	for name, u := range read {
		if !strings.HasPrefix(data[name], "#cloud-config\n") {
			t.Errorf("%s is not a #cloud-config:\n%s", name, data[name])
		}
		unit, _ := u.file("/etc/systemd/system/ten.service")
		toml, mode := u.file("/tenement.toml")
		if len(u.RunCmd) != 1 || !strings.Contains(unit, "/tenement.toml\n") || mode != "0644" {
			t.Errorf("%s: %+v", name, u)
		}
		token, mode := u.file("/join-token")
		if wants := name == "full"; (token != "") != wants || wants && (token != given+"\n" || mode != "0600") {
			t.Errorf("%s has the token %q in a file of mode %s", name, token, mode)
		}
		if joins := name != "first"; strings.Contains(toml, "token_file = ") != joins {
			t.Errorf("%s joins? %s", name, toml)
		}
	}
	toml, _ := read["full"].file("/tenement.toml")
	for _, line := range []string{`node_name = "ten-4"`, `tls_port = 8443`, `tls_names = ["ten.example.com","*.app.example.com"]`, `"disk" = "nvme"`, `"odd.name" = "x"`} {
		if !strings.Contains(toml, line+"\n") {
			t.Errorf("no %s in\n%s", line, toml)
		}
	}
}

// runInstall runs the script as a new machine would, with another's systemd.
func runInstall(t *testing.T, dir, source string, u *userData) {
	t.Helper()
	script, _ := u.file("/install")
	bin, calls := t.TempDir(), filepath.Join(dir, "calls")
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho \"$*\" >>"+calls+"\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	install := func() (string, error) {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not installed")
	}
	good := contents(t, source)
	if err := os.WriteFile(source, []byte("another program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := install(); err == nil || !strings.Contains(out, "has not the SHA-256") || exists(filepath.Join(dir, "bin", "ten")) || exists(calls) {
		t.Errorf("another program: %v\n%s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "bin", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(source, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := install(); err != nil {
			t.Fatalf("install: %v\n%s", err, out)
		}
		if err := os.Remove(source); err != nil && !os.IsNotExist(err) { // it is not needed again
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(filepath.Join(dir, "bin", "ten")).Output(); err != nil || string(out) != "a program\n" {
		t.Errorf("what is installed says %q, %v", out, err)
	}
	token := filepath.Join(dir, "join-token")
	if fi, err := os.Stat(token); err != nil || fi.Mode().Perm() != 0o600 || contents(t, token) != "token of vault\n" {
		t.Errorf("the token is %v, %v", fi, err)
	}
	if got := contents(t, calls); got != strings.Repeat("daemon-reload\nenable --now ten.service\n", 2) {
		t.Errorf("systemd was told\n%s", got)
	}
}
