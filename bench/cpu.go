package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	loadConns    = 64
	loadRequests = 40000
)

// rival is one proxy under load: how it is reached and which processes it is.
type rival struct {
	name string
	addr string
	host string
	pids []int
	stop func()
}

// benchCPU compares the CPU time that each proxy spends on a small GET over 64
// keep-alive connections, all in front of the same backend.
func benchCPU(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	backend, _, err := startBare("/", []string{b.app}, dir)
	if err != nil {
		return err
	}
	defer backend.stop()

	var rivals []*rival
	defer func() {
		for _, r := range rivals {
			r.stop()
		}
	}()
	for _, start := range []func(context.Context, *bench, string, string) (*rival, error){tenRival, nginxRival, caddyRival} {
		r, err := start(ctx, b, dir, backend.addr)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Printf("skipped: %v\n", err)
			continue
		}
		if err != nil {
			return err
		}
		rivals = append(rivals, r)
	}
	medians, err := b.race(ctx, rivals)
	for _, r := range rivals {
		if r.name != "ten" && err == nil {
			fmt.Printf("ten uses %.2f × as much as %s\n", medians["ten"]/medians[r.name], r.name)
		}
	}
	return err
}

// race puts load on the rivals in turns and returns the µs of CPU time that each spends on
// a request, the median of the rounds.
func (b *bench) race(ctx context.Context, rivals []*rival) (map[string]float64, error) {
	rounds, requests := b.scaled(7), max(loadConns, b.scaled(loadRequests))
	perRequest := map[string][]float64{}
	for round := range rounds + 1 {
		for _, r := range rivals {
			before := cpuTime(r.pids)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := load(r.addr, r.host, loadConns, requests); err != nil {
				return nil, fmt.Errorf("load %s: %w", r.name, err)
			}
			if round > 0 { // the first round warms up
				perRequest[r.name] = append(perRequest[r.name], (cpuTime(r.pids)-before).Seconds()*1e6/float64(requests))
			}
		}
	}
	medians := map[string]float64{}
	for _, r := range rivals {
		v := slices.Sorted(slices.Values(perRequest[r.name]))
		medians[r.name] = v[len(v)/2]
		fmt.Printf("%-8s %6.1f µs CPU per request (min %.1f, max %.1f, n=%d)\n", r.name, medians[r.name], v[0], v[len(v)-1], len(v))
	}
	return medians, nil
}

// tenRival starts the backend program itself, as its instance.
func tenRival(ctx context.Context, b *bench, _, _ string) (*rival, error) {
	n, err := b.startNode(ctx, service("app", []string{b.app}, "process"))
	if err != nil {
		return nil, err
	}
	if _, err := firstByte(n.addr(), "x.app.localhost", "/"); err != nil {
		n.stop()
		return nil, err
	}
	return &rival{name: "ten", addr: n.addr(), host: "x.app.localhost", pids: []int{n.cmd.Process.Pid}, stop: n.stop}, nil
}

func nginxRival(_ context.Context, _ *bench, dir, backend string) (*rival, error) {
	bin, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("find nginx: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  keepalive_requests 1000000000;
  upstream app { server %[2]s; keepalive 64; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:%[3]d; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; } } }
`, dir, backend, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write nginx.conf: %w", err)
	}
	return startRival("nginx", port, exec.Command(bin, "-c", conf, "-p", dir)) //nolint:gosec // found in PATH
}

func caddyRival(_ context.Context, _ *bench, dir, backend string) (*rival, error) {
	bin, err := exec.LookPath("caddy")
	if err != nil {
		return nil, fmt.Errorf("find caddy: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\nhttp://:%d {\n\treverse_proxy %s {\n\t\ttransport http {\n\t\t\tkeepalive_idle_conns_per_host 64\n\t\t}\n\t}\n}\n", port, backend)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write Caddyfile: %w", err)
	}
	cmd := exec.Command(bin, "run", "--config", conf, "--adapter", "caddyfile") //nolint:gosec // found in PATH
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return startRival("caddy", port, cmd)
}

func startRival(name string, port int, cmd *exec.Cmd) (*rival, error) {
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r := &rival{name: name, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), host: "localhost", pids: []int{cmd.Process.Pid}}
	r.stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := firstByte(r.addr, r.host, "/"); err == nil {
			return r, nil
		} else if time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("start %s: %w\n%s", name, err, out)
		}
	}
}

// load sends requests over keep-alive connections and checks every status.
func load(addr, host string, conns, requests int) error {
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	for range conns {
		wg.Go(func() { errs <- loadConn(addr, host, requests/conns) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func loadConn(addr, host string, requests int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // done with it
	r := bufio.NewReader(conn)
	request := []byte("GET / HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	for range requests {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("got %s", resp.Status)
		}
	}
	return nil
}

// cpuTime returns the user and system time that processes have used, from
// /proc/PID/stat in ticks of 10 ms.
func cpuTime(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
		u, _ := strconv.ParseInt(f[11], 10, 64)
		s, _ := strconv.ParseInt(f[12], 10, 64)
		ticks += u + s
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rss returns a process's resident memory in bytes.
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(syscall.Getpagesize())
}
