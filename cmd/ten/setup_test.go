package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestServePassesItsFlags(t *testing.T) {
	w := newWorld(t)
	var got serveOptions
	w.hooks.Serve = func(_ context.Context, o serveOptions) error { got = o; return nil }
	if _, stderr, code := w.run(t.Context(), "serve"); code != 0 || got.Port != nil || got.Domain != "" || got.DataDir != "" {
		t.Fatalf("exit %d, %+v: %s", code, got, stderr)
	}
	_, stderr, code := w.run(t.Context(), "serve", "--port", "0", "--domain", "d", "--tls", "--email", "e", "--staging",
		"--config", "c.toml", "--data-dir", "x")
	if code != 0 || got.Port == nil || *got.Port != 0 {
		t.Fatalf("exit %d, %+v: %s", code, got, stderr)
	}
	got.Port = nil
	if want := (serveOptions{Config: "c.toml", DataDir: "x", Domain: "d", TLS: true, Email: "e", Staging: true, Version: version}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	w.hooks.Serve = func(context.Context, serveOptions) error {
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
