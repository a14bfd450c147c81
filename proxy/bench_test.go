package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/front"
	"github.com/tenement-fleet/tenement/proxy/route"
)

// benchRole makes the test binary be one of the processes of BenchmarkCPU.
const benchRole = "TENEMENT_PROXY_BENCH_ROLE"

// benchConns is the number of keep-alive connections of the load.
const benchConns = 64

const benchBody = "hello from the backend, which says about as much as a small page of JSON would\n"

// runBenchRole serves until its stdin ends: as the backend, as our proxy, or as the
// standard library's. It prints its address on a line.
func runBenchRole(role string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	backend := os.Getenv("TENEMENT_PROXY_BENCH_BACKEND")
	var h http.Handler
	switch role {
	case "backend":
		go serveBenchBackend(ln)
	case "ours":
		h = benchProxy(backend)
	case "reverseproxy":
		rp := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
		rp.Transport = &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}
		h = rp
	}
	if h != nil {
		go func() { _ = front.New(front.Config{Handler: h}).Serve(ln) }()
	}
	if f := os.Getenv("TENEMENT_PROXY_BENCH_PROFILE"); f != "" && role == "ours" {
		out, err := os.Create(f)
		if err != nil {
			panic(err)
		}
		_ = pprof.StartCPUProfile(out)
		defer pprof.StopCPUProfile()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// serveBenchBackend answers every request head alike, with next to no work.
func serveBenchBackend(ln net.Listener) {
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s",
		time.Now().UTC().Format(http.TimeFormat), len(benchBody), benchBody))
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			buf := make([]byte, 8<<10)
			for {
				if _, err := nc.Read(buf); err != nil {
					return
				}
				if _, err := nc.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

type noWaker struct{}

func (noWaker) Wake(context.Context, api.Ref) error { return api.Errorf(api.CodeFailed, "no") }

func benchProxy(backend string) http.Handler {
	router, err := route.New(route.Config{})
	if err != nil {
		panic(err)
	}
	s := &api.Service{Name: "app", Command: "true"}
	s.SetDefaults()
	router.PutService(s)
	i := &api.Instance{Service: "app", ID: "a"}
	i.SetDefaults()
	router.PutInstance(i)
	router.Open(i.Ref(), api.Endpoint{Network: "tcp", Address: backend})
	p, err := New(Config{Router: router, Waker: noWaker{}, Local: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return p
}

// process is a child in a role.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startProcess(b *testing.B, role, backend string) *process {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), benchRole+"="+role, "TENEMENT_PROXY_BENCH_BACKEND="+backend)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	p.addr = strings.TrimSpace(line)
	return p
}

// cpu returns the CPU time of all the process's threads.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		b.Skipf("no per-thread CPU times here: %v", err)
	}
	var sum time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(dir + "/" + t.Name() + "/schedstat")
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// BenchmarkCPU measures what one proxied request costs in CPU time of the proxy's own
// process: a small GET over each of 64 keep-alive connections in turn.
func BenchmarkCPU(b *testing.B) {
	backend := startProcess(b, "backend", "")
	for _, role := range []string{"ours", "reverseproxy"} {
		b.Run(role, func(b *testing.B) {
			p := startProcess(b, role, backend.addr)
			load(b, p.addr, 2000) // warm up
			before := p.cpu(b)
			b.ResetTimer()
			load(b, p.addr, b.N)
			b.StopTimer()
			b.ReportMetric(float64(p.cpu(b)-before)/float64(b.N)/1000, "µs-CPU/req")
		})
	}
}

func load(b *testing.B, addr string, requests int) {
	b.Helper()
	request := []byte("GET /some/path?with=query HTTP/1.1\r\nHost: a.app.localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(requests))
	var wg sync.WaitGroup
	for range benchConns {
		wg.Go(func() {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = nc.Close() }()
			buf := make([]byte, 4<<10)
			for left.Add(-1) >= 0 {
				if _, err := nc.Write(request); err != nil {
					b.Error(err)
					return
				}
				for got := 0; !strings.HasSuffix(string(buf[:got]), benchBody); {
					n, err := nc.Read(buf[got:])
					if err != nil {
						b.Errorf("read after %q: %v", buf[:got], err)
						return
					}
					got += n
				}
			}
		})
	}
	wg.Wait()
}
