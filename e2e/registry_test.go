package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// initBar is how long terraform init may take from a server on this machine. It is what
// an idle machine is held to; this one may be busy, so that it is told and not enforced.
const initBar = 3 * time.Second

// needTerraform skips the test, visibly, without a Terraform that is new enough.
func needTerraform(t *testing.T) {
	t.Helper()
	need(t, "terraform")
	out, err := exec.Command("terraform", "version", "-json").Output()
	var v struct {
		Version string `json:"terraform_version"`
	}
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	parts := strings.SplitN(v.Version, ".", 3)
	if err != nil || len(parts) != 3 {
		t.Skipf("skipped: terraform does not tell its version: %v", err)
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	if major < 1 || major == 1 && minor < 11 {
		t.Skipf("skipped: needs Terraform 1.11, this is %s", v.Version)
	}
}

// secured gives the server a TLS port.
func (s *ten) secured() *ten {
	s.tlsPort = freePort(s.t)
	s.flags = append(s.flags, "--tls-port", strconv.Itoa(s.tlsPort))
	return s
}

// ca returns the file with the cluster's CA, as its users get it.
func (s *ten) ca() string {
	s.t.Helper()
	path := s.config + ".ca.pem"
	if err := os.WriteFile(path, []byte(s.run("cluster", "ca")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// source is the provider's address at the server, by one of its names.
func (s *ten) source(host string) string {
	return net.JoinHostPort(host, strconv.Itoa(s.tlsPort)) + "/tenement/ten"
}

// project is a directory with a Terraform configuration.
type project struct {
	t    *testing.T
	dir  string
	env  []string
	used time.Duration // of the CPU, by the last command
}

// newProject writes a configuration that wants the provider from the given address, and
// nothing else. The CLI configuration is empty unless lines are given.
func newProject(t *testing.T, source, ca, cliConfig string) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir()}
	p.write("main.tf", fmt.Sprintf("terraform {\n  required_providers {\n    ten = {\n      source = %q\n    }\n  }\n}\n", source))
	p.write("cli.tfrc", cliConfig)
	for _, kv := range cleanEnv() {
		if !strings.HasPrefix(kv, "TF_") && !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, "SSL_CERT_") {
			p.env = append(p.env, kv)
		}
	}
	p.env = append(p.env, "HOME="+p.dir, "TF_CLI_CONFIG_FILE="+filepath.Join(p.dir, "cli.tfrc"), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"TF_REGISTRY_CLIENT_TIMEOUT=120") // this machine may be busy
	if ca != "" {
		p.env = append(p.env, "SSL_CERT_FILE="+ca)
	}
	return p
}

func (p *project) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) try(args ...string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "terraform", append(args, "-no-color")...)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if s := cmd.ProcessState; s != nil {
		p.used = s.UserTime() + s.SystemTime()
	}
	return string(out), err
}

func (p *project) run(args ...string) string {
	p.t.Helper()
	out, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// lock returns what the lock file says of the only provider.
func (p *project) lock() (source string, hashes []string) {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, ".terraform.lock.hcl"))
	if err != nil {
		p.t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^provider "([^"]+)"`).FindAllStringSubmatch(string(b), -1); len(m) == 1 {
		source = m[0][1]
	}
	for _, m := range regexp.MustCompile(`"((?:h1|zh):[^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		hashes = append(hashes, m[1])
	}
	return source, hashes
}

// TestTerraformInit: the provider comes from the server by nothing but its address, into
// the lock file with both kinds of hashes, and terraform providers lock agrees.
func TestTerraformInit(t *testing.T) {
	needTerraform(t)
	t.Parallel()
	s := newTen(t, appConfig("", "")).secured()
	s.start()
	ca := s.ca()
	var zip string
	for _, host := range []string{"localhost", "127.0.0.1"} {
		p := newProject(t, s.source(host), ca, "")
		begin := time.Now()
		out := p.run("init")
		t.Logf("terraform init from %s: %s, with %s of CPU (the bar on an idle machine is %s)",
			host, time.Since(begin).Round(time.Millisecond), p.used.Round(time.Millisecond), initBar)
		if !strings.Contains(out, "(self-signed, key ID ") {
			t.Errorf("the signature was not checked:\n%s", out)
		}
		source, hashes := p.lock()
		if source != s.source(host) || len(hashes) != 2 || !strings.HasPrefix(hashes[0], "h1:") || !strings.HasPrefix(hashes[1], "zh:") {
			t.Fatalf("the lock file has %q with %q", source, hashes)
		}
		if zip == "" {
			zip = hashes[1]
		} else if zip != hashes[1] {
			t.Errorf("by another name there is another package: %s, %s", zip, hashes[1])
		}
		if out := p.run("providers", "lock"); !strings.Contains(out, "no need for changes") {
			t.Errorf("terraform providers lock is not content:\n%s", out)
		}
		if after, again := p.lock(); after != source || strings.Join(again, " ") != strings.Join(hashes, " ") {
			t.Errorf("the lock file has changed: %q", again)
		}
		p.run("init", "-lockfile=readonly")
	}
	p := newProject(t, s.source("localhost"), "", "")
	if out, err := p.try("init"); err == nil || !strings.Contains(out, "certificate") {
		t.Errorf("without trust in the CA: %v\n%s", err, out)
	}
	p = newProject(t, s.source("localhost"), ca, "")
	p.write("more.tf", "terraform {\n  required_providers {\n    ten = {\n      source  = \""+s.source("localhost")+"\"\n      version = \">= 7.0\"\n    }\n  }\n}\n")
	if err := os.Remove(filepath.Join(p.dir, "main.tf")); err != nil {
		t.Fatal(err)
	}
	if out, err := p.try("init"); err == nil || !strings.Contains(out, "no available releases match") {
		t.Errorf("a version that there is not: %v\n%s", err, out)
	}
}

// TestTerraformMirror: the same packages for a source address that is not the server's,
// over the network mirror protocol; and from a directory without any server.
func TestTerraformMirror(t *testing.T) {
	needTerraform(t)
	t.Parallel()
	s := newTen(t, appConfig("", "")).secured()
	s.start()
	ca := s.ca()
	url := fmt.Sprintf("https://localhost:%d/terraform/mirror/", s.tlsPort)
	p := newProject(t, "tenement/ten", ca, fmt.Sprintf("provider_installation {\n  network_mirror {\n    url = %q\n  }\n}\n", url))
	p.run("init")
	_, fromMirror := p.lock()
	if len(fromMirror) != 1 || !strings.HasPrefix(fromMirror[0], "h1:") {
		t.Errorf("the lock file has %q", fromMirror)
	}
	p.run("providers", "lock", "-net-mirror="+url)
	if _, hashes := p.lock(); len(hashes) == 0 || hashes[0] != fromMirror[0] {
		t.Errorf("after terraform providers lock: %q", hashes)
	}

	registry := newProject(t, s.source("localhost"), ca, "")
	registry.run("init")
	_, fromRegistry := registry.lock()
	if fromRegistry[0] != fromMirror[0] {
		t.Errorf("the mirror has another package than the registry: %q, %q", fromMirror, fromRegistry)
	}

	// Without a server: in the directory where Terraform looks by itself, and in another one.
	implied := newProject(t, "tenement/ten", "", "")
	out := implied.ten("provider", "install", "--json")
	var told struct{ File, Source, Version, Config string }
	if err := json.Unmarshal([]byte(out), &told); err != nil || told.Config != "" || !strings.HasPrefix(told.File, filepath.Join(implied.dir, ".terraform.d", "plugins")+"/") {
		t.Errorf("got %s, %v", out, err)
	}
	implied.run("init")
	if _, hashes := implied.lock(); len(hashes) == 0 || hashes[0] != fromMirror[0] {
		t.Errorf("installed is another package than the server's: %q", hashes)
	}
	b, err := os.ReadFile(told.File)
	if err != nil {
		t.Fatal(err)
	}
	status, served := s.get("localhost", api.RegistryFiles+filepath.Base(told.File))
	if status != http.StatusOK || served != string(b) {
		t.Errorf("the installed package and the served one differ: %d, %d and %d bytes", status, len(served), len(b))
	}
	dir := t.TempDir()
	other := newProject(t, "ten.example.com/tenement/ten", "", "")
	out = other.ten("provider", "install", "--dir", dir, "--host", "ten.example.com")
	_, config, _ := strings.Cut(out, "in ~/.terraformrc:\n")
	config, _, found := strings.Cut(config, "in your configuration:")
	if !found {
		t.Fatalf("got %s", out)
	}
	other.write("cli.tfrc", config)
	other.run("init")
	other.run("providers", "lock", "-fs-mirror="+dir)
	other.ten("provider", "install", "--dir", dir, "--host", "ten.example.com") // over what is there
	other.run("init", "-lockfile=readonly")
}

// ten runs the binary with the project's home.
func (p *project) ten(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(tenBinary, args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("ten %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTerraformFromAnyServer: it does not matter which server of a cluster is asked, also
// when one of them was asked first for what another one signs.
func TestTerraformFromAnyServer(t *testing.T) {
	needTerraform(t) // not parallel: it takes the default ports of some addresses, which others may have of all
	f := newFleet(t, 3, fleetConfig())
	for _, s := range f.nodes {
		s.secured()
	}
	f.nodes[0].start()
	for _, s := range f.nodes[1:] {
		s.flags = append(s.flags, "--join", f.nodes[0].host, "--secret-file", filepath.Join(f.nodes[0].dataDir, ".ten", "secret"))
	}
	f.each(f.nodes[1:], (*ten).start)
	ca := f.nodes[1].ca()
	keys, archives := make([]string, 3), make([]string, 3)
	var wg sync.WaitGroup
	for i, s := range f.nodes {
		wg.Go(func() {
			p := newProject(t, s.source(s.host), ca, "")
			out, err := p.try("init")
			if err != nil {
				t.Errorf("from %s: %v\n%s", s.host, err, out)
				return
			}
			_, keys[i], _ = strings.Cut(out, "(self-signed, key ID ")
			keys[i], _, _ = strings.Cut(keys[i], ")")
			_, hashes := p.lock()
			archives[i] = strings.Join(hashes, " ")
		})
	}
	wg.Wait()
	for i := range f.nodes {
		if keys[i] == "" || keys[i] != keys[0] || archives[i] == "" || archives[i] != archives[0] {
			t.Errorf("server %d hands out %s signed by %s, server 1 %s signed by %s", i+1, archives[i], keys[i], archives[0], keys[0])
		}
	}
}

// TestUpgradeOverTLS: a server is replaced while requests come in over TLS, on old
// connections and on new ones; none fails, and programs still hear of TLS.
func TestUpgradeOverTLS(t *testing.T) {
	t.Parallel()
	s := newTen(t, appConfig("", "")).secured()
	s.start()
	s.run("spawn", "app:one")
	pem, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var stop atomic.Bool
	var done atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			transport := &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: roots},
				DisableKeepAlives: worker == 0, ForceAttemptHTTP2: worker == 1,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tlsPort)))
				},
			}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport, Timeout: patience}
			for !stop.Load() {
				for _, url := range []string{"https://app.localhost/", "https://localhost/health"} {
					if err := ask(c, url); err != nil {
						t.Errorf("%s: %v", url, err)
						return
					}
					done.Add(1)
				}
			}
		})
	}
	for range 3 {
		enough(t, &done, 100)
		s.run("upgrade")
	}
	enough(t, &done, 100)
	stop.Store(true)
	wg.Wait()
	var status api.TLSStatus
	if _, err := s.local(t.Context(), "GET", "/api/tls/status", &status); err != nil || !status.Enabled {
		t.Errorf("got %+v, %v", status, err)
	}
}

// enough returns once that many more were done.
func enough(t *testing.T, done *atomic.Int64, more int64) {
	t.Helper()
	want, deadline := done.Load()+more, time.Now().Add(patience)
	for done.Load() < want && !t.Failed() {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests were answered, want %d", done.Load(), want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func ask(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %s", resp.StatusCode, &b)
	}
	return nil
}
