package provider_test

import (
	"archive/zip"
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// No secret that a configuration uses is in what Terraform prints, in a plan or in the
// state: neither those that it is given nor those that are made in the run. An ephemeral
// token is what a second provider reads the cluster with.
func TestSecrets(t *testing.T) {
	c := acctest.Start(t, 1, acctest.Config{})
	d := acctest.Workspace(t, t.TempDir())
	given, id, _, err := api.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const password = "correct-horse-battery"
	d.Write("tenement.toml", "[service.job]\ncommand = \"true\"\nisolation = \"process\"\n[instances]\njob = [\"one\", \"two\"]\n")
	d.Write("main.tf", strings.ReplaceAll(secretsConfig, "ENDPOINT", c.Endpoints[0]))
	d.Env = append(d.Env, "TF_VAR_password="+password, "TF_VAR_secret="+given, "TEN_TOKEN="+c.Token, "TF_LOG=")
	var printed []string
	run := func(args ...string) {
		t.Helper()
		out, err := d.Try(context.Background(), args...)
		if err != nil {
			t.Fatalf("terraform %v: %v\n%s", args, err, out)
		}
		printed = append(printed, out)
	}
	run("plan", "-out=first.plan")
	run("show", "first.plan")
	run("show", "-json", "first.plan")
	run("apply", "-auto-approve")
	run("show", "-json")
	run("plan", "-out=second.plan", "-detailed-exitcode") // fails if there is a change
	run("output")
	s, err := c.Client.Service(t.Context(), "web")
	if err != nil || s.Env["PASSWORD"] != password {
		t.Fatalf("the service has the environment %v, %v", s.Env, err)
	}
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
	kept := map[string]string{"printed": strings.Join(printed, "\n")}
	for _, name := range []string{"terraform.tfstate", "first.plan", "second.plan"} {
		kept[name] = contents(t, filepath.Join(d.Path, name))
	}
	// Any token at all: the provider's own, and those that were made in the run.
	token, hash := regexp.MustCompile(`ten_[0-9a-f]{12}_`), "sha256"
	for name, text := range kept {
		if name != "printed" && len(text) == 0 {
			t.Errorf("%s is empty", name)
		}
		for what, is := range map[string]bool{
			"the password": strings.Contains(text, password), "the given secret": strings.Contains(text, given[20:]),
			"a token": token.MatchString(text), "a hash": strings.Contains(text, hash),
		} {
			if is {
				t.Errorf("%s holds %s", name, what)
			}
		}
	}
	run("destroy", "-auto-approve")
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
  isolation = each.value.isolation
}
resource "ten_instance" "file" {
  for_each = local.file.instances
  service  = ten_service.file[each.value.service].name
  id       = each.value.id
}
output "leader" {
  value = data.ten_cluster.c.leader
}
`
