package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestSecretVariables: what a file and the API declare as secret reaches the programs,
// also after what was printed is put back and after a restart of the server, and is in
// nothing that ten prints or logs.
func TestSecretVariables(t *testing.T) {
	t.Parallel()
	const filed, made = "correct-horse", "battery-staple"
	s := newTen(t, appConfig("secret_env = [\"KEY\"]\nisolation = \"process\"", "KEY = \""+filed+"\"\nPLAIN = \"1\""))
	s.start()
	dir := filepath.Dir(s.config)
	spec := filepath.Join(dir, "web.json")
	write := func(v any) {
		t.Helper()
		text, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(spec, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var printed []string
	run := func(args ...string) string {
		t.Helper()
		out := s.run(args...)
		printed = append(printed, out)
		return out
	}
	write(api.Service{
		Name: "web", Command: appBinary, Isolation: api.IsolationProcess,
		Env: map[string]string{"KEY": made, "PLAIN": "1"}, SecretEnv: []string{"KEY"},
	})
	run("service", "apply", spec, "--json")
	run("spawn", "app:one", "web:one")
	s.want("one.app.localhost", "/env", "KEY="+filed+"\n")
	s.want("one.web.localhost", "/env", "KEY="+made+"\n")

	var shown api.Service
	if err := json.Unmarshal([]byte(run("service", "get", "web")), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Env) != 1 || shown.Env["PLAIN"] != "1" || len(shown.SecretEnv) != 1 {
		t.Errorf("shown is %+v", shown)
	}
	shown.IdleTimeout = api.Seconds(3600)
	write(shown)
	run("service", "apply", spec)
	s.kill()
	s.start()
	run("restart", "web:one")
	s.want("one.web.localhost", "/env", "KEY="+made+"\n")

	snapshot := filepath.Join(dir, "state.snapshot")
	for _, args := range [][]string{
		{"config", "--config", s.config},
		{"config", "--config", s.config, "--json"},
		{"service", "list"},
		{"service", "list", "--json"},
		{"service", "get", "app"},
		{"ps", "--all", "--json"},
		{"plan", "--json"},
		{"cluster"},
		{"cluster", "--json"},
		{"nodes", "--json"},
		{"logs"},
		{"cluster", "snapshot", "save", snapshot},
		{"cluster", "snapshot", "inspect", snapshot},
		{"cluster", "snapshot", "inspect", snapshot, "--json"},
	} {
		run(args...)
	}
	if raw, err := os.ReadFile(snapshot); err != nil || !strings.Contains(string(raw), made) {
		t.Errorf("a snapshot that has lost the secret, %v", err)
	}
	if fi, err := os.Stat(snapshot); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("others may read the snapshot: %v, %v", fi, err)
	}
	for _, text := range append(printed, s.logs.String()) {
		if strings.Contains(text, filed) || strings.Contains(text, made) {
			t.Errorf("a secret is told:\n%s", text)
		}
	}
}
