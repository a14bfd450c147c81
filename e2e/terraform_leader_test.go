package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestApplyWhileServersDie: in the middle of an apply the leading ten is killed, and in that
// of another one a machine that does not lead, with all its programs. Both applies end well
// on the servers that are left; plans after them are empty, with the dead and once they are
// back; everything answers through every server, and destroy leaves nothing.
func TestApplyWhileServersDie(t *testing.T) {
	needTerraform(t)
	t.Parallel()
	f := startFleet(t, 3, "")
	f.waitVoters(3)
	p := f.project()
	write := func(count, weight int) (refs []string) {
		p.write("fleet.tf", fmt.Sprintf(`
resource "ten_service" "app" {
  name         = "app"
  command      = %q
  isolation    = "process"
  idle_timeout = "0s"
}
resource "ten_instance" "all" {
  count   = %d
  service = ten_service.app.name
  id      = "i${count.index}"
  weight  = %d
}`, appBinary, count, weight))
		for n := range count {
			refs = append(refs, fmt.Sprint("app:i", n))
		}
		return refs
	}
	whole := func(refs []string) {
		t.Helper()
		f.waitVoters(3)
		p.run("plan", "-detailed-exitcode")
		for _, ref := range refs {
			for _, s := range f.nodes {
				until(t, elsewhere, func() error { _, err := s.answers(ref); return err })
			}
		}
	}

	refs := write(12, 1)
	leader, rest := f.leader()
	f.during(rest[0], 3, leader.kill, func() { p.run("apply", "-auto-approve") })
	p.run("plan", "-detailed-exitcode")
	leader.start()
	whole(refs)

	refs = write(24, 2)
	leader, rest = f.leader()
	f.during(leader, 15, rest[0].die, func() { p.run("apply", "-auto-approve") })
	p.run("plan", "-detailed-exitcode")
	rest[0].start()
	whole(refs)

	f.during(leader, -20, rest[1].kill, func() { p.run("destroy", "-auto-approve") })
	if left := leader.instances(); len(left) != 0 {
		t.Errorf("destroy has left %v", left)
	}
	rest[1].start() // it ends what went on without it
	if status, body := rest[1].get("app.localhost", "/"); status == 200 {
		t.Errorf("after destroy: %d %s", status, body)
	}
}

// during calls do, and kill as soon as the server knows of as many instances; of a negative
// number: of no more than so many.
func (f *fleet) during(by *ten, many int, kill, do func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	killed := make(chan bool)
	go func() {
		for index := uint64(0); ; {
			var list []*api.Instance
			next, err := by.local(ctx, "GET", fmt.Sprintf("/api/instances?service=app&index=%d&wait=30s", index), &list)
			if ctx.Err() != nil {
				killed <- false
				return
			}
			if err == nil && (many > 0 && len(list) >= many || many < 0 && len(list) <= -many) {
				kill()
				killed <- true
				return
			}
			index = next
		}
	}()
	do()
	cancel()
	if !<-killed {
		f.t.Error("nobody was killed")
	}
}

// project is a directory of Terraform with the binary itself as the provider, for all
// servers of the fleet.
func (f *fleet) project() *project {
	f.t.Helper()
	bin := f.t.TempDir()
	if err := os.Symlink(tenBinary, filepath.Join(bin, "terraform-provider-ten")); err != nil {
		f.t.Fatal(err)
	}
	p := newProject(f.t, "tenement/ten", "", fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"tenement/ten\" = %q\n  }\n  direct {}\n}\n", bin))
	var endpoints []string
	for _, s := range f.nodes {
		endpoints = append(endpoints, fmt.Sprintf("%q", "http://"+s.addr()))
	}
	var token api.CreatedToken
	if _, err := f.nodes[0].send(f.t.Context(), "POST", "/api/tokens", api.TokenRequest{Role: api.RoleAdmin}, &token); err != nil {
		f.t.Fatal(err)
	}
	p.write("provider.tf", fmt.Sprintf("provider \"ten\" {\n  endpoints = [%s]\n}\n", strings.Join(endpoints, ", ")))
	p.env = append(p.env, "TEN_TOKEN="+token.Secret)
	return p
}
