package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
)

// exampleConfig returns an example's tenement.toml with its workdir made absolute and
// the given replacements done, so that it can live in a test's own directory.
func exampleConfig(t *testing.T, name string, oldnew ...string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tenement.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), `workdir = "."`, fmt.Sprintf("workdir = %q", dir))
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("example %s has no %q to replace", name, oldnew[i])
		}
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	return text
}

// TestNotes is the journey of REFERENCE's users: a Python app, two tenants, separate
// databases, sleep after idle, wake with the data intact, and every command.
func TestNotes(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	s := startTen(t, exampleConfig(t, "notes", "idle_timeout = 300", "idle_timeout = 1"))

	if status, _ := s.post("alice.notes.localhost", "/", "buy milk"); status != 201 {
		t.Fatalf("save alice's note: got %d", status)
	}
	if status, _ := s.post("bob.notes.localhost", "/", "feed the cat"); status != 201 {
		t.Fatalf("save bob's note: got %d", status)
	}
	if _, body := s.get("alice.notes.localhost", "/"); body != "buy milk\n" {
		t.Errorf("alice's notes: got %q", body)
	}
	if _, body := s.get("bob.notes.localhost", "/"); body != "feed the cat\n" {
		t.Errorf("bob's notes: got %q", body)
	}

	asleep := s.waitState("notes:alice", api.StateAsleep)
	if pid := asleep.Observed.PID; pid != 0 {
		t.Errorf("asleep, but has pid %d", pid)
	}
	s.waitState("notes:bob", api.StateAsleep)
	if out := s.run("ps"); strings.Contains(out, "notes:alice") {
		t.Errorf("ps shows what sleeps:\n%s", out)
	}
	if out := s.run("ps", "--all"); !strings.Contains(out, "notes:alice") || !strings.Contains(out, "asleep") {
		t.Errorf("ps --all does not show what sleeps:\n%s", out)
	}
	if _, body := s.get("alice.notes.localhost", "/"); body != "buy milk\n" {
		t.Errorf("alice's notes after a wake: got %q", body)
	}
	t.Run("commands", func(t *testing.T) { notesCommands(t, s) })
}

func notesCommands(t *testing.T, s *ten) {
	s.want("alice.notes.localhost", "/health", "ok")
	if out := s.run("health", "notes:alice"); !strings.Contains(out, "healthy") {
		t.Errorf("health: %q", out)
	}
	if out := s.run("logs", "notes:alice", "--search", "POST"); !strings.Contains(out, "POST / 201") {
		t.Errorf("logs --search: %q", out)
	}
	if out := s.run("logs", "notes:alice", "--level", "stderr"); strings.Contains(out, "POST / 201") {
		t.Errorf("logs --level stderr shows stdout: %q", out)
	}

	s.run("weight", "notes:bob", "0")
	for range 10 {
		if _, body := s.get("notes.localhost", "/"); body != "buy milk\n" {
			t.Fatalf("weight 0 still gets traffic: %q", body)
		}
	}

	s.run("deploy", "notes:v2", "--weight", "0", "--timeout", "30")
	if in := s.instances()["notes:v2"]; in == nil || in.EffectiveWeight() != 0 {
		t.Fatalf("deployed instance: %+v", in)
	}
	s.run("route", "notes", "--from", "alice", "--to", "v2")
	for range 10 {
		if _, body := s.get("notes.localhost", "/"); body != "" {
			t.Fatalf("route did not move the traffic: %q", body)
		}
	}

	before := s.instances()["notes:v2"]
	s.run("restart", "notes:v2")
	after := s.waitState("notes:v2", api.StateRunning)
	if before.Observed != nil && before.Observed.PID != 0 && before.Observed.PID == after.Observed.PID {
		t.Errorf("restart kept pid %d", after.Observed.PID)
	}

	s.run("stop", "notes:alice")
	s.waitState("notes:alice", api.StateAsleep)
	if _, body := s.get("alice.notes.localhost", "/"); body != "buy milk\n" {
		t.Errorf("its own host does not wake a stopped instance: %q", body)
	}
	s.run("stop", "notes:alice") // asleep by wish already, but awake
	s.waitState("notes:alice", api.StateAsleep)
	s.run("stop", "--hold", "notes:alice")
	s.waitState("notes:alice", api.StateStopped)
	if status, _ := s.get("alice.notes.localhost", "/"); status != 503 {
		t.Errorf("held instance: got %d, want 503", status)
	}
	s.run("spawn", "notes:alice")
	if _, body := s.get("alice.notes.localhost", "/"); body != "buy milk\n" {
		t.Errorf("after spawn: %q", body)
	}
	s.want("carol.notes.localhost", "/health", "ok")
	if in := s.instances()["notes:carol"]; in == nil || in.Source != api.SourceRequest {
		t.Errorf("a request for an unknown id did not create it: %+v", in)
	}
}

func TestExampleHello(t *testing.T) {
	t.Parallel()
	bin := buildExample(t, "hello")
	s := startTen(t, exampleConfig(t, "hello", `"./hello"`, fmt.Sprintf("%q", bin)))
	s.want("alice.hello.localhost", "/", "hello from alice, visit 1")
	s.want("bob.hello.localhost", "/", "hello from bob")
	seen := map[string]int{}
	for range 100 {
		_, body := s.get("hello.localhost", "/")
		seen[strings.Fields(body)[2]]++
	}
	if seen["alice,"] != 50 || seen["bob,"] != 50 {
		t.Errorf("100 weighted requests went %v, want 50 each", seen)
	}
	if status, _ := s.get("nobody.localhost", "/"); status != 404 {
		t.Errorf("unknown service: got %d, want 404", status)
	}
}

func TestExampleNode(t *testing.T) {
	t.Parallel()
	need(t, "node")
	s := startTen(t, exampleConfig(t, "node"))
	s.want("one.web.localhost", "/", "hello from node, instance one")
}

// TestThousandRequestsOneSleeper: however many wait, one start, and all are answered.
func TestThousandRequestsOneSleeper(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:one")
	s.run("stop", "app:one")
	s.waitState("app:one", api.StateAsleep)

	const n = 1000
	var wg sync.WaitGroup
	var ok atomic.Int64
	var firstBad sync.Once
	for range n {
		wg.Go(func() {
			status, body, err := s.try("GET", "one.app.localhost", "/", "")
			if err == nil && status == 200 {
				ok.Add(1)
				return
			}
			firstBad.Do(func() { t.Errorf("first failure: %d %q %v", status, body, err) })
		})
	}
	wg.Wait()
	if ok.Load() != n {
		t.Errorf("%d of %d requests were answered with 200", ok.Load(), n)
	}
	if _, body := s.get("one.app.localhost", "/starts"); body != "2\n" {
		t.Errorf("starts: got %s, want 2 (the spawn and one wake)", body)
	}
}

// TestCrash: a request that meets a crash waits for the restart and succeeds.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:one")
	s.try("GET", "one.app.localhost", "/exit?code=3", "") //nolint:errcheck // the program ends instead of answering
	s.want("one.app.localhost", "/", "one")
	_, starts := s.get("one.app.localhost", "/starts")
	if starts == "1\n" {
		t.Errorf("it was not restarted")
	}
}

func TestFailingProgram(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("restart = \"never\"", "APP_FAIL = \"7\""))
	_, stderr, code := s.exec("spawn", "app:one")
	if code == 0 || !strings.Contains(stderr, "7") || !strings.Contains(stderr, "told to fail") {
		t.Errorf("spawn of a failing program: exit %d, %q; want its exit code and what it printed", code, stderr)
	}
	status, body := s.get("one.app.localhost", "/")
	if status != 502 || strings.Contains(body, "told to fail") {
		t.Errorf("request to a failed instance: %d %q; want 502 without the reason", status, body)
	}
}

func TestInterruptStopsInstances(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:one")
	pid := s.instances()["app:one"].Observed.PID
	s.interrupt()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("pid %d still runs after Ctrl-C", pid)
	}
	s.start()
	s.want("one.app.localhost", "/", "one")
}

func TestServiceGoneFromFile(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", "")+"\n[service.other]\ncommand = \""+appBinary+"\"\n[instances]\napp = [\"one\"]\nother = [\"two\"]\n")
	s.waitState("other:two", api.StateRunning)
	pid := s.instances()["other:two"].Observed.PID
	s.terminate()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("other:two ended with ten: %v", err)
	}
	if err := os.WriteFile(s.config, []byte(appConfig("", "")+"\n[instances]\napp = [\"one\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.waitState("app:one", api.StateRunning)
	if status, _ := s.get("two.other.localhost", "/"); status != 404 {
		t.Errorf("removed service: got %d, want 404", status)
	}
	waitGone(t, pid)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := newTen(t, appConfig("", ""))
	first := s.run("token-gen")
	if !regexp.MustCompile(`(?m)^  ten_[0-9a-f]{12}_\S{43}$`).MatchString(first) {
		t.Fatalf("token-gen before the first serve printed %q", first)
	}
	admin := strings.TrimSpace(first[strings.Index(first, "  ten_"):])
	admin, _, _ = strings.Cut(admin, "\n")
	s.start()
	s.run("spawn", "app:one")
	s.run("spawn", "app:two")
	tenant := strings.TrimSpace(regexp.MustCompile(`  ten_\S+`).FindString(s.run("token-gen", "--tenant", "one")))

	for _, tc := range []struct {
		token, path string
		want        int
	}{
		{"", "/api/instances", 401},
		{"ten_000000000000_" + strings.Repeat("A", 43), "/api/instances", 401},
		{admin, "/api/instances", 200},
		{tenant, "/api/instances/app:one", 200},
		{tenant, "/api/instances/app:two", 404},
		{tenant, "/api/services/app", 403},
	} {
		if got := s.api(tc.token, tc.path); got != tc.want {
			t.Errorf("GET %s with token %.8q…: got %d, want %d", tc.path, tc.token, got, tc.want)
		}
	}
	fi, err := os.Stat(filepath.Join(s.dataDir, "api_token"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("api_token: %v, %v; want mode 0600", fi, err)
	}
}

// api requests path with a bearer token over TCP and returns the status.
func (s *ten) api(token, path string) int {
	s.t.Helper()
	req, err := http.NewRequest("GET", "http://localhost"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// appConfig is a tenement.toml with the test program as service app.
func appConfig(keys, env string) string {
	return fmt.Sprintf("[service.app]\ncommand = %q\n%s\n[service.app.env]\n%s\n", appBinary, keys, env)
}

func buildExample(t *testing.T, name string) string {
	t.Helper()
	return goBuild(t, "../examples/"+name)
}

// waitGone waits until pid has ended, through its pidfd.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case n == 1:
			return
		default:
			t.Fatalf("pid %d still runs: %v", pid, err)
		}
	}
}

func TestJSONShapes(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	var in api.Instance
	if err := json.Unmarshal([]byte(s.run("spawn", "app:one", "--json")), &in); err != nil || in.ID != "one" {
		t.Errorf("spawn --json: %+v, %v", in, err)
	}
}
