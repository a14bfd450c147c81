package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestVariables: TENEMENT_* variables configure server and client alike, and a bad one is
// named.
func TestVariables(t *testing.T) {
	t.Parallel()
	s := newTen(t, appConfig("", ""))
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "TENEMENT_CONFIG=" + s.config, "TENEMENT_DATA_DIR=" + s.dataDir,
		"TENEMENT_DOMAIN=ten.test", "TENEMENT_PORT=" + strconv.Itoa(s.port), "TENEMENT_BIND=127.0.0.1",
	}
	s.args = []string{"serve"}
	s.start()
	s.want("one.app.ten.test", "/", "one")
	if status, _ := s.get("one.app.localhost", "/"); status != 404 {
		t.Errorf("another domain: %d, want 404", status)
	}
	if out := s.logs.String(); !strings.Contains(out, fmt.Sprintf("http://ten.test:%d", s.port)) {
		t.Errorf("it does not say where it serves:\n%s", out)
	}
	for _, env := range [][]string{
		{"TENEMENT_DATA_DIR=" + s.dataDir},
		{"TENEMENT_SERVER=http://" + s.addr(), "TENEMENT_TOKEN=" + s.admin()},
	} {
		cmd := exec.Command(tenBinary, "ps")
		cmd.Env = append([]string{"HOME=/nowhere"}, env...)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "app:one") {
			t.Errorf("ps with %v: %v\n%s", env, err, out)
		}
	}
	cmd := exec.Command(tenBinary, "serve", "--data-dir", s.dataDir+"-2", "--config", s.config)
	cmd.Env = append(cleanEnv(), "TENEMENT_PORT=many")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "TENEMENT_PORT") || !strings.Contains(string(out), "many") {
		t.Errorf("a bad variable: %v\n%s", err, out)
	}
}

// TestTwoServers: each data directory has a server of its own on one machine.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	a, b := startTen(t, appConfig("", "")), startTen(t, appConfig("", ""))
	a.run("spawn", "app:one")
	b.run("spawn", "app:two")
	if got := a.instances(); len(got) != 1 || got["app:one"] == nil {
		t.Errorf("the first has %v", got)
	}
	if got := b.instances(); len(got) != 1 || got["app:two"] == nil {
		t.Errorf("the second has %v", got)
	}
	a.interrupt()
	b.want("two.app.localhost", "/", "two")
}

// TestPortInUse: the error says what is wrong and what to do, and leaves nothing behind.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := newTen(t, appConfig("", ""))
	s.port = ln.Addr().(*net.TCPAddr).Port
	out, err := s.command().CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") || !strings.Contains(string(out), "--port") {
		t.Errorf("a port that somebody else has: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(s.dataDir, "ten.sock")); err == nil {
		t.Error("ten.sock was left")
	}
}
