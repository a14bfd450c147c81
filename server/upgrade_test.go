package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// TestFailedUpgrade: whatever becomes of a successor, the old server says why and serves
// on, with its programs.
func TestFailedUpgrade(t *testing.T) {
	s := startServer(t, tempDir(t))
	t.Setenv(envDir, s.dir)
	if _, body := s.get("one.app.localhost", "/"); body != "app:one\n" {
		t.Fatalf("got %q", body)
	}
	program := s.machine.Running(api.Ref{})
	kept := s.keep()
	for _, tc := range []struct {
		mode, path string
		want       []string
	}{
		{mode: refusesConfig, want: []string{"tenement.toml:7", "no such thing"}},
		{mode: otherDataDir, want: []string{"data directory", s.dir + "-2", "restart"}},
		{mode: diesBeforeReady, want: []string{"exit status 3", "ended without a word"}},
		{mode: diesWhenReady, want: []string{"exit status 4"}},
		{mode: diesAfterGo, want: []string{"exit status 5"}},
		{mode: failsAfterGo, want: []string{"no more room in the house"}},
		{mode: speaksOtherWords, want: []string{"hello"}},
		{path: "/no/such/file", want: []string{"/no/such/file", "no such file"}},
		{path: "/bin/true", want: []string{"/bin/true", "exit status 0"}},
	} {
		t.Run(tc.mode+tc.path, func(t *testing.T) {
			t.Setenv(envMode, tc.mode)
			_, err := s.client.Upgrade(t.Context(), api.UpgradeRequest{Path: tc.path})
			if api.CodeOf(err) != api.CodeFailed {
				t.Fatalf("upgrade: %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the message has no %q: %v", want, err)
				}
			}
			if _, body := s.get("one.app.localhost", "/"); body != "app:one\n" {
				t.Errorf("afterwards: %q\n%s", body, s.log)
			}
			if got := s.machine.Running(api.Ref{}); len(got) != 1 || got[0] != program[0] {
				t.Errorf("programs %v, were %v", got, program)
			}
			kept.want(t, "app:one\n")
		})
	}
	// The listeners are as they were: nothing waits in an accept that no close ends.
	if err := s.stop(context.Canceled); err != nil {
		t.Error(err)
	}
}

// kept is a connection that its client keeps open.
type kept struct {
	conn net.Conn
	in   *bufio.Reader
}

func (s *testServer) keep() *kept {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return &kept{conn, bufio.NewReader(conn)}
}

func (k *kept) want(t *testing.T, want string) *http.Response {
	t.Helper()
	fmt.Fprintf(k.conn, "GET / HTTP/1.1\r\nHost: one.app.localhost\r\n\r\n")
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		t.Fatalf("request on a kept connection: %v", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want {
		t.Fatalf("request on a kept connection: %q, %v", b, err)
	}
	return resp
}

// notified listens for the successor's call and returns the first connection.
func notified(t *testing.T) func() net.Conn {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(tempDir(t), "n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	t.Setenv(envNotify, ln.Addr().String())
	return func() net.Conn {
		t.Helper()
		_ = ln.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute))
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// TestUpgrade: the successor serves with its version; what clients still send to the old
// process reaches it with their addresses; the old process ends.
func TestUpgrade(t *testing.T) {
	s := startServer(t, tempDir(t))
	t.Setenv(envDir, s.dir)
	t.Setenv(envMode, takesOver)
	call := notified(t)
	idle := s.keep()
	idle.want(t, "app:one\n")

	result, err := s.client.Upgrade(t.Context(), api.UpgradeRequest{})
	if err != nil || result.Version != "v2" || result.PID == os.Getpid() {
		t.Fatalf("upgrade: %+v, %v\n%s", result, err, s.log)
	}
	successor := call()
	resp := idle.want(t, "app:one\n")
	if !resp.Close {
		t.Error("the client of a kept connection is not told to open another")
	}
	<-s.done
	if s.err != nil {
		t.Errorf("the old server: %v", s.err)
	}
	if n, err := s.client.Telemetry(t.Context()); err != nil || n.PID != result.PID {
		t.Errorf("telemetry of %+v, %v; want pid %d", n, err, result.PID)
	}
	if _, body := s.get("one.app.localhost", "/"); body != "app:one\n" {
		t.Errorf("afterwards: %q", body)
	}
	_ = successor.Close() // it ends, and removes the socket as the last
	p, err := os.FindProcess(result.PID)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = p.Wait()
	if _, err := os.Stat(filepath.Join(s.dir, "ten.sock")); err == nil {
		t.Error("ten.sock is still there")
	}
}

// TestTwoUpgrades: the second of two at once is refused, and so is one while the first
// takes its time.
func TestTwoUpgrades(t *testing.T) {
	s := startServer(t, tempDir(t))
	t.Setenv(envMode, hangsAfterGo)
	call := notified(t)
	var first sync.WaitGroup
	first.Go(func() { _, _ = s.client.Upgrade(context.Background(), api.UpgradeRequest{}) })
	call()
	held := make(chan string, 1)
	go func() {
		_, body := s.get("one.app.localhost", "/")
		held <- body
	}()
	// The API is held too: a second upgrade waits, as everything does.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.client.Upgrade(ctx, api.UpgradeRequest{}); err == nil {
		t.Error("a second upgrade at the same time")
	}
	if err := s.stop(ErrInterrupted); err != nil {
		t.Errorf("interrupt during the hand-over: %v", err)
	}
	first.Wait()
	if body := <-held; body != "app:one\n" {
		t.Errorf("the held request got %q", body)
	}
	if running := s.machine.Running(api.Ref{}); len(running) > 0 {
		t.Errorf("interrupted, but these run: %v", running)
	}
}

func TestUpgradeWhileBusy(t *testing.T) {
	s := &server{upgrades: make(chan upgrade, 1), ended: make(chan struct{})}
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := s.upgrade(t.Context(), api.UpgradeRequest{}); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("when the server ends: %v", err)
		}
	})
	<-s.upgrades
	if _, err := s.upgrade(t.Context(), api.UpgradeRequest{}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second one: %v", err)
	}
	close(s.ended)
	first.Wait()
}

// TestStopDuringHandover: SIGTERM while a successor is about to take over ends both, and
// leaves the programs running.
func TestStopDuringHandover(t *testing.T) {
	s := startServer(t, tempDir(t))
	s.get("one.app.localhost", "/")
	t.Setenv(envMode, hangsAfterGo)
	call := notified(t)
	var upgrade sync.WaitGroup
	upgrade.Go(func() {
		if _, err := s.client.Upgrade(context.Background(), api.UpgradeRequest{}); err == nil {
			t.Error("upgraded to a process that hangs")
		}
	})
	conn := call()
	if err := s.stop(syscall.EINTR); err != nil {
		t.Errorf("stop during the hand-over: %v", err)
	}
	upgrade.Wait()
	_ = conn
	if running := s.machine.Running(api.Ref{}); len(running) != 1 {
		t.Errorf("programs after a stop: %v", running)
	}
	startServer(t, s.dir).get("one.app.localhost", "/")
}
