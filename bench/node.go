package main

import (
	"bufio"
	"bytes"
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
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// node is one `ten serve` under measurement.
type node struct {
	ten     string
	dir     string
	dataDir string
	config  string
	name    string // in its fleet
	host    string
	port    int
	flags   []string // besides these
	cmd     *exec.Cmd
	output  *lockedBuffer
	admin   *http.Client
}

// startNode serves the given tenement.toml from a directory of its own.
func (b *bench) startNode(ctx context.Context, toml string) (*node, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	n, err := b.newNode("127.0.0.1", port, toml)
	if err != nil {
		return nil, err
	}
	return n, n.start(ctx)
}

// newNode makes the directory of a server and does not start it yet.
func (b *bench) newNode(host string, port int, toml string) (*node, error) {
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return nil, fmt.Errorf("make node: %w", err)
	}
	n := &node{
		ten: b.ten, dir: dir, dataDir: filepath.Join(dir, "d"), config: filepath.Join(dir, "tenement.toml"),
		host: host, port: port, output: &lockedBuffer{},
	}
	if err := os.WriteFile(n.config, []byte(toml), 0o600); err != nil {
		return nil, fmt.Errorf("make node: %w", err)
	}
	n.admin = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 128,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", n.socket())
		},
	}}
	return n, nil
}

// start runs the server and returns once /health answers 200.
func (n *node) start(ctx context.Context) error {
	args := []string{"serve", "--config", n.config, "--data-dir", n.dataDir, "--port", strconv.Itoa(n.port)}
	n.cmd = exec.Command(n.ten, append(args, n.flags...)...) //nolint:gosec // our own binary
	n.cmd.Stdout, n.cmd.Stderr = n.output, n.output
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("start ten: %w", err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		if err := n.healthy(); err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			n.stop()
			return fmt.Errorf("start ten: no answer:\n%s", n.output)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func (n *node) addr() string { return net.JoinHostPort(n.host, strconv.Itoa(n.port)) }

func (n *node) socket() string { return filepath.Join(n.dataDir, "ten.sock") }

func (n *node) healthy() error {
	_, err := firstByte(n.addr(), "localhost", "/health")
	return err
}

// halt ends the server; its programs go on.
func (n *node) halt(sig syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(sig)
	_ = n.cmd.Wait()
	n.cmd = nil
}

// stop ends the server and its programs and removes its directory.
func (n *node) stop() {
	n.admin.CloseIdleConnections()
	n.halt(syscall.SIGINT)
	_ = os.RemoveAll(n.dir)
}

// call makes an API call through the admin socket.
func (n *node) call(ctx context.Context, method, path string, in, out any) (uint64, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://ten"+path, body)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.admin.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return 0, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	index, _ := strconv.ParseUint(resp.Header.Get("X-Tenement-Index"), 10, 64)
	return index, nil
}

// sleep puts an instance to sleep and waits until it is.
func (n *node) sleep(ctx context.Context, ref string) error {
	if _, err := n.call(ctx, "DELETE", "/api/instances/"+ref, nil, nil); err != nil {
		return err
	}
	return n.waitState(ctx, ref, api.StateAsleep)
}

// waitState waits, by blocking queries, until an instance is in a state.
func (n *node) waitState(ctx context.Context, ref string, state api.State) error {
	var index uint64
	for {
		var in api.Instance
		next, err := n.call(ctx, "GET", fmt.Sprintf("/api/instances/%s?index=%d&wait=10s", ref, index), nil, &in)
		if err != nil {
			return err
		}
		if in.State() == state {
			return nil
		}
		index = next
	}
}

// firstByte makes one request on a new connection and returns the time from before the
// dial to the first byte of a 200 answer.
func firstByte(addr, host, path string) (time.Duration, error) {
	return firstByteWithin(2*time.Minute, addr, host, path)
}

func firstByteWithin(limit time.Duration, addr, host, path string) (time.Duration, error) {
	start := time.Now()
	conn, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // one request only
	if err := conn.SetDeadline(start.Add(limit)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host); err != nil {
		return 0, err
	}
	r := bufio.NewReader(conn)
	if _, err := r.Peek(1); err != nil {
		return 0, err
	}
	took := time.Since(start)
	status, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if !strings.Contains(status, " 200 ") {
		return 0, fmt.Errorf("GET %s%s: %s", host, path, strings.TrimSpace(status))
	}
	return took, nil
}

// bare is a program started without ten, for comparison.
type bare struct {
	cmd  *exec.Cmd
	addr string
}

// startBare starts a program and polls its port until the first byte of an answer.
func startBare(path string, argv []string, dir string, env ...string) (*bare, time.Duration, error) {
	port, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	p := &bare{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:gosec // the benchmark's own programs
	p.cmd.Dir = dir
	// The clean environment that ten gives: what else is set here would slow the rival down.
	p.cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "PORT="+strconv.Itoa(port), "TENEMENT_DATA_DIR="+dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	for time.Since(start) < 60*time.Second {
		if _, err := firstByte(p.addr, "localhost", path); err == nil {
			return p, time.Since(start), nil
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			p.stop()
			return nil, 0, err
		}
		nap := syscall.Timespec{Nsec: 200_000}
		_ = syscall.Nanosleep(&nap, nil)
	}
	p.stop()
	return nil, 0, fmt.Errorf("start %s: no answer", argv[0])
}

func (p *bare) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.cmd.Wait()
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer ln.Close() //nolint:errcheck // only its number is wanted
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func build(ctx context.Context, target, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, pkg) //nolint:gosec // our own packages
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// lockedBuffer keeps what a process printed.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns the last part of what was printed.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.buf.String()
	return s[max(0, len(s)-4000):]
}
