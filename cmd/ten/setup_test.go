package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestServePassesItsFlags(t *testing.T) {
	w := newWorld(t)
	var got serveOptions
	w.hooks.Serve = func(_ context.Context, o serveOptions, _ func(serving)) error { got = o; return nil }
	if _, stderr, code := w.run(t.Context(), "serve"); code != 0 || !reflect.DeepEqual(got, serveOptions{Version: version}) {
		t.Fatalf("exit %d, %+v: %s", code, got, stderr)
	}
	_, stderr, code := w.run(t.Context(), "serve", "--port", "0", "--domain", "d", "--bind", "::1", "--tls", "--email", "e", "--staging",
		"--config", "c.toml", "--data-dir", "x", "--join", "a:1,b", "--join", "c", "--secret-file", "s", "--token-file", "t",
		"--bootstrap-expect", "3", "--node-name", "n", "--peer-port", "0", "--gossip-port", "2", "--advertise", "h")
	want := serveOptions{
		Config: "c.toml", DataDir: "x", Domain: "d", Bind: "::1", Port: number(0), TLS: true, Email: "e", Staging: true, Version: version,
		Join: []string{"a:1", "b", "c"}, SecretFile: "s", TokenFile: "t", BootstrapExpect: number(3), NodeName: "n",
		PeerPort: number(0), GossipPort: number(2), Advertise: "h",
	}
	if code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("exit %d, got %+v, want %+v: %s", code, got, want, stderr)
	}
	w.hooks.Serve = func(context.Context, serveOptions, func(serving)) error {
		return api.FieldErrors{{Field: "tenement.toml:3: service.a.health", Got: "x", Want: "a path"}}
	}
	if _, stderr, code := w.run(t.Context(), "serve"); code != exitUsage || !strings.Contains(stderr, `tenement.toml:3: service.a.health: got "x", want a path`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestWithoutHooks(t *testing.T) {
	w := newWorld(t)
	w.hooks = hooks{}
	for _, args := range [][]string{{"serve"}, {"config"}, {"init"}} {
		if _, stderr, code := w.run(t.Context(), args...); code != exitError || !strings.Contains(stderr, "needs Linux") {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "tenement.toml")
	if _, stderr, code := w.run(t.Context(), "init", "--config", path, "--name", "notes", "--command", "x"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	before, err := os.ReadFile(path)
	if err != nil || string(before) != "[service.notes]\ncommand = \"x\"\n" {
		t.Fatalf("wrote %q, %v", before, err)
	}
	if _, _, code := w.run(t.Context(), "init", "--config", path, "--name", "other"); code != exitError {
		t.Errorf("exit %d, want 1", code)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("overwritten")
	}
}

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	stdout, stderr, code := w.run(t.Context(), "doctor", "--json", "--port", "0")
	var list []api.Capability
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) == 0 {
		t.Fatalf("exit %d, printed %q %s", code, stdout, stderr)
	}
	fails := false
	for _, c := range list {
		fails = fails || c.Required && !c.OK
		if !c.OK && c.Fix == "" && c.Detail == "" {
			t.Errorf("%s is lacking for no reason", c.Name)
		}
	}
	if (code != 0) != fails {
		t.Errorf("exit %d with %+v", code, list)
	}

	w.hooks.Capabilities = func(context.Context) []api.Capability {
		return []api.Capability{
			lacking("sandbox isolation", "install runsc", "no runsc in PATH"),
			needed(lacking("luck", "try again", "none")),
		}
	}
	stdout, _, code = w.run(t.Context(), "doctor", "--port", "0")
	if code != exitError {
		t.Errorf("exit %d, want 1", code)
	}
	for _, want := range []string{"no      sandbox isolation", "needed  luck", "  sandbox isolation: install runsc\n", "would not work here"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("printed %q, want %q in it", stdout, want)
		}
	}
}

func TestDataDirectory(t *testing.T) {
	w := newWorld(t)
	a := w.app(nil, nil)
	if dir, err := a.dataDirectory(); err != nil || dir != w.dir {
		t.Errorf("from the environment: %s, %v", dir, err)
	}
	a.dataDir = "rel"
	if dir, err := a.dataDirectory(); err != nil || !filepath.IsAbs(dir) || filepath.Base(dir) != "rel" {
		t.Errorf("from the flag: %s, %v", dir, err)
	}
	a.dataDir = ""
	delete(w.env, "TENEMENT_DATA_DIR")
	delete(w.env, "TENEMENT_SERVER")
	w.env["TENEMENT_CONFIG"] = "c.toml"
	a.hooks.DataDir = func(config string) (string, error) { return "/from/" + config, nil }
	if dir, err := a.dataDirectory(); err != nil || dir != filepath.FromSlash("/from/c.toml") && filepath.Base(dir) != "c.toml" {
		t.Errorf("from the configuration: %s, %v", dir, err)
	}
	broken := errors.New("line 3: what is this")
	a.hooks.DataDir = func(string) (string, error) { return "", broken }
	if _, err := a.dataDirectory(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	// A broken configuration does not keep the client commands from the default server.
	if got := a.endpoints(); len(got) != 1 || got[0] != defaultServer {
		t.Errorf("got %v", got)
	}
}

// TestGuide shows what `ten serve` tells at a terminal.
func TestGuide(t *testing.T) {
	notes := &api.Service{Name: "notes", SpawnOnRequest: true}
	chat := &api.Service{Name: "chat", SpawnOnRequest: true}
	made := &api.Service{Name: "made"}
	for name, s := range map[string]serving{
		"nothing": {},
		"one":     {File: "/srv/tenement.toml", Services: []*api.Service{notes}, Instances: []api.Ref{{Service: "notes", ID: "alice"}}},
		"routes": {
			File: "/srv/tenement.toml", Domain: "example.com", Port: 80, Program: "bin/ten", DataDir: "/srv/my data",
			Services:  []*api.Service{chat, made, notes},
			Instances: []api.Ref{{Service: "notes", ID: "alice"}, {Service: "notes", ID: "bob"}},
			Routes:    map[string]string{"example.com": "notes", "www.example.com": "notes", "example.com/talk/": "chat"},
		},
		"many": {Services: []*api.Service{notes}, Instances: slices.Repeat([]api.Ref{{Service: "notes", ID: "n"}}, 100)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var out bytes.Buffer
			s.Domain, s.Program = cmp.Or(s.Domain, "localhost"), cmp.Or(s.Program, "ten")
			s.Port, s.DataDir = cmp.Or(s.Port, 8080), cmp.Or(s.DataDir, w.dir)
			s.Near = s.DataDir
			w.app(&out, &out).guide(s)
			golden(t, filepath.Join("guide", name+".txt"), w.steady(out.String()))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd/ten -update accepts it), got:\n%s", name, got)
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		width int
		want  string
	}{
		{0, "- one two three four"},
		{12, "- one two\n  three four"},
		{7, "- one\n  two\n  three\n  four"},
		{1, "- one\n  two\n  three\n  four"},
	} {
		if got := wrap("one two  three four", tc.width, "- ", "  "); got != tc.want {
			t.Errorf("width %d: got %q, want %q", tc.width, got, tc.want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a-b/c=d": "a-b/c=d", "it's": `'it'\''s'`, "a b": "'a b'", "{port}": "{port}"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if words, err := api.SplitWords(shellWord(in)); err != nil || len(words) != 1 || words[0] != in {
			t.Errorf("%q does not come back: %q, %v", in, words, err)
		}
	}
}
