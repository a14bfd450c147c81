package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// workspace is a directory on which terraform is run.
type workspace struct {
	dir string
	env []string
}

// errNoTerraform says why a section is left out.
var errNoTerraform = errors.New("terraform is not installed")

// newWorkspace writes a configuration. Its provider ten, if it has one, is the binary.
func (b *bench) newWorkspace(config string) (*workspace, error) {
	if _, err := exec.LookPath("terraform"); err != nil {
		return nil, errNoTerraform
	}
	dir, err := os.MkdirTemp("", "tb-tf-")
	if err != nil {
		return nil, fmt.Errorf("make workspace: %w", err)
	}
	w := &workspace{dir: dir}
	bin := filepath.Join(dir, "bin")
	err = errors.Join(
		os.Mkdir(bin, 0o700),
		os.Symlink(b.ten, filepath.Join(bin, "terraform-provider-ten")),
		w.write("cli.tfrc", fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"tenement/ten\" = %q\n  }\n  direct {}\n}\n", bin)),
		w.write("main.tf", config),
	)
	if err != nil {
		return nil, fmt.Errorf("make workspace: %w", err)
	}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(dir, "cli.tfrc"), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_LOG=", "HOME="+dir)
	return w, nil
}

func (w *workspace) write(name, text string) error {
	return os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600)
}

func (w *workspace) remove() { _ = os.RemoveAll(w.dir) }

// run returns how long terraform took.
func (w *workspace) run(ctx context.Context, args ...string) (time.Duration, error) {
	wall, _, err := w.cost(ctx, args...)
	return wall, err
}

// cost is run that also tells the processor time of terraform and its providers.
func (w *workspace) cost(ctx context.Context, args ...string) (wall, cpu time.Duration, err error) {
	cmd := exec.CommandContext(ctx, "terraform", append(args, "-no-color")...) //nolint:gosec // terraform itself
	cmd.Dir, cmd.Env = w.dir, w.env
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("run terraform %s: %w\n%s", args[0], err, out[max(0, len(out)-3000):])
	}
	return time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// many is how many instances are applied.
const many = 1000

// floorConfig is as many resources that are Terraform's own, each referring to one other.
const floorConfig = `
resource "terraform_data" "web" {
  input = { name = "web", command = "true" }
}
resource "terraform_data" "all" {
  count = %d
  input = { service = terraform_data.web.input.name, id = "i${count.index}", weight = 1 }
}
`

const manyConfig = `
terraform {
  required_providers {
    ten = { source = "tenement/ten" }
  }
}
provider "ten" {
  endpoints = [%s]
}
variable "seventh" {
  default = 0
}
resource "ten_service" "web" {
  name          = "web"
  command       = "true"
  isolation     = "process"
  idle_timeout  = "0s"
  max_instances = 2000
}
resource "ten_instance" "all" {
  count   = %d
  service = ten_service.web.name
  id      = "i${count.index}"
  weight  = count.index == 0 ? 1 : count.index == 7 ? var.seventh : 0
}
`

// benchApply applies, plans again and destroys 1,000 instances of programs that are
// pretended, on three servers, in turns with Terraform's own terraform_data.
func benchApply(ctx context.Context, b *bench) error {
	f, err := b.pretending().startFleet(ctx, "")
	if err != nil {
		return err
	}
	defer f.stop()
	count := b.scaled(many)
	w, err := f.workspace(ctx, b, manyConfig, count)
	if err != nil {
		return skipped(err)
	}
	defer w.remove()
	floor, err := b.newWorkspace(fmt.Sprintf(floorConfig, count))
	if err != nil {
		return err
	}
	defer floor.remove()
	if _, err := floor.run(ctx, "init"); err != nil {
		return err
	}
	steps := [][]string{{"apply", "-auto-approve"}, {"plan", "-detailed-exitcode"}, {"destroy", "-auto-approve"}}
	var floors, tens, floorCPU, tenCPU [3]sample
	for range b.scaled(b.counts.rounds) {
		for i, args := range steps {
			bare, bareCPU, err := floor.cost(ctx, args...)
			if err != nil {
				return err
			}
			took, cpu, err := w.cost(ctx, args...)
			if err != nil {
				return err
			}
			floors[i], tens[i] = append(floors[i], bare), append(tens[i], took)
			floorCPU[i], tenCPU[i] = append(floorCPU[i], bareCPU), append(tenCPU[i], cpu)
		}
	}
	for i, bar := range []struct {
		most  time.Duration
		times float64
	}{{15 * time.Second, 3}, {5 * time.Second, 2}, {}} {
		ratio := float64(tens[i].median()) / float64(floors[i].median())
		verdict := ""
		if bar.most > 0 {
			verdict = fmt.Sprintf(" (bar %s: %s, %.0f ×: %s)", bar.most, met(tens[i].median() <= bar.most), bar.times, met(ratio <= bar.times))
		}
		fmt.Printf("%-8s floor %s, CPU %s\n         ten   %s, CPU %s: %.2f × the floor, CPU %.2f ×%s\n", steps[i][0], floors[i], ms(floorCPU[i].median()),
			tens[i], ms(tenCPU[i].median()), ratio, float64(tenCPU[i].median())/float64(floorCPU[i].median()), verdict)
	}
	return nil
}

// skipped makes the lack of Terraform no fault.
func skipped(err error) error {
	if errors.Is(err, errNoTerraform) {
		fmt.Println("left out:", err)
		return nil
	}
	return err
}

// workspace returns one for a configuration that wants the servers' endpoints and a number.
func (f *fleet) workspace(ctx context.Context, b *bench, config string, count int) (*workspace, error) {
	endpoints := make([]string, len(f.nodes))
	for i, n := range f.nodes {
		endpoints[i] = fmt.Sprintf("%q", "http://"+n.addr())
	}
	return f.nodes[0].workspace(ctx, b, fmt.Sprintf(config, strings.Join(endpoints, ", "), count))
}

// workspace returns one whose provider has a token of the server.
func (n *node) workspace(ctx context.Context, b *bench, config string) (*workspace, error) {
	var token api.CreatedToken
	if _, err := n.call(ctx, "POST", "/api/tokens", api.TokenRequest{Role: api.RoleAdmin}, &token); err != nil {
		return nil, err
	}
	w, err := b.newWorkspace(config)
	if err == nil {
		w.env = append(w.env, "TEN_TOKEN="+token.Secret)
	}
	return w, err
}

// benchWeight changes one weight among 1,000, so that all but a hundredth of a service's
// traffic goes to another instance, and measures from the moment when the provider writes
// it until each of the servers has sent a request there.
func benchWeight(ctx context.Context, b *bench) error {
	f, err := b.pretending().startFleet(ctx, "")
	if err != nil {
		return err
	}
	defer f.stop()
	wrote := make(chan time.Time, 1)
	front, err := watchWrites(f.nodes[0], wrote)
	if err != nil {
		return err
	}
	defer front.Close()
	w, err := f.nodes[0].workspace(ctx, b, fmt.Sprintf(manyConfig, fmt.Sprintf("%q", front.URL), b.scaled(many)))
	if err != nil {
		return skipped(err)
	}
	defer w.remove()
	set := func(weight string) (time.Duration, error) {
		return w.run(ctx, "apply", "-auto-approve", "-var=seventh="+weight)
	}
	if _, err := set("0"); err != nil {
		return err
	}
	var moved, applies sample
	for range b.scaled(b.counts.rounds) {
		for len(wrote) > 0 {
			<-wrote
		}
		seen, stop := f.watchTraffic(ctx, "web.localhost", "web:i7")
		took, err := set("100")
		if err != nil {
			stop()
			return err
		}
		last := time.Time{}
		for range f.nodes {
			if at := <-seen; at.After(last) {
				last = at
			}
		}
		stop()
		if len(wrote) == 0 {
			return errors.New("measure a weight: nothing was written")
		}
		moved, applies = append(moved, last.Sub(<-wrote)), append(applies, took)
		if _, err := set("0"); err != nil {
			return err
		}
	}
	fmt.Printf("written → all servers send traffic there  %s: bar 1 s: %s\nthe whole apply                           %s\n",
		moved, met(moved.quantile(1) <= time.Second), applies)
	return nil
}

// watchWrites is a way to a server that tells when an instance is written.
func watchWrites(n *node, wrote chan<- time.Time) (*httptest.Server, error) {
	to, err := url.Parse("http://" + n.addr())
	if err != nil {
		return nil, err
	}
	next := httputil.NewSingleHostReverseProxy(to)
	return httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/instances/") {
			select {
			case wrote <- time.Now():
			default: // the first one counts
			}
		}
		next.ServeHTTP(rw, r)
	})), nil
}

// watchTraffic asks each server for a host again and again, and tells when it was first
// answered by the instance. Stop waits for the end of it.
func (f *fleet) watchTraffic(ctx context.Context, host, instance string) (seen <-chan time.Time, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	times := make(chan time.Time, len(f.nodes))
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		wg.Go(func() {
			_ = poll(ctx, patience, func() error {
				if who, err := n.answeredBy(ctx, host); err != nil || who != instance {
					return errors.New("not yet")
				}
				return nil
			})
			times <- time.Now()
		})
	}
	return times, func() { cancel(); wg.Wait() }
}

// answeredBy returns what a host answers through the server.
func (n *node) answeredBy(ctx context.Context, host string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr()+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read
	text := make([]byte, 64)
	size, _ := resp.Body.Read(text)
	return strings.TrimSpace(string(text[:size])), nil
}
