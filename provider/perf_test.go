package provider_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

// TestThousand applies 1,000 instances with the real binary, beside the same number of
// Terraform's own terraform_data in the same run. TEN_LONG=1 runs it.
func TestThousand(t *testing.T) {
	if os.Getenv("TEN_LONG") == "" {
		t.Skip("SKIPPED: takes a minute: TEN_LONG=1 runs it")
	}
	c := acctest.Here(t, 3, acctest.Config{})
	dir := t.TempDir()
	w := acctest.Workspace(t, dir)
	w.Write("main.tf", `terraform {
  required_providers {
    ten = { source = "tenement/ten" }
  }
}
`+c.HCL(`
resource "ten_service" "web" {
  name          = "web"
  command       = "true"
  isolation     = "process"
  max_instances = 2000
}
resource "ten_instance" "all" {
  count   = 1000
  service = ten_service.web.name
  id      = "i${count.index}"
  weight  = 1
}`))
	floor := acctest.Workspace(t, t.TempDir())
	floor.Write("main.tf", `resource "terraform_data" "web" {
  input = { name = "web", command = "true" }
}
resource "terraform_data" "all" {
  count = 1000
  input = { service = terraform_data.web.input.name, id = "i${count.index}", weight = 1 }
}`)
	floor.Run("init")
	f1 := floor.Run("apply", "-auto-approve")
	f2 := floor.Run("plan", "-detailed-exitcode")
	t1 := w.Run("apply", "-auto-approve")
	t2 := w.Run("plan", "-detailed-exitcode")
	b, _ := os.ReadFile(filepath.Join(dir, "main.tf"))
	w.Write("main.tf", strings.Replace(string(b), "weight  = 1", "weight  = count.index == 7 ? 2 : 1", 1))
	t3 := w.Run("apply", "-auto-approve")
	t4, f4 := w.Run("destroy", "-auto-approve"), floor.Run("destroy", "-auto-approve")
	t.Logf("apply %s (floor %s, %.1f×), second plan %s (floor %s, %.1f×), one weight %s, destroy %s (floor %s)",
		t1, f1, t1.Wall.Seconds()/f1.Wall.Seconds(), t2, f2, t2.Wall.Seconds()/f2.Wall.Seconds(), t3, t4, f4)
}
