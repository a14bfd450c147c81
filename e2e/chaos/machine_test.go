package chaos

import (
	"bytes"
	"context"
	"encoding/json"
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
)

// patience bounds every wait for something good.
const patience = 60 * time.Second

// machine is one server in its network namespace.
type machine struct {
	t       *testing.T
	name    string // of node and namespace
	ip      string
	dir     string
	dataDir string
	binary  string
	flags   []string
	env     []string
	token   *string // of all machines, once there is one
	client  *http.Client

	mu   sync.Mutex
	from int64 // where in the log the last start begins
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

func newMachine(t *testing.T, name, ip, dir string, token *string) *machine {
	m := &machine{
		t: t, name: name, ip: ip, dir: dir, dataDir: filepath.Join(dir, "d"), binary: tenBinary, token: token,
		flags: []string{"--bind", ip, "--node-name", name},
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // programs pass through it
		t.Fatal(err)
	}
	m.client = &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				d := net.Dialer{Timeout: time.Second}
				return d.DialContext(ctx, "tcp", net.JoinHostPort(m.ip, "8080"))
			},
			MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Second,
		},
	}
	return m
}

func (m *machine) logPath() string { return filepath.Join(m.dir, "log") }
func (m *machine) config() string  { return filepath.Join(m.dir, "tenement.toml") }

// launch starts ten without waiting for it to serve.
func (m *machine) launch() {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	log, err := os.OpenFile(m.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // ten has its own copy
	if info, err := log.Stat(); err == nil {
		m.from = info.Size()
	}
	args := []string{"--net=/run/netns/" + m.name, m.binary, "serve", "--config", m.config(), "--port", "8080", "--data-dir", m.dataDir}
	cmd := exec.Command("nsenter", append(args, m.flags...)...) //nolint:gosec // the arguments are ours
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(cleanEnv(), m.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // its state tells
	}()
	m.cmd, m.done = cmd, done
}

// start launches ten and waits until it serves.
func (m *machine) start() {
	m.t.Helper()
	m.launch()
	if err := m.serves(patience); err != nil {
		m.t.Fatal(err)
	}
}

// serves waits until ten answers, and says why it does not.
func (m *machine) serves(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		_, err := m.call(ctx, "GET", "/health", nil, nil)
		if err == nil {
			return nil
		}
		select {
		case <-m.done:
			return fmt.Errorf("%s: ten serve ended: %v: %s", m.name, m.cmd.ProcessState, m.tail(500))
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: ten does not serve after %s: %w: %s", m.name, limit, err, m.tail(500))
		}
	}
}

// signal sends a signal to ten.
func (m *machine) signal(sig syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(sig)
	}
}

// kill ends ten by SIGKILL; its programs live on.
func (m *machine) kill() { m.end(syscall.SIGKILL) }

func (m *machine) end(sig syscall.Signal) {
	m.signal(sig)
	if m.cmd == nil {
		return
	}
	select {
	case <-m.done:
	case <-time.After(patience):
		m.t.Errorf("%s: ten does not end on %v", m.name, sig)
		m.signal(syscall.SIGKILL)
		<-m.done
	}
	m.cmd = nil
	m.client.CloseIdleConnections()
}

// die ends ten and its programs, as a power cut does.
func (m *machine) die() {
	m.kill()
	m.wipeOut()
}

// wipeOut ends the programs, and the keeper of their output.
func (m *machine) wipeOut() {
	procs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, proc := range procs {
		env, _ := os.ReadFile(filepath.Join(proc, "environ"))
		out, _ := os.Readlink(filepath.Join(proc, "fd", "1"))
		if strings.Contains("\x00"+string(env), "\x00TENEMENT_DATA_DIR="+m.dataDir+"/") || strings.HasPrefix(out, m.dataDir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// tail returns the end of what ten printed.
func (m *machine) tail(n int) string {
	b, _ := os.ReadFile(m.logPath())
	return string(b[max(0, len(b)-n):])
}

// printed returns how many bytes ten has printed since it was started.
func (m *machine) printed() int {
	info, err := os.Stat(m.logPath())
	if err != nil {
		return 0
	}
	return int(info.Size() - m.from)
}

// statusError is an answer that is none of success.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %.300s", e.status, e.body) }

// call calls the HTTP API and returns the index of the answer.
func (m *machine) call(ctx context.Context, method, path string, in, out any) (index uint64, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+m.ip+":8080"+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if *m.token != "" {
		req.Header.Set("Authorization", "Bearer "+*m.token)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch raw, isRaw := out.(*[]byte); {
	case err != nil:
		return 0, err
	case resp.StatusCode >= 300:
		return 0, &statusError{resp.StatusCode, string(b)}
	case isRaw:
		*raw = b
	case out != nil:
		if err := json.Unmarshal(b, out); err != nil {
			return 0, fmt.Errorf("%w in %.300s", err, b)
		}
	}
	index, _ = strconv.ParseUint(resp.Header.Get("X-Tenement-Index"), 10, 64)
	return index, nil
}

// must is call for what has to work.
func (m *machine) must(method, path string, in, out any) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if _, err := m.call(ctx, method, path, in, out); err != nil {
		m.t.Fatalf("%s: %s %s: %v", m.name, method, path, err)
	}
}

// ask requests / of an instance and returns its pid.
func (m *machine) ask(ctx context.Context, id string) (pid int, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+id+".app.localhost/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode, string(b)}
	}
	if err != nil {
		return 0, err
	}
	var name string
	if _, err := fmt.Sscan(string(b), &name, &pid); err != nil || name != id {
		return 0, fmt.Errorf("%s is answered by %q", id, b)
	}
	return pid, nil
}

// ten runs a command against the server and returns what it prints.
func (m *machine) ten(args ...string) (string, error) {
	cmd := exec.Command(m.binary, append([]string{"--data-dir", m.dataDir}, args...)...) //nolint:gosec // the arguments are ours
	cmd.Env = cleanEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("ten %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TENEMENT_") {
			env = append(env, kv)
		}
	}
	return env
}

// signalAll lets what is stopped go on, so that it can end.
func (m *machine) signalAll() { m.signal(syscall.SIGCONT) }
