package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// program is something to wake, as an argument vector.
type program struct {
	name string
	need string // must be in PATH
	argv func(b *bench) []string
	file string // content of main.EXT beside it, if any
	ext  string
}

const pythonHTTP = `import os, http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "3"); self.end_headers(); self.wfile.write(b"ok\n")
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
`

const nodeHTTP = `require('node:http').createServer((q, r) => r.end('ok\n')).listen(+process.env.PORT, '127.0.0.1');
`

func programs(dir string) []program {
	return []program{
		{"python", "python3", func(*bench) []string { return []string{realPath("python3"), filepath.Join(dir, "main.py")} }, pythonHTTP, "py"},
		{"node", "node", func(*bench) []string { return []string{realPath("node"), filepath.Join(dir, "main.js")} }, nodeHTTP, "js"},
		{"go", "go", func(b *bench) []string { return []string{b.app} }, "", ""},
	}
}

// realPath returns the interpreter itself, past version-manager shims, so that both
// sides start the same program.
func realPath(name string) string {
	if name == "python3" {
		if out, err := exec.Command(name, "-c", "import sys; print(sys.executable, end='')").Output(); err == nil {
			return string(out)
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return name
	}
	return p
}

func benchWake(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	rounds := b.scaled(25)
	for _, p := range programs(dir) {
		if _, err := exec.LookPath(p.need); err != nil {
			fmt.Printf("%-7s skipped: %s is not installed\n", p.name, p.need)
			continue
		}
		if p.file != "" {
			if err := os.WriteFile(filepath.Join(dir, "main."+p.ext), []byte(p.file), 0o600); err != nil {
				return fmt.Errorf("write program: %w", err)
			}
		}
		if err := b.wakeOne(ctx, p, dir, rounds); err != nil {
			return err
		}
	}
	return nil
}

// wakeOne interleaves bare starts with wakes under both isolation levels.
func (b *bench) wakeOne(ctx context.Context, p program, dir string, rounds int) error {
	argv := p.argv(b)
	n, err := b.startNode(ctx, service("proc", argv, "process")+service("ns", argv, "namespace"))
	if err != nil {
		return err
	}
	defer n.stop()
	var floor, proc, ns sample
	for i := range rounds + 2 {
		bp, took, err := startBare("/", argv, dir)
		if err != nil {
			return err
		}
		bp.stop()
		a, err := n.wakeTime(ctx, "proc")
		if err != nil {
			return err
		}
		c, err := n.wakeTime(ctx, "ns")
		if err != nil {
			return err
		}
		if i >= 2 { // the first two warm the caches
			floor, proc, ns = append(floor, took), append(proc, a), append(ns, c)
		}
	}
	fmt.Printf("%-7s bare       %s\n", p.name, floor)
	fmt.Printf("%-7s process    %s: bare %+.2f ms\n", p.name, proc, float64(proc.median()-floor.median())/1e6)
	fmt.Printf("%-7s namespace  %s: bare %+.2f ms\n", p.name, ns, float64(ns.median()-floor.median())/1e6)
	return nil
}

// wakeTime puts the service's instance "x" to sleep and returns the time to the first
// byte of the request that wakes it.
func (n *node) wakeTime(ctx context.Context, svc string) (time.Duration, error) {
	if _, err := firstByte(n.addr(), "x."+svc+".localhost", "/"); err != nil {
		return 0, fmt.Errorf("reach %s: %w\n%s", svc, err, n.output)
	}
	if err := n.sleep(ctx, svc+":x"); err != nil {
		return 0, err
	}
	return firstByte(n.addr(), "x."+svc+".localhost", "/")
}

// service is a [service.NAME] table for an argument vector.
func service(name string, argv []string, isolation string) string {
	s := fmt.Sprintf("[service.%s]\ncommand = %q\nisolation = %q\nstartup_timeout = 60\nargs = [", name, argv[0], isolation)
	for _, a := range argv[1:] {
		s += fmt.Sprintf("%q, ", a)
	}
	return s + "]\n"
}

func benchHerd(ctx context.Context, b *bench) error {
	n, err := b.startNode(ctx, service("app", []string{b.app}, "process"))
	if err != nil {
		return err
	}
	defer n.stop()
	if _, err := n.wakeTime(ctx, "app"); err != nil {
		return err
	}
	if err := n.sleep(ctx, "app:x"); err != nil {
		return err
	}
	const herd = 1000
	start := time.Now()
	ok, last := n.burst(herd, func(int) string { return "x.app.localhost" })
	took := time.Since(start)
	starts, err := os.ReadFile(filepath.Join(n.dataDir, "app", "x", "starts"))
	if err != nil {
		return fmt.Errorf("count starts: %w", err)
	}
	fmt.Printf("%d of %d answered 200 in %s; starts by this herd: %d (bar: 1)\n", ok, herd, ms(took), len(starts)-2)
	return last
}

// burst sends count requests at once and returns how many got 200 and the last failure.
func (n *node) burst(count int, host func(i int) string) (ok int, last error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			_, err := firstByte(n.addr(), host(i), "/")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				last = err
			} else {
				ok++
			}
		})
	}
	wg.Wait()
	return ok, last
}

func benchStorm(ctx context.Context, b *bench) error {
	if _, err := exec.LookPath("python3"); err != nil {
		fmt.Println("skipped: python3 is not installed")
		return nil
	}
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(pythonHTTP), 0o600); err != nil {
		return fmt.Errorf("write program: %w", err)
	}
	argv := []string{realPath("python3"), filepath.Join(dir, "main.py")}
	count := b.scaled(500)
	parallel := max(4, 2*runtime.NumCPU())
	var floor, woken sample
	for range 3 {
		took, err := bareStorm(argv, dir, count, parallel)
		if err != nil {
			return err
		}
		floor = append(floor, took)
		took, err = b.tenStorm(ctx, argv, count)
		if err != nil {
			return err
		}
		woken = append(woken, took)
	}
	fmt.Printf("bare, %d at a time  %s\n", parallel, floor)
	fmt.Printf("ten, all at once   %s: %.2f × bare (bar: 1.25)\n", woken, float64(woken.median())/float64(floor.median()))
	return nil
}

func bareStorm(argv []string, dir string, count, parallel int) (time.Duration, error) {
	var mu sync.Mutex
	var failed error
	var started []*bare
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	start := time.Now()
	for range count {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			p, _, err := startBare("/", argv, dir)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			started = append(started, p)
		})
	}
	wg.Wait()
	took := time.Since(start)
	for _, p := range started {
		p.stop()
	}
	return took, failed
}

func (b *bench) tenStorm(ctx context.Context, argv []string, count int) (time.Duration, error) {
	n, err := b.startNode(ctx, service("py", argv, "process"))
	if err != nil {
		return 0, err
	}
	defer n.stop()
	for i := range count {
		in := map[string]any{"service": "py", "id": fmt.Sprintf("i%d", i), "desired": "asleep"}
		if _, err := n.call(ctx, "PUT", fmt.Sprintf("/api/instances/py:i%d", i), in, nil); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	ok, last := n.burst(count, func(i int) string { return fmt.Sprintf("i%d.py.localhost", i) })
	took := time.Since(start)
	if ok != count {
		return 0, fmt.Errorf("%d of %d answered 200; last failure: %w", ok, count, last)
	}
	return took, nil
}
