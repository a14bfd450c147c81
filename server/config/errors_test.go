package config

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Bad input, and the whole message that it gets. FILE is the path of tenement.toml, DIR
// its directory, which holds the files of [load].
var bad = []struct {
	name string
	file string
	want []string
}{
	{"syntax", "[settings]\nport = = 1\n", []string{
		`FILE:2: got unexpected character U+003D '=' at start of value, want a TOML file`,
	}},
	{"unclosed text", "[service.a]\ncommand = \"app\n", []string{
		`FILE:2: got basic strings cannot have new lines, want a TOML file`,
	}},
	{"key twice", "[service.a]\ncommand = \"app\"\ncommand = \"app\"\n", []string{
		`FILE:3: service.a.command: got key command is already defined, want a TOML file`,
	}},
	{"service twice", "[service.a]\ncommand = \"app\"\n[service.a]\ncommand = \"app\"\n", []string{
		`FILE:3: service.a: got table a already exists, want a TOML file`,
	}},
	{"not UTF-8", "[service.a]\ncommand = \"\xff\"\n", []string{
		`FILE:2: got invalid UTF-8 character in basic string, want a TOML file`,
	}},
	{"unknown table", "[setings]\nport = 1\n", []string{
		`FILE:1: setings: got an unknown key (did you mean "settings"?), want one of cluster, instances, routing, service, settings`,
	}},
	{"unknown keys", `
[settings]
port = 1
prot = 2
zzz = 3
[settings.tls]
acme_mail = "x"
[service.a]
comand = "app"
command = "app"
[routing]
defualt = "a"
`, []string{
		`FILE:4: settings.prot: got an unknown key (did you mean "port"?), want one of SETTINGS`,
		`FILE:5: settings.zzz: got an unknown key, want one of SETTINGS`,
		`FILE:7: settings.tls.acme_mail: got an unknown key (did you mean "acme_email"?), want one of acme_email, domain, enabled, staging`,
		`FILE:9: service.a.comand: got an unknown key (did you mean "command"?), want one of SERVICE`,
		`FILE:12: routing.defualt: got an unknown key (did you mean "default"?), want one of default, path, subdomain`,
	}},
	{"TLS port", `
[settings]
port = 9000
tls_port = 9000
tls_names = ["ok.test", "a b", "https://x", "1.node.tenement"]
`, []string{
		`FILE:4: settings.tls_port: got 9000, want a port that is neither port, peer_port nor gossip_port`,
		`FILE:5: settings.tls_names: got "a b", want host names such as "ten.example.com", addresses, or "*." before a name`,
		`FILE:5: settings.tls_names: got "https://x", want host names such as "ten.example.com", addresses, or "*." before a name`,
		`FILE:5: settings.tls_names: got "1.node.tenement", want host names such as "ten.example.com", addresses, or "*." before a name`,
	}},
	{"cluster", `
[cluster]
join = ["10.0.0.1:0", "a b"]
secret_file = "a"
token_file = "b"
node_name = "Node 1"
peer_port = 8080
gossip_port = "x"
labels = ["a"]
advertise = "10.0.0.1 "
[service.a]
command = "app"
on_disconnect = "panic"
[service.a.placement]
strategy = "tight"
spread_by = "rack"
constraints = ["rack = 7"]
affinities = { "zone = a" = 101 }
anti_affinity = ["A"]
`, []string{
		`FILE:3: cluster.join: got "10.0.0.1:0", want ADDRESS or ADDRESS:PEER_PORT, such as 10.0.0.1 or node1.example.com:7947`,
		`FILE:3: cluster.join: got "a b", want ADDRESS or ADDRESS:PEER_PORT, such as 10.0.0.1 or node1.example.com:7947`,
		`FILE:5: cluster.token_file: got "DIR/b", want either secret_file or token_file (a join token brings the secret with it)`,
		`FILE:6: cluster.node_name: got "Node 1", want 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
		`FILE:7: cluster.peer_port: got 8080, want a port that is neither port nor gossip_port`,
		`FILE:8: cluster.gossip_port: got "x", want a whole number from 0 to 65535`,
		`FILE:9: cluster.labels: got a list, want a table of texts in quotes`,
		`FILE:10: cluster.advertise: got "10.0.0.1 ", want an address or host name, without a port`,
		`FILE:13: service.a.on_disconnect: got "panic", want one of "replace", "keep", "stop"`,
		`FILE:15: service.a.placement.strategy: got "tight", want one of "spread", "binpack"`,
		`FILE:16: service.a.placement.spread_by: got "rack", want one of "node", "zone", "region"`,
		`FILE:17: service.a.placement.constraints: got "rack = 7", want a condition such as "zone = eu-1|eu-2", "provider != acme", "label.gpu" or "!label.old"`,
		`FILE:18: service.a.placement.affinities: got a table, want a table such as { "zone = eu-1" = 50, "label.slow" = -100 }`,
		`FILE:19: service.a.placement.anti_affinity: got "A", want 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
	}},
	{"wrong types", `
settings.port = "80"
settings.data_dir = 5
settings.tls = true
service.a.command = ["app"]
service.a.args = ["x", 1,
  true]
service.a.health = false
service.a.storage_persist = "yes"
service.a.env = { A = "1", B = 2,
  "c d" = ["x"] }
service.b = "app"
service.c.command = "app"
service.c.args = "x y"
service.c.env = "A=1"
service.c.idle_timeout = 1979-05-27
service.c.restart = {}
instances.c = "x"
`, []string{
		`FILE:2: settings.port: got "80", want a whole number from 0 to 65535`,
		`FILE:3: settings.data_dir: got 5, want text in quotes`,
		`FILE:4: settings.tls: got true, want a table`,
		`FILE:5: service.a.command: got a list, want a program and its arguments, quotes balanced`,
		`FILE:6: service.a.args[1]: got 1, want text in quotes`,
		`FILE:7: service.a.args[2]: got true, want text in quotes`,
		`FILE:8: service.a.health: got false, want text in quotes`,
		`FILE:9: service.a.storage_persist: got "yes", want true or false`,
		`FILE:10: service.a.env.B: got a number, want text in quotes`,
		`FILE:11: service.a.env."c d": got a list, want text in quotes`,
		`FILE:12: service.b: got "app", want a table (write [service.NAME])`,
		`FILE:14: service.c.args: got "x y", want a list of texts in quotes`,
		`FILE:15: service.c.env: got a text, want a table of texts in quotes`,
		`FILE:16: service.c.idle_timeout: got the date or time 1979-05-27, want a number of seconds or text such as "90s" or "5m", 0s or more`,
		`FILE:17: service.c.restart: got a table, want one of "always", "on-failure", "never"`,
		`FILE:18: instances.c: got "x", want a list of ids in quotes`,
	}},
	{"tables of a wrong kind", "settings = 1\nservice = []\ninstances = true\nrouting = \"a\"\n", []string{
		`FILE:1: settings: got 1, want a table`,
		`FILE:2: service: got a list, want a table`,
		`FILE:3: instances: got true, want a table`,
		`FILE:4: routing: got "a", want a table`,
	}},
	{"array of tables", "[[service]]\nname = \"a\"\n", []string{
		`FILE:1: service: got a list, want a table`,
	}},
	{"bad names", `
[service."Big Name"]
command = "app"
[service.api_token]
command = "app"
[service.a]
command = "app"
[instances]
a = ["ok", "-x", "UP", 7, "ok", ""]
`, []string{
		`FILE:2: service."Big Name": got "Big Name", want 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
		`FILE:4: service.api_token: got "api_token", want a name that ten does not use itself in its data directory`,
		`FILE:9: instances.a[1]: got "-x", want an id in quotes: 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
		`FILE:9: instances.a[2]: got "UP", want an id in quotes: 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
		`FILE:9: instances.a[3]: got 7, want an id in quotes: 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
		`FILE:9: instances.a[4]: got "ok" a second time, want each id once`,
		`FILE:9: instances.a[5]: got "", want an id in quotes: 1 to 63 of a-z 0-9 _ -, the first a letter or digit`,
	}},
	{"commands", `
[service.a]
health = "x"
[service.b]
command = ""
[service.c]
command = "app 'open"
[service.d]
command = "missing --flag"
[service.e]
command = "./missing"
[service.f]
command = "sub/"
[service.g]
command = "./plain"
[service.h]
command = "app"
workdir = "nowhere"
[service.i]
command = "app"
workdir = "plain"
[service.j]
command = "plain"
[service.k]
command = "plain/x"
[service.l]
command = "app\u0000"
`, []string{
		`FILE:2: service.a: got no command, want a program and its arguments`,
		`FILE:3: service.a.health: got "x", want an HTTP path that starts with /`,
		`FILE:5: service.b.command: got "", want a program and its arguments, quotes balanced`,
		`FILE:7: service.c.command: got "app 'open", want a program and its arguments, quotes balanced`,
		`FILE:9: service.d.command: got "missing", which is neither in PATH nor in DIR, want a program in PATH, or the path of one`,
		`FILE:11: service.e.command: got "DIR/missing", which does not exist, want a program in PATH, or the path of one`,
		`FILE:13: service.f.command: got "DIR/sub", which is a directory, want a program in PATH, or the path of one`,
		`FILE:15: service.g.command: got "DIR/plain", which is not executable, want a program in PATH, or the path of one (chmod +x DIR/plain)`,
		`FILE:18: service.h.workdir: got "DIR/nowhere", which does not exist, want a directory`,
		`FILE:21: service.i.workdir: got "DIR/plain", which is a file, want a directory`,
		`FILE:23: service.j.command: got "plain", which is neither in PATH nor in DIR, want a program in PATH, or the path of one`,
		`FILE:25: service.k.command: got "DIR/plain/x", which can't be read: not a directory, want a program in PATH, or the path of one`,
		`FILE:27: service.l.command: got "app\x00", want text without NUL bytes`,
	}},
	{"values", `
[service.a]
command = "app"
health = "health"
isolation = "docker"
restart = ""
idle_timeout = -1
startup_timeout = 0
request_timeout = "5 minutes"
stop_timeout = 1e300
restart_window = nan
backoff_base_ms = 5000
backoff_max_ms = 4000
max_restarts = -1
memory_limit_mb = -1
cpu_shares = 20000
storage_quota_mb = 99999999999999
vcpus = 1.5
vsock_port = 70000
max_instances = 0
health_interval = 0.01
env = { "A=B" = "x" }
secret_env = ["KEY"]
`, []string{
		`FILE:4: service.a.health: got "health", want an HTTP path that starts with /`,
		`FILE:5: service.a.isolation: got "docker", want one of "process", "namespace", "sandbox", "wasm", "firecracker", "qemu"`,
		`FILE:6: service.a.restart: got "", want one of "always", "on-failure", "never"`,
		`FILE:7: service.a.idle_timeout: got -1, want a number of seconds or text such as "90s" or "5m", 0s or more`,
		`FILE:8: service.a.startup_timeout: got 0, want a number of seconds or text such as "90s" or "5m", 1ms or more`,
		`FILE:9: service.a.request_timeout: got "5 minutes", want a number of seconds or text such as "90s" or "5m", 1ms or more`,
		`FILE:10: service.a.stop_timeout: got 1e+300, want a number of seconds or text such as "90s" or "5m", 1ms or more`,
		`FILE:11: service.a.restart_window: got NaN, want a number of seconds or text such as "90s" or "5m", 1ms or more`,
		`FILE:13: service.a.backoff_max_ms: got "4s", want a duration from 5s to 8760h`,
		`FILE:14: service.a.max_restarts: got -1, want a whole number from 0 to 1000`,
		`FILE:15: service.a.memory_limit_mb: got -1, want a number of MiB, 0 or more`,
		`FILE:16: service.a.cpu_shares: got 20000, want a whole number from 0 to 10000`,
		`FILE:17: service.a.storage_quota_mb: got 99999999999999, want a number of MiB, 0 or more`,
		`FILE:18: service.a.vcpus: got 1.5, want a whole number from 0 to 256`,
		`FILE:19: service.a.vsock_port: got 70000, want a whole number from 0 to 65535`,
		`FILE:20: service.a.max_instances: got 0, want a whole number from 1 to 1000000`,
		`FILE:21: service.a.health_interval: got "10ms", want a duration from 100ms to 8760h`,
		`FILE:22: service.a.env: got "A=B", want names without = or NUL`,
		`FILE:23: service.a.secret_env: got "KEY", want names that are in env`,
	}},
	{"settings", `
[settings]
port = 65536
domain = "exa mple.com"
max_concurrent_starts = -1
log_max_age = "soon"
log_max_size = "5 lightyears"
health_check_interval = 0.01
backoff_max_ms = 10
max_restarts = 1001
[settings.tls]
enabled = true
[service.a]
command = "app"
`, []string{
		`FILE:3: settings.port: got 65536, want a whole number from 0 to 65535`,
		`FILE:4: settings.domain: got "exa mple.com", want a host name such as "example.com"`,
		`FILE:5: settings.max_concurrent_starts: got -1, want a whole number from 0 to 10000`,
		`FILE:6: settings.log_max_age: got "soon", want a number of seconds or text such as "90s" or "5m", 1s or more`,
		`FILE:7: settings.log_max_size: got "5 lightyears", want text such as "512MiB" or "2GiB", or a number of bytes, 1MiB or more`,
		`FILE:8: settings.health_check_interval: got "10ms", want a duration from 100ms to 8760h`,
		`FILE:9: settings.backoff_max_ms: got "10ms", want a duration from 1s to 8760h`,
		`FILE:10: settings.max_restarts: got 1001, want a whole number from 0 to 1000`,
		`FILE:12: settings.tls.enabled: got true, want false: this build of ten has no TLS of its own yet (let a proxy such as Caddy hold the certificates in front of it)`,
	}},
	{"references", `
[service.web]
command = "app"
max_instances = 2
[instances]
web = ["a", "b", "c"]
wbe = ["a"]
[routing]
default = "wep"
subdomain = { www = "nobody", "a b" = "web", x = 5 }
[routing.path]
docs = "web"
"/docs/" = "web"
"/api/v1" = "web"
"a?b" = "web"
"" = "web"
`, []string{
		`FILE:6: instances.web: got 3 ids, want at most 2, the service's max_instances`,
		`FILE:7: instances.wbe: got "wbe" (did you mean "web"?), want the name of a service`,
		`FILE:9: routing.default: got "wep" (did you mean "web"?), want the name of a service`,
		`FILE:10: routing.subdomain.x: got 5, want text in quotes`,
		`FILE:13: routing.path."/docs/": got "/docs/", want each path once ("docs" is the same)`,
		`FILE:14: routing.path."/api/v1": got "/api/v1", want a path without * ? #, other than those ten serves itself: / /api /metrics /health /terraform`,
		`FILE:15: routing.path."a?b": got "a?b", want a path without * ? #, other than those ten serves itself: / /api /metrics /health /terraform`,
		`FILE:16: routing.path."": got "", want a path without * ? #, other than those ten serves itself: / /api /metrics /health /terraform`,
	}},
	{"subdomains", `
[service.web]
command = "app"
[routing.subdomain]
www = "nobody"
"a b" = "web"
`, []string{
		`FILE:5: routing.subdomain.www: got "nobody", want the name of a service`,
		`FILE:6: routing.subdomain."a b": got "a b", want one or more DNS labels`,
	}},
	{"sockets", `
[service.a]
command = "app"
socket = "/run/shared.sock"
[service.b]
command = "app"
socket = "/run/x/../shared.sock"
[service.c]
command = "app"
socket = "/run/{name}.sock"
[service.d]
command = "app"
socket = "{data_dir}/s"
[service.e]
command = "app"
socket = "s"
[instances]
c = ["x", "y"]
d = ["x", "y"]
e = ["x", "y"]
`, []string{
		`FILE:7: service.b.socket: got "/run/x/../shared.sock", want a socket of its own (service.a has the same)`,
		`FILE:10: service.c.socket: got "/run/{name}.sock" for 2 instances, want a socket for each instance (put {id} into it)`,
	}},
	{"CRLF and inline", "[service.a]\r\ncommand = \"app\"\r\n\r\nidle = 5\r\n", []string{
		`FILE:4: service.a.idle: got an unknown key, want one of SERVICE`,
	}},
}

func TestBadFiles(t *testing.T) {
	for _, tc := range bad {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, map[string]string{fileName: tc.file, "bin/app*": "", "plain": "", "sub/run*": ""})
			_, err := Load(options(dir))
			if err == nil {
				t.Fatal("accepted")
			}
			list := func(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), ", ") }
			got := strings.NewReplacer(
				filepath.Join(dir, fileName), "FILE", dir, "DIR",
				list(firstParts("", names(serviceKeys))), "SERVICE", list(firstParts("", names(settingKeys))), "SETTINGS",
			).Replace(err.Error())
			if want := strings.Join(tc.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestBadVariablesAndFlags(t *testing.T) {
	port := 70000
	dir := write(t, map[string]string{fileName: "[settings]\nport = \"x\"\ndomain = \"a b\"\n"})
	o := options(dir, "TENEMENT_PORT=many", "TENEMENT_TLS_ENABLED=maybe", "TENEMENT_BACKOFF_MAX_MS=1")
	o.Flags = Flags{Port: &port, TLS: true, Domain: "flag.test"}
	_, err := Load(o)
	got := strings.ReplaceAll(err.Error(), dir, "DIR")
	want := strings.Join([]string{
		`DIR/tenement.toml:2: settings.port: got "x", want a whole number from 0 to 65535`,
		`--port: got "70000", want a whole number from 0 to 65535`,
		`--tls: got true, want false: this build of ten has no TLS of its own yet (let a proxy such as Caddy hold the certificates in front of it)`,
		`TENEMENT_BACKOFF_MAX_MS: got "1ms", want a duration from 1s to 8760h`,
		`TENEMENT_PORT: got "many", want a whole number from 0 to 65535`,
		`TENEMENT_TLS_ENABLED: got "maybe", want true or false`,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnreadable(t *testing.T) {
	dir := write(t, map[string]string{"tenement.toml/x": ""})
	_, err := Load(options(dir))
	if err == nil || !strings.Contains(err.Error(), "is a directory, want a file that can be read") {
		t.Errorf("got %v", err)
	}
}

func TestProblemJSON(t *testing.T) {
	err := Problems{{File: "t.toml", Line: 3, Key: "settings.prot", Got: "an unknown key", Want: "one of …", Hint: "did you mean \"port\"?", setting: "x"}}
	b, _ := json.Marshal(err)
	const want = `[{"file":"t.toml","line":3,"key":"settings.prot","got":"an unknown key","want":"one of …","hint":"did you mean \"port\"?"}]`
	if string(b) != want {
		t.Errorf("got %s", b)
	}
	var p *Problem
	if !errors.As(err, &p) || p.Line != 3 {
		t.Errorf("errors.As finds %+v", p)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"prot", "port", 1}, {"comand", "command", 1}, {"kitten", "sitting", 3}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// Whatever the bytes: no panic, and what loads can be rendered and loads again.
func FuzzLoad(f *testing.F) {
	for _, tc := range bad {
		f.Add([]byte(tc.file))
	}
	f.Add([]byte(full))
	f.Add(Sample("x", "app"))
	dir := write(f, map[string]string{"bin/app*": "", "sub/x": ""})
	file := filepath.Join(dir, "t.toml")
	f.Fuzz(func(t *testing.T, b []byte) {
		load := func(b []byte) (*Config, error) {
			l := newLoader(options(dir))
			l.parse(file, b)
			return l.load()
		}
		c, err := load(b)
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("got %T %v, want problems", err, err)
			}
			for _, p := range ps {
				if p.Got == "" || p.Want == "" || p.Line < 0 || p.Line > strings.Count(string(b), "\n")+1 {
					t.Errorf("a problem says too little: %+v", p)
				}
			}
			return
		}
		text := c.Render()
		again, err := load(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got := again.Render(); string(got) != string(text) {
			t.Errorf("rendered\n%s\nthen\n%s", text, got)
		}
	})
}
