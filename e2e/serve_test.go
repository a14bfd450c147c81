package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/tenement-fleet/tenement/api"
)

// TestBadConfig: every mistake is named with file, line and key, and nothing starts.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		toml string
		want []string
	}{
		"unknown key":     {"[service.a]\ncommand = \"true\"\nhelth = \"/\"\n", []string{"tenement.toml:3", "service.a.helth", "health"}},
		"wrong type":      {"[service.a]\ncommand = \"true\"\nidle_timeout = []\n", []string{"tenement.toml:3", "idle_timeout"}},
		"bad name":        {"[service.Big]\ncommand = \"true\"\n", []string{"tenement.toml:1", "Big", "a-z"}},
		"no such command": {"[service.a]\ncommand = \"no-such-program-anywhere\"\n", []string{"tenement.toml:2", "no-such-program-anywhere"}},
		"one socket":      {"[service.a]\ncommand = \"true\"\nsocket = \"/tmp/x\"\n[service.b]\ncommand = \"true\"\nsocket = \"/tmp/x\"\n", []string{"tenement.toml:6", "/tmp/x"}},
		"isolation":       {"[service.a]\ncommand = \"true\"\nisolation = \"firecracker\"\n", []string{"isolation", "firecracker", "process"}},
		"not TOML":        {"[service.a\n", []string{"tenement.toml:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTen(t, tc.toml)
			out, err := s.command().CombinedOutput()
			if err == nil {
				t.Fatalf("ten serve took it:\n%s", out)
			}
			for _, want := range tc.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("the message has no %q:\n%s", want, out)
				}
			}
			if _, err := os.Stat(filepath.Join(s.dataDir, "ten.sock")); err == nil {
				t.Error("something was started")
			}
		})
	}
}

// TestSecondServe: two servers never share a data directory.
func TestSecondServe(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	other := &ten{t: t, dataDir: s.dataDir, config: s.config, port: freePort(t)}
	out, err := other.command().CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another server") {
		t.Errorf("a second serve: %v\n%s", err, out)
	}
	s.run("spawn", "app:one")
	s.want("one.app.localhost", "/", "one")
}

func TestHelpfulErrors(t *testing.T) {
	t.Parallel()
	s := newTen(t, appConfig("", ""))
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"ps"}, "ten serve"},
		{[]string{"spwan"}, "spawn"},
		{[]string{"weight", "app:one", "101"}, "100"},
		{[]string{"spawn", "App:one"}, "a-z"},
	} {
		_, stderr, code := s.exec(tc.args...)
		if code == 0 || !strings.Contains(stderr, tc.want) {
			t.Errorf("ten %s: exit %d, %q; want a hint with %q", strings.Join(tc.args, " "), code, stderr, tc.want)
		}
	}
}

func TestExampleChat(t *testing.T) {
	t.Parallel()
	bin := buildExample(t, "chat")
	s := startTen(t, exampleConfig(t, "chat", `"./chat"`, fmt.Sprintf("%q", bin), "idle_timeout = 30", "idle_timeout = 1"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var visitors []*websocket.Conn
	for range 2 {
		conn, _, err := websocket.Dial(ctx, "ws://lobby.chat.localhost/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", s.addr())
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow() //nolint:errcheck // best effort
		visitors = append(visitors, conn)
	}
	pid := s.waitState("chat:lobby", api.StateRunning).Observed.PID
	if err := visitors[0].Write(ctx, websocket.MessageText, []byte("hello room")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := visitors[1].Read(ctx); err != nil || string(text) != "hello room" {
		t.Fatalf("the other visitor got %q, %v", text, err)
	}
	if got := s.waitState("chat:lobby", api.StateRunning).Observed.PID; got != pid {
		t.Errorf("pid %d became %d with open connections", pid, got)
	}
	for _, v := range visitors {
		_ = v.Close(websocket.StatusNormalClosure, "")
	}
	s.waitState("chat:lobby", api.StateAsleep)
}

// TestNamespace: the default isolation shows a program its own pid 1 and its own /proc.
func TestNamespace(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	status, body := s.get("one.app.localhost", "/")
	if status == 502 {
		t.Skip("skipped: namespaces do not work on this machine, see ten doctor")
	}
	if f := strings.Fields(body); status != 200 || len(f) != 3 || f[1] != "2" {
		t.Errorf("got %d %q, want pid 2, the first after the namespace's init", status, body)
	}
	env := s.want("one.app.localhost", "/env", "TENEMENT_INSTANCE=one")
	if strings.Contains(env, "TEN_E2E") || strings.Contains(env, "GOCACHE") {
		t.Errorf("ten's own environment leaks into the program:\n%s", env)
	}
}

// TestOrdinaryUser: without a data directory given, an ordinary user's state is in the
// XDG place, and both isolation levels work or say why not.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root to become another user")
	}
	home, err := os.MkdirTemp("", "u-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	const uid = 65533
	if err := os.Chown(home, uid, uid); err != nil {
		t.Fatal(err)
	}
	toml := filepath.Join(home, "tenement.toml")
	text := appConfig("", "") + fmt.Sprintf("[service.plain]\ncommand = %q\nisolation = \"process\"\n", appBinary)
	if err := os.WriteFile(toml, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newTen(t, "")
	s.dataDir, s.config = filepath.Join(home, ".local/share/tenement"), toml
	s.user = &syscall.Credential{Uid: uid, Gid: uid}
	s.env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	s.start()
	s.want("one.plain.localhost", "/", "one")
	s.want("one.app.localhost", "/", "one")
	fi, err := os.Stat(filepath.Join(s.dataDir, "ten.sock"))
	if err != nil || fi.Sys().(*syscall.Stat_t).Uid != uid {
		t.Errorf("ten.sock is not in the XDG place: %v, %v", fi, err)
	}
}

// TestDoctor: it runs without a server and names every isolation level.
func TestDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(tenBinary, "--data-dir", dir, "doctor", "--port", fmt.Sprint(freePort(t))) // other tests may have the usual one
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ten doctor: %v\n%s", err, out)
	}
	for _, want := range []string{"process", "namespace", "sandbox", "cgroup"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("doctor says nothing of %s:\n%s", want, out)
		}
	}
}
