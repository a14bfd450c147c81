// Package e2e drives the real binary from outside: its command line, its HTTP API and
// the hosts that it proxies, with real programs as instances.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// binaries built once for all tests, and how long any single wait may take.
var (
	tenBinary, appBinary string
	patience             = 60 * time.Second
)

func TestMain(m *testing.M) {
	if script := os.Getenv(envLoopback); script != "" {
		fmt.Fprintln(os.Stderr, raiseLoopback(script))
		os.Exit(1)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ten-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		tenBinary, appBinary = filepath.Join(dir, "ten"), filepath.Join(dir, "app")
		for target, pkg := range map[string]string{tenBinary: "../cmd/ten", appBinary: "./app"} {
			// As make build compiles it, so that the tutorial's has little left to do.
			cmd := exec.Command("go", "build", "-trimpath", "-o", target, pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// long reports whether the long versions of the tests are asked for (make e2e).
func long() bool { return os.Getenv("TEN_E2E_LONG") != "" }

// ten is one server under test with its data directory.
type ten struct {
	t       *testing.T
	dataDir string
	config  string
	host    string // that it is reached at; "": 127.0.0.1
	port    int
	tlsPort int                 // 0: none
	user    *syscall.Credential // another user to run as
	env     []string            // instead of the test's environment; no --data-dir then
	args    []string            // instead of serve with its flags
	flags   []string            // besides these
	client  *http.Client

	mu   sync.Mutex
	cmd  *exec.Cmd
	logs *tail
	done chan struct{}
}

// newTen writes the configuration and returns a server that is not started yet.
func newTen(t *testing.T, toml string) *ten {
	t.Helper()
	dir, err := os.MkdirTemp("", "t-")
	if err != nil {
		t.Fatal(err)
	}
	s := &ten{t: t, dataDir: filepath.Join(dir, "d"), config: filepath.Join(dir, "tenement.toml"), port: freePort(t)}
	if err := os.WriteFile(s.config, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	s.client = &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", s.addr())
			},
			MaxIdleConnsPerHost: 64,
		},
	}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.interrupt()
		if t.Failed() && s.logs != nil {
			t.Logf("the server printed:\n%s", s.logs)
		}
		os.RemoveAll(dir)
	})
	return s
}

// startTen is newTen followed by start.
func startTen(t *testing.T, toml string) *ten {
	t.Helper()
	s := newTen(t, toml)
	s.start()
	return s
}

func (s *ten) addr() string {
	return net.JoinHostPort(cmp.Or(s.host, "127.0.0.1"), strconv.Itoa(s.port))
}

func (s *ten) command() *exec.Cmd {
	args := []string{"serve", "--config", s.config, "--port", strconv.Itoa(s.port)}
	if s.env == nil {
		args = append(args, "--data-dir", s.dataDir)
	}
	if s.host == "" { // on every address it would be in the way of the fleets' servers
		args = append(args, "--bind", "127.0.0.1")
	}
	args = append(args, s.flags...)
	if s.args != nil {
		args = s.args
	}
	cmd := exec.Command(tenBinary, args...)
	cmd.Env = s.env
	if s.env == nil {
		cmd.Env = cleanEnv()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	return cmd
}

// start runs the server and returns once it serves.
func (s *ten) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = s.command()
	if s.logs == nil {
		s.logs = &tail{}
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = pw, pw
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	pw.Close()
	serving := make(chan struct{})
	go s.logs.follow(pr, serving)
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		defer close(done)
		_ = cmd.Wait() // its state tells
	}(s.cmd)
	select {
	case <-serving:
	case <-done:
		s.t.Fatalf("ten serve ended: %v\n%s", s.cmd.ProcessState, s.logs)
	case <-time.After(patience):
		s.t.Fatalf("ten serve does not say that it serves\n%s", s.logs)
	}
}

// kill ends the server with SIGKILL and waits until it is gone.
func (s *ten) kill() { s.signal(syscall.SIGKILL) }

// interrupt ends the server as Ctrl-C does: its instances end too.
func (s *ten) interrupt() { s.signal(syscall.SIGINT) }

// terminate ends the server with SIGTERM: its instances go on.
func (s *ten) terminate() { s.signal(syscall.SIGTERM) }

func (s *ten) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("ten serve does not end on %v", sig)
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// get requests path of host and returns status and body.
func (s *ten) get(host, path string) (int, string) {
	s.t.Helper()
	status, body, err := s.try("GET", host, path, "")
	if err != nil {
		s.t.Fatalf("GET %s%s: %v", host, path, err)
	}
	return status, body
}

func (s *ten) post(host, path, body string) (int, string) {
	s.t.Helper()
	status, answer, err := s.try("POST", host, path, body)
	if err != nil {
		s.t.Fatalf("POST %s%s: %v", host, path, err)
	}
	return status, answer
}

func (s *ten) try(method, host, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// want requests path of host and fails the test unless the answer is 200 with want in it.
func (s *ten) want(host, path, want string) string {
	s.t.Helper()
	status, body := s.get(host, path)
	if status != 200 || !strings.Contains(body, want) {
		s.t.Fatalf("GET %s%s: got %d %q, want 200 with %q", host, path, status, body, want)
	}
	return body
}

// run executes a ten command against the server and returns its standard output.
func (s *ten) run(args ...string) string {
	s.t.Helper()
	out, errOut, code := s.exec(args...)
	if code != 0 {
		s.t.Fatalf("ten %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

func (s *ten) exec(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tenBinary, append([]string{"--data-dir", s.dataDir}, args...)...)
	cmd.Env = cleanEnv()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return o.String(), e.String(), ee.ExitCode()
	} else if err != nil {
		s.t.Fatalf("ten %s: %v", strings.Join(args, " "), err)
	}
	return o.String(), e.String(), 0
}

// instances returns what `ten ps --all --json` lists, by name.
func (s *ten) instances() map[string]*api.Instance {
	s.t.Helper()
	var list []*api.Instance
	if err := json.Unmarshal([]byte(s.run("ps", "--all", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	byName := map[string]*api.Instance{}
	for _, i := range list {
		byName[i.Ref().String()] = i
	}
	return byName
}

// local calls the HTTP API through the admin socket.
func (s *ten) local(ctx context.Context, method, path string, out any) (index uint64, err error) {
	return s.send(ctx, method, path, nil, out)
}

// send is local with a body.
func (s *ten) send(ctx context.Context, method, path string, in, out any) (index uint64, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	c := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(s.dataDir, "ten.sock"))
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://ten"+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode >= 300 {
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return 0, fmt.Errorf("%w in %s", err, b)
		}
	}
	return strconv.ParseUint(resp.Header.Get("X-Tenement-Index"), 10, 64)
}

// waitState waits, by blocking queries, until the instance is in one of the states.
func (s *ten) waitState(ref string, states ...api.State) *api.Instance {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var index uint64
	var last api.State
	for {
		var in api.Instance
		next, err := s.local(ctx, "GET", fmt.Sprintf("/api/instances/%s?index=%d&wait=5s", ref, index), &in)
		if err != nil {
			s.t.Fatalf("wait for %s to be %v (last %s): %v", ref, states, last, err)
		}
		index, last = next, in.State()
		for _, want := range states {
			if last == want {
				return &in
			}
		}
	}
}

// tail keeps what a server printed.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// follow reads until EOF and closes serving at the line that says so.
func (l *tail) follow(r io.ReadCloser, serving chan struct{}) {
	defer r.Close()
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		l.mu.Lock()
		l.buf.Write(sc.Bytes())
		l.buf.WriteByte('\n')
		l.mu.Unlock()
		if serving != nil && strings.Contains(sc.Text(), "serving") {
			close(serving)
			serving = nil
		}
	}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// cleanEnv is the test's environment without what would steer ten.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TENEMENT_") {
			env = append(env, kv)
		}
	}
	return env
}

// need skips the test, visibly, when a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("skipped: %s is not installed", program)
	}
}
