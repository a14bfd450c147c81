package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write puts files into a new directory: name → text. A name that ends in "*" is executable.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		mode := os.FileMode(0o600)
		name, exec := strings.CutSuffix(name, "*")
		if exec {
			mode = 0o700
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// options are those of a test in dir: nothing of this machine but PATH and a program "app" in it.
func options(dir string, env ...string) Options {
	return Options{Dir: dir, Env: append([]string{"PATH=" + filepath.Join(dir, "bin"), "HOME=" + filepath.Join(dir, "home")}, env...)}
}

func load(t *testing.T, text string, env ...string) (*Config, string) {
	t.Helper()
	dir := write(t, map[string]string{fileName: text, "bin/app*": "", "beside*": "", "plain": "", "sub/run*": "", "home/x": ""})
	c, err := Load(options(dir, env...))
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

// full has every key of tenement.toml, none at its default.
const full = `
[settings]
data_dir = "state"
bind = "127.0.0.1"
port = 9090
tls_port = 9443
tls_names = ["Ten.example.com", "*.ten.example.com", "10.0.0.9"]
domain = "example.com"
health_check_interval = 7
max_restarts = 4
restart_window = "2m"
backoff_base_ms = 250
backoff_max_ms = 4000.5
max_concurrent_starts = 12
log_max_age = "36h"
log_max_size = "512MiB"
[settings.tls]
enabled = false
acme_email = "ops@example.com"
domain = "example.com"
staging = true
[cluster]
join = ["10.0.0.1", "node2.example.com:7000", "::1"]
secret_file = "secret"
token_file = ""
bootstrap_expect = 3
node_name = "one"
peer_port = 7001
gossip_port = 7002
advertise = "10.0.0.9"
region = "eu"
zone = "eu-1"
provider = "acme"
labels = { disk = "nvme" }
memory_overcommit = 2
cpu_overcommit = 3

[service.web]
command = "app"
args = ["serve", "--port", "{port}"]
workdir = "sub"
env = { GREETING = "hello \"{id}\"", "odd.name" = "\u0001" }
secret_env = ["GREETING"]
socket = "/run/{name}-{id}.sock"
health = "/health"
health_interval = 3
isolation = "process"
idle_timeout = 60
startup_timeout = 5.5
request_timeout = "1m30s"
stop_timeout = 2
restart = "on-failure"
max_restarts = 0
restart_window = 30
backoff_base_ms = 10
backoff_max_ms = 100
memory_limit_mb = 64
cpu_shares = 200
storage_quota_mb = 0.5
storage_persist = false
kernel = "vmlinux"
rootfs = "root.img"
memory_mb = 128
vcpus = 2
vsock_port = 5000
on_disconnect = "stop"
spawn_on_request = false
max_instances = 9
[service.web.placement]
strategy = "binpack"
spread_by = "zone"
constraints = ["zone=eu-1 | eu-2", "!label.old"]
affinities = { "label.gpu" = 50, "provider = acme" = -20 }
anti_affinity = ["web"]

[instances]
web = ["alice", "bob"]

[routing]
default = "web"
[routing.subdomain]
www = "web"
[routing.path]
"/docs/*" = "web"
`

func TestFull(t *testing.T) {
	c, dir := load(t, full)
	persist := false
	want := &Config{
		File: filepath.Join(dir, fileName), DataDir: filepath.Join(dir, "state"),
		Bind: "127.0.0.1", Port: 9090, TLSPort: 9443, TLSNames: []string{"ten.example.com", "*.ten.example.com", "10.0.0.9"}, Domain: "example.com",
		TLS: TLS{ACMEEmail: "ops@example.com", Domain: "example.com", Staging: true},
		Cluster: Cluster{
			Join:       []string{"10.0.0.1:7947", "node2.example.com:7000", "[::1]:7947"},
			SecretFile: filepath.Join(dir, "secret"), BootstrapExpect: 3, NodeName: "one", PeerPort: 7001, GossipPort: 7002,
			Advertise: "10.0.0.9", Region: "eu", Zone: "eu-1", Provider: "acme", Labels: map[string]string{"disk": "nvme"},
			MemoryOvercommit: 2, CPUOvercommit: 3,
		},
		MaxConcurrentStarts: 12, LogMaxAge: api.Seconds(36 * 3600), LogMaxSize: 512 * api.MiB,
		Defaults: Defaults{
			HealthInterval: api.Seconds(7), MaxRestarts: 4, RestartWindow: api.Seconds(120),
			BackoffBase: 250e6, BackoffMax: 4000.5e6,
		},
		Services: []*api.Service{{
			Name: "web", Command: "app", Args: []string{"serve", "--port", "{port}"}, Workdir: filepath.Join(dir, "sub"),
			Env: map[string]string{"GREETING": `hello "{id}"`, "odd.name": "\x01"}, SecretEnv: []string{"GREETING"},
			Socket: "/run/{name}-{id}.sock", Health: "/health", HealthInterval: api.Seconds(3),
			Isolation: api.IsolationProcess, IdleTimeout: api.Seconds(60), StartupTimeout: 5.5e9,
			RequestTimeout: api.Seconds(90), StopTimeout: api.Seconds(2), Restart: api.RestartOnFailure,
			MaxRestarts: -1, RestartWindow: api.Seconds(30), BackoffBase: 10e6, BackoffMax: 100e6,
			MemoryLimit: 64 * api.MiB, CPUShares: 200, StorageQuota: 512 * api.KiB, StoragePersist: &persist,
			Kernel: "vmlinux", Rootfs: "root.img", Memory: 128 * api.MiB, VCPUs: 2, VsockPort: 5000,
			Placement: &api.PlacementRules{
				Strategy: api.StrategyBinpack, SpreadBy: api.SpreadByZone,
				Constraints:  []api.Constraint{"zone = eu-1|eu-2", "!label.old"},
				Affinities:   []api.Affinity{{Match: "label.gpu", Weight: 50}, {Match: "provider = acme", Weight: -20}},
				AntiAffinity: []string{"web"},
			},
			OnDisconnect: api.DisconnectStop,
			MaxInstances: 9, Source: api.SourceFile,
		}},
		Instances: []api.Ref{{Service: "web", ID: "alice"}, {Service: "web", ID: "bob"}},
		Routing: Routing{
			Default: "web", Subdomain: map[string]string{"www": "web"}, Path: map[string]string{"/docs/*": "web"},
		},
		Warnings: []string{
			"service.web.memory_limit_mb is not enforced by this version",
			"service.web.cpu_shares is not enforced by this version",
			"service.web.storage_quota_mb is reported, but not enforced, by this version",
			"settings.tls.acme_email has no effect while settings.tls.enabled is false",
			"settings.tls.domain has no effect while settings.tls.enabled is false",
			"settings.tls.staging has no effect while settings.tls.enabled is false",
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v\ngot service  %+v\nwant service %+v", c, want, c.Services[0], want.Services[0])
	}
}

// A key that joins api.Service or Config must join tenement.toml, and the full file
// above: nothing may be left at its zero value by that.
func TestEveryFieldHasAKey(t *testing.T) {
	c, _ := load(t, full)
	notWritten := []string{"Name", "Source", "SourceNode", "Revision", "CreatedAt", "UpdatedAt", "SpawnOnRequest"}
	s := reflect.ValueOf(*c.Services[0])
	for i := range s.NumField() {
		f := s.Type().Field(i)
		if slices.Contains(notWritten, f.Name) {
			continue
		}
		if s.Field(i).IsZero() {
			t.Errorf("api.Service.%s has no key in tenement.toml, or is not in this test's file", f.Name)
		}
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !slices.ContainsFunc(serviceKeys, func(k key[api.Service]) bool { return k.field == tag || strings.HasPrefix(k.field, tag+".") }) {
			t.Errorf("no service key names the field %q", tag)
		}
	}
	var zero func(path string, v reflect.Value)
	zero = func(path string, v reflect.Value) {
		for i := range v.NumField() {
			name := path + v.Type().Field(i).Name
			if v.Field(i).Kind() == reflect.Struct {
				zero(name+".", v.Field(i))
			} else if v.Field(i).IsZero() && name != "TLS.Enabled" && name != "Cluster.TokenFile" {
				t.Errorf("Config.%s has no key in tenement.toml, or is not in this test's file", name)
			}
		}
	}
	zero("", reflect.ValueOf(*c))
	for table, k := range ownKeys {
		last := k.name[strings.LastIndexByte(k.name, '.')+1:]
		if !strings.Contains(full, "\n"+last+" = ") {
			t.Errorf("the full file lacks %s.%s", table, k.name)
		}
	}
	for _, k := range names(serviceKeys) {
		if !strings.Contains(full, "\n"+strings.TrimPrefix(k, "placement.")+" = ") {
			t.Errorf("the full file lacks service.NAME.%s", k)
		}
	}
}

func TestRenderRoundTrip(t *testing.T) {
	for name, text := range map[string]string{
		"empty":   "",
		"full":    full,
		"minimal": "[service.a]\ncommand = \"app 'one word' --port={port}\"\n[instances]\na = [\"x\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := load(t, text)
			again := filepath.Join(dir, "again", fileName)
			if err := os.Mkdir(filepath.Dir(again), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(again, c.Render(), 0o600); err != nil {
				t.Fatal(err)
			}
			o := options(dir)
			o.File = again
			got, err := Load(o)
			if err != nil {
				t.Fatalf("%v\n%s", err, c.Render())
			}
			// Where the files lie, and what only a person wrote, may differ.
			got.File, got.Warnings, c.Warnings = c.File, nil, nil
			if !reflect.DeepEqual(got, c) {
				t.Errorf("got  %+v\nwant %+v\n%s", got, c, c.Render())
			}
			if !bytes.Equal(got.Render(), c.Render()) {
				t.Error("rendering again differs")
			}
		})
	}
}

// What is shown has the names of secret variables, and can't be taken for the file.
func TestRedacted(t *testing.T) {
	c, dir := load(t, "[service.a]\ncommand = \"app\"\nenv = { PLAIN = \"1\", KEY = \"sesame\" }\nsecret_env = [\"KEY\"]\n[service.b]\ncommand = \"app\"\n")
	shown := c.Redacted()
	asJSON, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(shown.Render()), string(asJSON)} {
		if strings.Contains(text, "sesame") || !strings.Contains(text, "PLAIN") || !strings.Contains(text, "KEY") {
			t.Errorf("it is shown as\n%s", text)
		}
	}
	if c.Services[0].Env["KEY"] != "sesame" {
		t.Error("the configuration itself has lost its value")
	}
	again := filepath.Join(dir, "shown.toml")
	if err := os.WriteFile(again, shown.Render(), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.File = again
	if _, err := Load(o); err == nil || !strings.Contains(err.Error(), `service.a.secret_env: got "KEY", want names that are in env`) {
		t.Errorf("loaded again: %v", err)
	}
}

func TestWhereTheFileIs(t *testing.T) {
	dir := write(t, map[string]string{
		"flag.toml": "[settings]\nport = 1\n", "env.toml": "[settings]\nport = 2\n",
		"work/tenement.toml":                  "[settings]\nport = 3\n",
		"home/.config/tenement/tenement.toml": "[settings]\nport = 4\n",
		"xdg/tenement/tenement.toml":          "[settings]\nport = 5\n",
	})
	for _, tc := range []struct {
		flag, work string
		env        []string
		want       int
	}{
		{filepath.Join(dir, "flag.toml"), "work", []string{"TENEMENT_CONFIG=" + filepath.Join(dir, "env.toml")}, 1},
		{"", "work", []string{"TENEMENT_CONFIG=../env.toml"}, 2},
		{"", "work", nil, 3},
		{"", "home", nil, 4},
		{"", "home", []string{"XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg")}, 5},
	} {
		o := options(dir, tc.env...)
		o.File, o.Dir = tc.flag, filepath.Join(dir, tc.work)
		if c, err := Load(o); err != nil || c.Port != tc.want {
			t.Errorf("%+v: got %+v, %v", tc, c, err)
		}
	}
	o := options(dir)
	if c, err := Load(o); err != nil || c.File != filepath.Join(dir, "home/.config/tenement/tenement.toml") {
		t.Errorf("got %+v, %v", c, err)
	}
	o.File = "missing.toml"
	var p *Problem
	if _, err := Load(o); !errors.As(err, &p) || !strings.Contains(p.Got, "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestCommands(t *testing.T) {
	for _, tc := range []struct{ service, command, args string }{
		{`command = "app 'a b' {port}"`, "app", "a b|{port}"},
		{`command = "sub/run x"`, "DIR/sub/run", "x"},
		{`command = "./sub/run"`, "DIR/sub/run", ""},
		{`command = "beside --flag"`, "DIR/beside", "--flag"},
		{`command = "DIR/sub/run"`, "DIR/sub/run", ""},
		{`command = "app", args = []`, "app", ""},
		{`command = "sub/{name}"`, "DIR/sub/{name}", ""},
		{`command = "{data_dir}/bin/x"`, "{data_dir}/bin/x", ""},
		{`command = "plain", isolation = "wasm"`, "DIR/plain", ""},
		{`command = "/init", isolation = "firecracker"`, "/init", ""},
		{`command = "run", env = { PATH = "DIR/sub" }`, "run", ""},
	} {
		t.Run(tc.service, func(t *testing.T) {
			dir := write(t, map[string]string{"bin/app*": "", "beside*": "", "plain": "", "sub/run*": ""})
			file := filepath.Join(dir, fileName)
			text := "service.a = { " + strings.ReplaceAll(tc.service, "DIR", dir) + " }\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Load(options(dir))
			if err != nil {
				t.Fatal(err)
			}
			s := c.Services[0]
			if got := strings.ReplaceAll(s.Command, dir, "DIR"); got != tc.command || strings.Join(s.Args, "|") != tc.args {
				t.Errorf("got %q %q, want %q %q", got, s.Args, tc.command, tc.args)
			}
			if s.Isolation != api.IsolationFirecracker && s.Workdir != dir {
				t.Errorf("workdir %q, want the file's directory", s.Workdir)
			}
		})
	}
}

// A service has the settings' defaults and those of services from a file.
func TestServiceDefaults(t *testing.T) {
	c, dir := load(t, "[settings]\nmax_restarts = 0\nhealth_check_interval = 5\n[service.a]\ncommand = \"app\"\n")
	want := &api.Service{
		Name: "a", Command: "app", Args: []string{}, Workdir: dir, Source: api.SourceFile,
		SpawnOnRequest: true, MaxRestarts: -1, HealthInterval: api.Seconds(5),
	}
	want.SetDefaults()
	if got := c.Services[0]; !got.Equal(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWarnings(t *testing.T) {
	c, _ := load(t, "", "TENEMENT_PROT=1", "TENEMENT_SERVER=x", "TENEMENT_TOKEN=y", "TENEMENT_ZEBRA=1")
	want := []string{
		`the variable TENEMENT_PROT means nothing to ten (did you mean "PORT"?)`,
		`the variable TENEMENT_ZEBRA means nothing to ten`,
	}
	if !slices.Equal(c.Warnings, want) {
		t.Errorf("got %q, want %q", c.Warnings, want)
	}
}

// BenchmarkManyInstances loads a file that declares 100,000 instances.
func BenchmarkManyInstances(b *testing.B) {
	var text strings.Builder
	text.WriteString("[service.a]\ncommand = \"app\"\nmax_instances = 1000000\n[instances]\na = [\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "  \"tenant-%d\",\n", i)
	}
	text.WriteString("]\n")
	dir := write(b, map[string]string{"bin/app*": ""})
	b.ReportAllocs()
	for b.Loop() {
		l := newLoader(options(dir))
		l.parse(filepath.Join(dir, fileName), []byte(text.String()))
		if c, err := l.load(); err != nil || len(c.Instances) != 100_000 {
			b.Fatal(err)
		}
	}
}
