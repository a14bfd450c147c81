package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tenement-fleet/tenement/api"
)

// TestTerminate: SIGTERM leaves the instances running, and the next serve has the same.
func TestTerminate(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", "APP_TICK = \"5ms\"")+"\n[instances]\napp = [\"one\", \"two\", \"three\"]\n")
	pids := map[string]int{}
	for _, ref := range []string{"app:one", "app:two", "app:three"} {
		pids[ref] = s.waitState(ref, api.StateRunning).Observed.PID
	}
	for range 3 {
		s.terminate()
		if _, err := os.Stat(filepath.Join(s.dataDir, "ten.sock")); err == nil {
			t.Error("ten.sock stays behind")
		}
		if _, stderr, code := s.exec("ps"); code == 0 || !strings.Contains(stderr, "ten serve") {
			t.Errorf("ps without a server: exit %d, %q", code, stderr)
		}
		s.start()
		for ref, pid := range pids {
			if in := s.waitState(ref, api.StateRunning); in.Observed.PID != pid {
				t.Errorf("%s: pid %d, was %d", ref, in.Observed.PID, pid)
			}
			s.want(strings.TrimPrefix(ref, "app:")+".app.localhost", "/", "")
		}
	}
	waitTicks(t, s, "app:one")
	for ref, pid := range pids {
		checkTicks(t, s, ref, pid)
	}
}

// TestFailedUpgrade: a binary that can't take over is explained, and the old server
// serves on.
func TestFailedUpgrade(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:one")
	pid, server := s.instances()["app:one"].Observed.PID, s.pid()
	bad := s.config + ".bad"
	if err := os.WriteFile(bad, []byte("[service.app]\nno_such_key = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newConfig := s.script(fmt.Sprintf("exec %s serve --config %s --data-dir %s --port %d", tenBinary, bad, s.dataDir, s.port))
	for binary, want := range map[string][]string{
		"/bin/false":                             {"/bin/false", "exit status 1"},
		s.script("echo oops; exec 3>&-; exit 7"): {"exit status 7"},
		s.config:                                 {"permission denied"},
		newConfig:                                {"no_such_key", ".bad:2"},
	} {
		out, stderr, code := s.exec("upgrade", "--binary", binary)
		for _, w := range want {
			if code == 0 || !strings.Contains(stderr, w) {
				t.Errorf("upgrade to %s: exit %d, %s%s; want %q", binary, code, out, stderr, w)
			}
		}
		s.want("one.app.localhost", "/", "one")
	}
	if got := s.pid(); got != server {
		t.Errorf("server %d became %d", server, got)
	}
	if got := s.instances()["app:one"].Observed.PID; got != pid {
		t.Errorf("instance %d became %d", pid, got)
	}
}

// script writes an executable shell script and returns its path.
func (s *ten) script(text string) string {
	s.t.Helper()
	f, err := os.CreateTemp(filepath.Dir(s.config), "script-")
	if err != nil {
		s.t.Fatal(err)
	}
	path := f.Name()
	_, err = f.WriteString("#!/bin/sh\n" + text + "\n")
	if err != nil || f.Close() != nil || os.Chmod(path, 0o755) != nil {
		s.t.Fatalf("write %s: %v", path, err)
	}
	return path
}

// TestKillDuringUpgrade kills one of the two processes of an upgrade, at different moments
// of it. Afterwards the other one serves, or a new one can: with the same programs, and
// everything that was acknowledged.
func TestKillDuringUpgrade(t *testing.T) {
	t.Parallel()
	rounds := 6
	if long() {
		rounds = 60
	}
	s := startTen(t, appConfig("", "")+"\n[instances]\napp = [\"one\"]\n")
	pid := s.waitState("app:one", api.StateRunning).Observed.PID
	outcomes := map[string]int{}
	for round := range rounds {
		s.run("weight", "app:one", strconv.Itoa(round%100))
		old := s.pid()
		cmd := exec.Command(tenBinary, "--data-dir", s.dataDir, "upgrade")
		cmd.Env = cleanEnv()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		successor := childOf(t, old)
		if successor == 0 { // over already
			successor = s.pid()
		}
		side, victim := "old", old
		if round%2 == 1 {
			side, victim = "new", successor
		}
		// Somewhere in the hand-over, which takes some 50 ms; which moment is chance.
		<-time.After(time.Duration(round*7%60) * time.Millisecond)
		_ = syscall.Kill(victim, syscall.SIGKILL)
		_ = cmd.Wait()
		now := s.whoServes()
		switch now {
		case 0:
			waitGone(t, old)
			waitGone(t, successor)
			outcomes["killed "+side+": none serves"]++
			s.start()
		case old:
			waitGone(t, successor)
			outcomes["killed "+side+": the old one serves"]++
		default:
			waitGone(t, old)
			outcomes["killed "+side+": the new one serves"]++
			s.adopt()
		}
		in := s.waitState("app:one", api.StateRunning)
		if in.Observed.PID != pid || in.EffectiveWeight() != round%100 {
			t.Fatalf("round %d: pid %d, weight %d; want %d, %d", round, in.Observed.PID, in.EffectiveWeight(), pid, round%100)
		}
		s.want("one.app.localhost", "/", "one")
	}
	t.Logf("%v", outcomes)
}

// childOf waits for the successor that a server starts, or for the server's end, then it
// returns 0. The kernel has no event for that.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if len(tasks) == 0 {
			return 0
		}
		for _, file := range tasks {
			b, _ := os.ReadFile(file)
			for _, f := range strings.Fields(string(b)) {
				child, _ := strconv.Atoi(f)
				if line, _ := os.ReadFile("/proc/" + f + "/cmdline"); strings.Contains(string(line), "\x00serve\x00") {
					return child
				}
			}
		}
	}
	t.Fatalf("no successor of %d", pid)
	return 0
}

// whoServes returns the pid of the server that answers on the admin socket, once there is
// none that only might.
func (s *ten) whoServes() int {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var telemetry api.Telemetry
		_, err := s.local(s.t.Context(), "GET", "/api/telemetry", &telemetry)
		if err == nil {
			return telemetry.PID
		}
		conn, dialErr := net.Dial("unix", filepath.Join(s.dataDir, "ten.sock"))
		if dialErr != nil {
			return 0
		}
		_ = conn.Close() // somebody still listens: ask again
	}
	s.t.Fatal("nobody answers, and nobody hangs up")
	return 0
}

// TestWebSocketAcrossUpgrade: visitors of a chat room stay connected while ten is
// replaced, the room does not fall asleep under them, and new visitors meet them there.
func TestWebSocketAcrossUpgrade(t *testing.T) {
	t.Parallel()
	bin := buildExample(t, "chat")
	s := startTen(t, exampleConfig(t, "chat", `"./chat"`, fmt.Sprintf("%q", bin), "idle_timeout = 30", "idle_timeout = 1"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first := s.visit(ctx)
	pid := s.waitState("chat:lobby", api.StateRunning).Observed.PID
	old := s.pid()
	s.run("upgrade")
	s.adopt()
	if now := s.pid(); now == old {
		t.Fatalf("not upgraded: pid %d", now)
	}
	// Twice the idle time-out: nothing changes in it.
	index, err := s.local(ctx, "GET", "/api/instances/chat:lobby", nil)
	if err != nil {
		t.Fatal(err)
	}
	var in api.Instance
	if _, err := s.local(ctx, "GET", fmt.Sprintf("/api/instances/chat:lobby?index=%d&wait=2s", index), &in); err != nil {
		t.Fatal(err)
	}
	second := s.visit(ctx)
	for from, to := range map[*websocket.Conn]*websocket.Conn{first: second, second: first} {
		if err := from.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		for _, conn := range []*websocket.Conn{to, from} {
			if _, text, err := conn.Read(ctx); err != nil || string(text) != "hello" {
				t.Fatalf("a visitor got %q, %v", text, err)
			}
		}
	}
	if in := s.waitState("chat:lobby", api.StateRunning); in.Observed.PID != pid {
		t.Errorf("pid %d became %d with open connections", pid, in.Observed.PID)
	}
	_ = first.Close(websocket.StatusNormalClosure, "")
	_ = second.Close(websocket.StatusNormalClosure, "")
	waitGone(t, old)
	s.waitState("chat:lobby", api.StateAsleep)
}

// TestInFlightAcrossUpgrade: what is under way when ten is replaced goes on: a stream, a
// request that waits for a program to start, and a log that is followed.
func TestInFlightAcrossUpgrade(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", "APP_START_DELAY = \"500ms\""))
	s.run("spawn", "app:one")
	lines := s.follow("app:one")
	var wg sync.WaitGroup
	wg.Go(func() {
		status, body, err := s.try("GET", "one.app.localhost", "/stream?n=20&d=50ms", "")
		if err != nil || status != 200 || strings.Count(body, "data: ") != 20 {
			t.Errorf("stream: %d %q %v", status, body, err)
		}
	})
	for range 5 {
		wg.Go(func() {
			if status, body, err := s.try("POST", "two.app.localhost", "/starts", "x"); err != nil || status != 200 || body != "1\n" {
				t.Errorf("a request that waited for a start: %d %q %v", status, body, err)
			}
		})
	}
	s.waitListed("app:two")
	s.run("upgrade")
	s.adopt()
	for n := 0; ; n++ { // the follower has to find the new server first
		s.want("one.app.localhost", fmt.Sprintf("/say?line=hello-%d", n), "")
		select {
		case <-lines:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	wg.Wait()
}

// waitListed waits until there is an instance of that name.
func (s *ten) waitListed(ref string) {
	s.t.Helper()
	for index := uint64(0); ; {
		var list []*api.Instance
		next, err := s.local(s.t.Context(), "GET", fmt.Sprintf("/api/instances?index=%d&wait=30s", index), &list)
		if err != nil || next == index {
			s.t.Fatalf("wait for %s: %v", ref, err)
		}
		index = next
		for _, in := range list {
			if in.Ref().String() == ref {
				return
			}
		}
	}
}

// TestDescriptors: a program gets descriptors 0 to 2 and no other, from a server that has
// inherited some itself as well.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", "")+"[service.plain]\ncommand = \""+appBinary+"\"\nisolation = \"process\"\n")
	check := func(id string) {
		t.Helper()
		for _, service := range []string{"app", "plain"} {
			if body := s.want(id+"."+service+".localhost", "/fds", ""); strings.TrimSpace(body) != "" {
				t.Errorf("%s:%s has more than three descriptors:\n%s", service, id, body)
			}
		}
	}
	check("one")
	s.run("upgrade")
	s.adopt()
	check("two")
}

// visit opens a connection to the chat room.
func (s *ten) visit(ctx context.Context) *websocket.Conn {
	s.t.Helper()
	conn, _, err := websocket.Dial(ctx, "ws://lobby.chat.localhost/ws", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: s.client.Transport},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// TestReusedPID: while ten is away an instance ends and another process gets its pid. The
// next ten starts the instance again and never touches the stranger.
func TestReusedPID(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("isolation = \"process\"", "")+"\n[instances]\napp = [\"one\"]\n")
	pid := s.waitState("app:one", api.StateRunning).Observed.PID
	s.kill()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitReaped(t, pid)
	stranger := processWithPID(t, pid)
	s.start()
	in := s.waitState("app:one", api.StateRunning)
	if in.Observed.PID == pid {
		t.Errorf("the stranger was taken for the instance")
	}
	s.want("one.app.localhost", "/", "one")
	s.run("stop", "app:one")
	s.run("restart", "app:one")
	s.interrupt()
	if err := stranger.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger with pid %d has ended: %v", pid, err)
	}
}

// waitReaped waits until pid can be given to another process.
func waitReaped(t *testing.T, pid int) {
	t.Helper()
	waitGone(t, pid)
	for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Skipf("skipped: nobody reaps pid %d on this machine", pid)
		}
	}
}

// processWithPID starts a process with the pid given, which sleeps until the test ends.
func processWithPID(t *testing.T, pid int) *os.Process {
	t.Helper()
	for range 1000 {
		err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0)
		if err != nil {
			t.Skipf("skipped: needs root to choose a pid: %v", err)
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
		if cmd.Process.Pid == pid {
			t.Cleanup(end)
			return cmd.Process
		}
		end()
	}
	t.Skipf("skipped: others are faster to get pid %d", pid)
	return nil
}
