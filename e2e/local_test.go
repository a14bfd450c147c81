package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestLocalModule: one terraform apply starts three servers and puts a service on them,
// and goes on where a failed one ended. The cluster hands out the provider for an example
// that is applied on top. Destroy ends the servers that it started and nobody else.
func TestLocalModule(t *testing.T) {
	needTerraform(t)
	for _, tool := range []string{"setsid", "sh"} {
		need(t, tool)
	}
	t.Parallel()
	m := newLocalModule(t)
	m.run("init")
	m.taken()
	m.printed = m.run("apply", "-auto-approve")
	m.printed += m.run("plan", "-detailed-exitcode") // fails if there is a change
	m.read()
	if n := len(processesBelow(m.data)); n < 3 {
		t.Errorf("%d processes of the cluster run", n)
	}
	for _, endpoint := range m.out.Endpoints {
		if body, err := visit(endpoint, "a-0.web.localhost"); err != nil || !strings.HasPrefix(body, "a-0 ") {
			t.Errorf("through %s: %q, %v", endpoint, body, err)
		}
	}
	m.checkPrivate()
	m.example()
	m.stranger()
	m.run("destroy", "-auto-approve")
	if left := processesBelow(m.data); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if _, err := os.Stat(m.data); !os.IsNotExist(err) {
		t.Errorf("the data directory is left: %v", err)
	}
}

// localModule is a configuration that calls modules/local, and its outputs.
type localModule struct {
	*project
	data, source string // where servers keep their data, and the module is
	third        string // where the third server is to be
	out          struct {
		Endpoints, Sockets []string
		TLSEndpoints       []string `json:"tls_endpoints"`
		TokenFile          string   `json:"token_file"`
		CAFile             string   `json:"ca_file"`
		Source             string   `json:"provider_source"`
		Nodes              map[string]struct {
			Address string
			DataDir string `json:"data_dir"`
		}
	}
	token, printed string
}

func newLocalModule(t *testing.T) *localModule {
	t.Helper()
	dir, err := os.MkdirTemp("", "l-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../terraform")
	if err != nil {
		t.Fatal(err)
	}
	m := &localModule{project: newProject(t, "tenement/ten", "", ""), data: filepath.Join(dir, "d"), source: source}
	t.Cleanup(func() {
		for _, pid := range processesBelow(m.data) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // a test that went wrong
		}
		os.RemoveAll(dir)
	})
	m.ten("provider", "install")
	network, port := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)), freePort(t) //nolint:gosec // no secret
	m.third = fmt.Sprintf("%s.3:%d", network, port)
	m.write("cluster.tf", fmt.Sprintf(`
module "local" {
  source      = "%s/modules/local"
  binary      = %q
  data_dir    = %q
  network     = %q
  port        = %d
  tls_port    = %d
  peer_port   = %d
  gossip_port = %d
}
provider "ten" {
  endpoints = module.local.sockets
}
module "web" {
  source  = "%[1]s/modules/fleet"
  name    = "web"
  command = %[9]q
  service = { isolation = "process" }
  fleets  = { a = { replicas = 3 } }
}
output "all" {
  value = module.local
}
`, source, tenBinary, m.data, network, port, freePort(t), freePort(t), freePort(t), appBinary))
	return m
}

// taken applies while somebody else has the port of the third server: that is told.
func (m *localModule) taken() {
	m.t.Helper()
	ln, err := net.Listen("tcp", m.third)
	if err != nil {
		m.t.Fatal(err)
	}
	defer ln.Close()
	out, err := m.try("apply", "-auto-approve")
	if err == nil || !strings.Contains(out, "n3: has ended: ") || !strings.Contains(out, "address already in use") {
		m.t.Errorf("applied with %s taken: %v\n%s", m.third, err, out)
	}
}

// read reads the outputs, and what they lead to.
func (m *localModule) read() {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.run("output", "-json", "all")), &m.out); err != nil {
		m.t.Fatal(err)
	}
	if len(m.out.Endpoints) != 3 || len(m.out.Sockets) != 3 || len(m.out.TLSEndpoints) != 3 || len(m.out.Nodes) != 3 {
		m.t.Fatalf("the outputs are %+v", m.out)
	}
	fi, err := os.Stat(m.out.TokenFile)
	if err != nil || fi.Mode().Perm() != 0o600 {
		m.t.Errorf("the token's file is %v, %v", fi, err)
	}
	text, err := os.ReadFile(m.out.TokenFile)
	if err != nil {
		m.t.Fatal(err)
	}
	m.token = strings.TrimSpace(string(text))
}

// checkPrivate looks for secrets in what Terraform keeps, and for tokens that are left.
func (m *localModule) checkPrivate() {
	m.t.Helper()
	secret, err := os.ReadFile(filepath.Join(m.out.Nodes["n1"].DataDir, ".ten", "secret"))
	if err != nil {
		m.t.Fatal(err)
	}
	state, err := os.ReadFile(filepath.Join(m.dir, "terraform.tfstate"))
	if err != nil || len(state) < 100 {
		m.t.Fatalf("the state has %d bytes: %v", len(state), err)
	}
	shown := m.run("show", "-json")
	for name, text := range map[string]string{"the state": string(state), "what is shown": shown, "what was printed": m.printed} {
		for _, s := range []string{m.token, strings.TrimSpace(string(secret))} {
			if len(s) < 20 || strings.Contains(text, s) {
				m.t.Errorf("%s holds a secret, or %d bytes are none", name, len(s))
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(m.data, "*.token")); err != nil || len(left) > 0 {
		m.t.Errorf("join tokens are left: %v, %v", left, err)
	}
}

// example applies the quick start on the cluster, with the provider that it hands out.
func (m *localModule) example() {
	m.t.Helper()
	p := newProject(m.t, m.out.Source, m.out.CAFile, "")
	if err := os.Rename(filepath.Join(p.dir, "main.tf"), filepath.Join(p.dir, "override.tf")); err != nil {
		m.t.Fatal(err)
	}
	for _, name := range []string{"main.tf", "variables.tf", "outputs.tf"} {
		text, err := os.ReadFile(filepath.Join(m.source, "examples", "quick-start", name))
		if err != nil {
			m.t.Fatal(err)
		}
		p.write(name, string(text))
	}
	p.env = append(p.env, "TEN_ENDPOINTS="+strings.Join(m.out.TLSEndpoints, ","), "TEN_TOKEN="+m.token, "TEN_CA="+m.out.CAFile, "TF_VAR_program="+appBinary)
	p.run("init")
	p.run("apply", "-auto-approve")
	p.run("plan", "-detailed-exitcode")
	for _, endpoint := range m.out.Endpoints {
		for _, id := range []string{"alice", "web-0", "web-1"} {
			if body, err := visit(endpoint, id+".greeter.localhost"); err != nil || !strings.HasPrefix(body, id+" ") {
				m.t.Errorf("%s through %s is %q, %v", id, endpoint, body, err)
			}
		}
	}
	for _, args := range [][]string{{"show", "-json"}, {"output", "-json"}} {
		if out := p.run(args...); strings.Contains(out, m.token) {
			m.t.Errorf("terraform %s tells the token", args[0])
		}
	}
	p.run("destroy", "-auto-approve")
	if body, err := visit(m.out.Endpoints[0], "alice.greeter.localhost"); err == nil {
		m.t.Errorf("alice is there after the destroy: %q", body)
	}
}

// visit requests the root of a host through a server.
func visit(endpoint, host string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, endpoint, nil)
	if err != nil {
		return "", err
	}
	req.Host, req.Close = host, true
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%d %s", resp.StatusCode, &body)
	}
	return body.String(), nil
}

// stranger gives the pid file of a server the number of somebody else: a destroy then
// leaves both alone, the directory too, and says why.
func (m *localModule) stranger() {
	m.t.Helper()
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		m.t.Fatal(err)
	}
	defer func() {
		if err := other.Process.Kill(); err != nil {
			m.t.Errorf("the stranger has ended: %v", err)
		}
		_ = other.Wait() // it was killed
	}()
	dir := m.out.Nodes["n3"].DataDir
	pid, err := os.ReadFile(dir + ".pid")
	if err == nil {
		err = os.WriteFile(dir+".pid", []byte(strconv.Itoa(other.Process.Pid)), 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := m.try("destroy", "-auto-approve")
	if err == nil || !strings.Contains(out, "a process that was not started here serves") {
		m.t.Errorf("destroyed with another's process in the pid file: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, ".ten")); err != nil {
		m.t.Error(err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		m.t.Errorf("the stranger has ended: %v", err)
	}
	if err := os.WriteFile(dir+".pid", pid, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// processesBelow returns who has a path below a directory among its arguments, or in its
// environment: servers, their helpers, and programs.
func processesBelow(dir string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		args, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(proc, "environ"))
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil && (bytes.Contains(args, []byte(dir+"/")) || bytes.Contains(env, []byte(dir+"/"))) {
			pids = append(pids, pid)
		}
	}
	return pids
}
