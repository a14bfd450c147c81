package provider_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// No secret that a configuration uses is in what Terraform prints or logs, in a plan or in
// a state, an import's included, and none is in the server's log, metrics, events and
// answers: neither those that are given nor those that are made in the run. An ephemeral
// token is what a second provider reads the cluster with.
func TestSecrets(t *testing.T) {
	log := &safeBuffer{}
	c := acctest.Here(t, 1, acctest.Config{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	given, id, _, err := api.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const password = "correct-horse-battery"
	d := newSecretDir(t, c)
	d.Write("tenement.toml", "[service.job]\ncommand = \"true\"\nisolation = \"process\"\nenv = { KEY = \""+password+"\" }\nsecret_env = [\"KEY\"]\n"+
		"[instances]\njob = [\"one\", \"two\"]\n")
	d.Write("main.tf", strings.ReplaceAll(secretsConfig, "ENDPOINT", c.Endpoints[0]))
	d.Env = append(d.Env, "TF_VAR_password="+password, "TF_VAR_secret="+given)
	d.run("plan", "-out=first.plan")
	d.run("show", "first.plan")
	d.run("show", "-json", "first.plan")
	d.run("apply", "-auto-approve")
	d.run("show", "-json")
	d.run("plan", "-out=second.plan", "-detailed-exitcode") // fails if there is a change
	d.run("output")
	if got := c.Environment(t, "web"); got["PASSWORD"] != password {
		t.Fatalf("the programs get %v", got)
	}
	join := c.Environment(t, "joins")["JOIN"]
	if len(join) < 20 {
		t.Fatalf("the join token is %q", join)
	}
	checkTokens(t, c, id)

	imported := newSecretDir(t, c)
	imported.Write("main.tf", strings.ReplaceAll(importConfig, "ENDPOINT", c.Endpoints[0]))
	imported.run("plan", "-generate-config-out=generated.tf", "-out=first.plan")
	imported.run("show", "-json", "first.plan")
	imported.run("apply", "-auto-approve")
	imported.run("plan", "-out=second.plan", "-detailed-exitcode")
	if got := c.Environment(t, "web"); got["PASSWORD"] != password {
		t.Fatalf("after an import the programs get %v", got)
	}

	kept := answers(t, c)
	for _, dir := range []*secretDir{d, imported} {
		kept["printed in "+dir.Path] = strings.Join(dir.printed, "\n")
		for _, name := range []string{"terraform.tfstate", "first.plan", "second.plan", "trace.log"} {
			kept[filepath.Join(dir.Path, name)] = contents(t, filepath.Join(dir.Path, name))
		}
	}
	kept["generated.tf"] = contents(t, filepath.Join(imported.Path, "generated.tf"))
	kept["the server's log"] = log.String()
	search(t, kept, map[string]string{"the password": password, "the given secret": given[20:], "the join token": join, "the provider's token": c.Token})
	d.run("destroy", "-auto-approve")
}

// search looks for secrets in texts, and for any token at all: the provider's own, and
// those that were made in the run.
func search(t *testing.T, kept, secrets map[string]string) {
	t.Helper()
	token := regexp.MustCompile(`ten_[0-9a-f]{12}_[0-9A-Za-z_-]{43}`)
	for name, text := range kept {
		if text == "" {
			t.Errorf("%s is empty", name)
		}
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s", name, what)
			}
		}
		if token.MatchString(text) {
			t.Errorf("%s holds a token", name)
		}
		if strings.Contains(text, `"sha256"`) {
			t.Errorf("%s holds a hash", name)
		}
	}
}

// checkTokens finds the token of the given secret, and none that was for the run.
func checkTokens(t *testing.T, c *acctest.Cluster, id string) {
	t.Helper()
	tokens, err := c.Client.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, tok := range tokens {
		found = found || tok.ID == id
		if tok.Description == "one run" {
			t.Error("the ephemeral token is still valid")
		}
	}
	if !found {
		t.Error("the token of the given secret was not made")
	}
}

// answers is what the server tells, to an admin, with every event so far.
func answers(t *testing.T, c *acctest.Cluster) map[string]string {
	t.Helper()
	kept := map[string]string{}
	for _, path := range []string{
		"/api/services", "/api/services/web", "/api/instances", "/api/fleets", "/api/routes", "/api/tokens", "/api/join-tokens", "/api/cluster", "/api/nodes",
		"/api/node", "/api/telemetry", "/metrics",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Endpoints[0]+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.Token)
		resp, err := c.Nodes[0].HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %d %s, %v", path, resp.StatusCode, body, err)
		}
		kept["GET "+path] = string(body)
	}
	last, err := c.Client.PutService(t.Context(), &api.Service{Name: "last", Command: "true", Isolation: api.IsolationProcess}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var events []api.Event
	for e, err := range c.Client.Events(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if events = append(events, e); e.Index >= last.Revision {
			break
		}
	}
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	if kept["the events"] = string(text); !strings.Contains(kept["the events"], `"secret_env":["PASSWORD"]`) {
		t.Errorf("%d events, and none of a service with secrets", len(events))
	}
	return kept
}

// secretDir is a workspace that notes all that Terraform prints and logs.
type secretDir struct {
	*acctest.Dir
	t       *testing.T
	printed []string
}

func newSecretDir(t *testing.T, c *acctest.Cluster) *secretDir {
	t.Helper()
	d := &secretDir{Dir: acctest.Workspace(t, t.TempDir()), t: t}
	d.Env = append(d.Env, "TEN_TOKEN="+c.Token, "TF_LOG=TRACE", "TF_LOG_PATH="+filepath.Join(d.Path, "trace.log"))
	return d
}

func (d *secretDir) run(args ...string) {
	d.t.Helper()
	out, err := d.Try(context.Background(), args...)
	if err != nil {
		d.t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	d.printed = append(d.printed, out)
}

// safeBuffer is a buffer that is read while others write.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// contents returns a file's bytes and, of an archive as plans are, also its members'.
func contents(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := string(raw)
	archive, err := zip.OpenReader(name)
	if err != nil {
		return out
	}
	defer func() { _ = archive.Close() }()
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out += "\n" + string(text)
	}
	return out
}

const secretsConfig = `
terraform {
  required_providers {
    ten = { source = "tenement/ten" }
  }
}
provider "ten" {
  endpoints = ["ENDPOINT"]
}
variable "password" {
  type      = string
  ephemeral = true
}
variable "secret" {
  type      = string
  ephemeral = true
}
resource "ten_service" "web" {
  name           = "web"
  command        = "true"
  isolation      = "process"
  env_wo         = { PASSWORD = var.password }
  env_wo_version = 1
}
resource "ten_token" "given" {
  secret_wo         = var.secret
  secret_wo_version = 1
}
ephemeral "ten_token_secret" "new" {}
resource "ten_token" "made" {
  tenant            = "alice"
  secret_wo         = ephemeral.ten_token_secret.new.secret
  secret_wo_version = 1
}
ephemeral "ten_join_token" "j" {}
resource "ten_service" "joins" {
  name           = "joins"
  command        = "true"
  isolation      = "process"
  env_wo         = { JOIN = ephemeral.ten_join_token.j.text }
  env_wo_version = 1
}
ephemeral "ten_token" "run" {
  description = "one run"
}
provider "ten" {
  alias     = "run"
  endpoints = ["ENDPOINT"]
  token     = ephemeral.ten_token.run.secret
}
data "ten_cluster" "c" {
  provider = ten.run
}
data "ten_service" "web" {
  provider = ten.run
  name     = ten_service.web.name
}
locals {
  file = provider::ten::tenement_toml(file("tenement.toml"))
}
resource "ten_service" "file" {
  for_each  = local.file.services
  name      = each.key
  command   = each.value.command
  env       = each.value.env
  isolation = each.value.isolation
}
resource "ten_instance" "file" {
  for_each = local.file.instances
  service  = ten_service.file[each.value.service].name
  id       = each.value.id
}
output "cluster" {
  value = data.ten_cluster.c.id
}
`

const importConfig = `
terraform {
  required_providers {
    ten = { source = "tenement/ten" }
  }
}
provider "ten" {
  endpoints = ["ENDPOINT"]
}
import {
  to = ten_service.web
  id = "web"
}
`
