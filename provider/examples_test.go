package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/acctest"
)

// hclDir has the examples and modules for users.
const hclDir = "../terraform"

// hclTree copies the examples and modules, for Terraform leaves files where it runs.
func hclTree(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	for _, dir := range []string{"examples", "modules"} {
		err := filepath.WalkDir(filepath.Join(hclDir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(hclDir, path)
			if err != nil {
				return err
			}
			switch {
			case d.IsDir() && strings.HasPrefix(d.Name(), "."):
				return fs.SkipDir
			case d.IsDir():
				return os.MkdirAll(filepath.Join(to, rel), 0o700)
			case !slices.Contains([]string{".tf", ".tftpl", ".sh"}, filepath.Ext(path)) || strings.HasSuffix(path, "override.tf"):
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), text, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// applied is an example, or another configuration, in use.
type applied struct {
	*acctest.Dir
	t       *testing.T
	c       *acctest.Cluster
	secrets []string
	printed strings.Builder
}

func newApplied(t *testing.T, c *acctest.Cluster, dir string) *applied {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a := &applied{Dir: acctest.Workspace(t, dir), t: t, c: c, secrets: []string{c.Token}}
	a.Env = append(a.Env, "TEN_ENDPOINTS="+strings.Join(c.Endpoints, ","), "TEN_TOKEN="+c.Token, "TF_LOG=")
	return a
}

func (a *applied) run(args ...string) string {
	a.t.Helper()
	out, err := a.Try(a.t.Context(), args...)
	a.printed.WriteString(out)
	if err != nil {
		a.t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return out
}

// apply applies, and plans again: there must be nothing left to do.
func (a *applied) apply(args ...string) {
	a.t.Helper()
	a.run(append([]string{"apply", "-auto-approve"}, args...)...)
	a.run(append([]string{"plan", "-out=second.plan", "-detailed-exitcode"}, args...)...)
}

// outputs returns the outputs, as JSON.
func (a *applied) outputs() map[string]json.RawMessage {
	a.t.Helper()
	var all map[string]struct{ Value json.RawMessage }
	if err := json.Unmarshal([]byte(a.run("output", "-json")), &all); err != nil {
		a.t.Fatal(err)
	}
	values := map[string]json.RawMessage{}
	for name, o := range all {
		values[name] = o.Value
	}
	return values
}

// destroy removes everything, and looks for what should not be there: in the cluster, and
// in what Terraform has printed and kept.
func (a *applied) destroy(args ...string) {
	a.t.Helper()
	a.run("show", "-json", "second.plan") // the state, too
	a.run("show", "-json")
	kept := map[string]string{}
	for _, name := range []string{"terraform.tfstate", "terraform.tfstate.backup", "first.plan", "second.plan"} {
		if path := filepath.Join(a.Path, name); exists(path) {
			kept[name] = contents(a.t, path)
		}
	}
	if len(kept) < 2 {
		a.t.Errorf("kept are only %d files", len(kept))
	}
	a.run(append([]string{"destroy", "-auto-approve"}, args...)...)
	kept["what was printed"] = a.printed.String()
	kept["the last state"] = contents(a.t, filepath.Join(a.Path, "terraform.tfstate"))
	token := regexp.MustCompile(`ten_[0-9a-f]{12}_`)
	for name, text := range kept {
		for n, secret := range a.secrets {
			if strings.Contains(text, secret) {
				a.t.Errorf("%s holds secret %d", name, n)
			}
		}
		if token.MatchString(text) {
			a.t.Errorf("%s holds a token", name)
		}
	}
	a.left()
}

// left tells what is left in the cluster.
func (a *applied) left() {
	a.t.Helper()
	ctx := a.t.Context()
	services, err1 := a.c.Client.Services(ctx)
	instances, err2 := a.c.Client.Instances(ctx, client.InstanceQuery{})
	fleets, err3 := a.c.Client.Fleets(ctx, "")
	routes, err4 := a.c.Client.Routes(ctx)
	nodes, err5 := a.c.Client.Nodes(ctx)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	if len(services)+len(instances)+len(fleets)+len(routes) > 0 {
		a.t.Errorf("left behind: %v, %v, %v, %v", services, instances, fleets, routes)
	}
	for _, n := range nodes {
		if n.Eligibility != api.EligibilityEligible {
			a.t.Errorf("node %s is left %s", n.Name, n.Eligibility)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// until repeats what there is nothing to wait on for: it asks the proxies.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// get returns what a host answers through the first node.
func (a *applied) get(host, path string) string {
	a.t.Helper()
	status, body, err := a.c.Nodes[0].Get(host, path)
	if err != nil || status != http.StatusOK {
		a.t.Fatalf("GET %s%s: %d %q, %v", host, path, status, body, err)
	}
	return strings.TrimSpace(body)
}

// share returns how many of 100 requests for a host are answered by what begins so.
func (a *applied) share(host, prefix string) int {
	a.t.Helper()
	n := 0
	for range 100 {
		if strings.HasPrefix(a.get(host, "/"), prefix) {
			n++
		}
	}
	return n
}

// asking requests a host, through every node, until what it returns is called; that tells
// how many requests were answered, and fails the test if one was not.
func (a *applied) asking(host string) (stop func() int64) {
	ctx, cancel := context.WithCancel(a.t.Context())
	var wg sync.WaitGroup
	var done atomic.Int64
	for _, n := range a.c.Nodes {
		wg.Go(func() {
			often := time.NewTicker(2 * time.Millisecond)
			defer often.Stop()
			for ctx.Err() == nil {
				<-often.C
				if status, body, err := n.Get(host, "/"); err != nil || status != http.StatusOK {
					a.t.Errorf("GET %s: %d %q, %v", host, status, body, err)
					return
				}
				done.Add(1)
			}
		})
	}
	return func() int64 {
		cancel()
		wg.Wait()
		return done.Load()
	}
}

// Each example is applied as it is: what its page promises is seen through the proxy, a
// second plan is empty, destroy leaves nothing, and no secret is in what Terraform keeps.
func TestExamples(t *testing.T) {
	c := acctest.Here(t, 3, acctest.Config{})
	tree := hclTree(t)
	examples := map[string]func(*applied){
		"quick-start": quickStart, "canary": canary, "tenants": tenants, "blue-green": blueGreen, "drain": drain,
	}
	dirs, err := filepath.Glob(filepath.Join(tree, "examples", "*", "main.tf"))
	if err != nil || len(dirs) != len(examples) {
		t.Errorf("there are %d examples, %d have a test: %v", len(dirs), len(examples), err)
	}
	for _, name := range []string{"quick-start", "canary", "tenants", "blue-green", "drain"} {
		t.Run(name, func(t *testing.T) {
			a := newApplied(t, c, filepath.Join(tree, "examples", name))
			a.Env = append(a.Env, "TF_VAR_program=true", "TF_VAR_stable=true", "TF_VAR_canary=true", `TF_VAR_programs={blue="true",green="true"}`)
			examples[name](a)
		})
	}
}

func quickStart(a *applied) {
	a.apply()
	if got := a.get("alice.greeter.localhost", "/"); got != "greeter:alice" {
		a.t.Errorf("alice is %q", got)
	}
	var all []string
	if err := json.Unmarshal(a.outputs()["instances"], &all); err != nil || !slices.Equal(all, []string{"greeter:alice", "greeter:web-0", "greeter:web-1"}) {
		a.t.Errorf("the instances are %v, %v", all, err)
	}
	until(a.t, "the instance and the fleet have the same share", func() bool {
		n := a.share("greeter.localhost", "greeter:alice")
		return n >= 49 && n <= 51
	})
	a.apply("-var", "replicas=3")
	if got := a.get("web-2.greeter.localhost", "/"); got != "greeter:web-2" {
		a.t.Errorf("the third of the fleet is %q", got)
	}
	a.destroy()
}

func canary(a *applied) {
	a.apply()
	near := func(percent int) {
		a.t.Helper()
		until(a.t, fmt.Sprintf("the canary gets %d of 100", percent), func() bool {
			got := a.share("shop.localhost", "shop-canary:canary-")
			return got >= percent-1 && got <= percent+1
		})
	}
	near(10)
	instance, err := a.c.Client.Instance(a.t.Context(), api.Ref{Service: "shop-canary", ID: "canary-0"})
	if err != nil {
		a.t.Fatal(err)
	}
	a.apply("-var", "canary_percent=50")
	near(50)
	again, err := a.c.Client.Instance(a.t.Context(), instance.Ref())
	if err != nil || again.Observed.PID != instance.Observed.PID {
		a.t.Errorf("the instance was restarted: %v, %v", again, err)
	}
	fails(a.t, a.Dir, "canary_percent is a whole number from 0 to 100", "plan", "-var", "canary_percent=101")
	a.destroy()
}

func tenants(a *applied) {
	keys := func(acme, globex string) {
		a.secrets = append(a.secrets, acme, globex)
		a.Env = append(a.Env, fmt.Sprintf(`TF_VAR_api_keys={"acme":%q,"globex":%q}`, acme, globex))
	}
	has := func(tenant, key string) {
		a.t.Helper()
		until(a.t, tenant+" has its key", func() bool {
			env := strings.Split(a.get("notes-"+tenant+".localhost", "/env"), "\n")
			return slices.Contains(env, "API_KEY="+key) && slices.Contains(env, "TENANT="+tenant)
		})
	}
	keys("first-key-of-acme", "first-key-of-globex")
	a.run("plan", "-out=first.plan")
	a.run("show", "first.plan")
	a.run("show", "-json", "first.plan")
	a.apply()
	has("acme", "first-key-of-acme")
	has("globex", "first-key-of-globex")
	keys("second-key-of-acme", "second-key-of-globex")
	a.apply() // no version has changed, so no key does
	has("acme", "first-key-of-acme")
	second := []string{"-var", "tenants={acme={key_version=2},globex={}}"}
	a.apply(second...)
	has("acme", "second-key-of-acme")
	has("globex", "first-key-of-globex")
	a.apply("-var", "tenants={acme={key_version=2}}")
	if _, err := a.c.Client.Service(a.t.Context(), "notes-globex"); api.CodeOf(err) != api.CodeNotFound {
		a.t.Errorf("a tenant that left is there: %v", err)
	}
	a.destroy()
}

func blueGreen(a *applied) {
	a.apply()
	all := func(colour string) {
		a.t.Helper()
		until(a.t, colour+" gets all", func() bool { return a.share("site.localhost", "site-"+colour+":"+colour+"-") == 100 })
	}
	all("blue")
	if got := a.get("site-green.localhost", "/"); !strings.HasPrefix(got, "site-green:") {
		a.t.Errorf("the idle colour is %q", got)
	}
	stop := a.asking("site.localhost")
	a.apply("-var", "live=green")
	all("green")
	if n := stop(); n == 0 {
		a.t.Error("nobody asked during the switch")
	}
	if got := string(a.outputs()["live"]); got != `"green"` {
		a.t.Errorf("live is %s", got)
	}
	a.apply()
	all("blue")
	a.destroy()
}

func drain(a *applied) {
	a.apply()
	on := func(node string) int {
		a.t.Helper()
		there, err := a.c.Client.Instances(a.t.Context(), client.InstanceQuery{Service: "steady", Node: node})
		if err != nil {
			a.t.Fatal(err)
		}
		return len(there)
	}
	if n := on("n3"); n != 2 {
		a.t.Errorf("%d instances are on n3, want 2", n)
	}
	stop := a.asking("steady.localhost")
	a.apply("-var", `draining=["n3"]`)
	if n := on("n3"); n != 0 {
		a.t.Errorf("%d instances are on n3 after the apply", n)
	}
	if n := stop(); n == 0 {
		a.t.Error("nobody asked during the drain")
	}
	fails(a.t, a.Dir, "draining names a node that is not there. There are: n1, n2, n3.", "plan", "-var", `draining=["n4"]`)
	a.destroy("-var", `draining=["n3"]`)
}

// The examples and modules are in the form that Terraform gives them.
func TestHCLIsFormatted(t *testing.T) {
	acctest.Need(t)
	for _, dir := range []string{"examples", "modules"} {
		cmd := exec.Command(os.Getenv("TF_ACC_TERRAFORM_PATH"), "fmt", "-check", "-diff", "-recursive", filepath.Join(hclDir, dir)) //nolint:gosec // the terraform that the harness found
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("terraform fmt %s: %v\n%s", dir, err, out)
		}
	}
}
