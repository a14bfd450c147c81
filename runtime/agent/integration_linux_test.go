package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/health"
	"github.com/tenement-fleet/tenement/runtime/process"
)

func reusePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// realNode is a node with real processes, and real time.
type realNode struct {
	*node
	readiness *health.Readiness
	driver    driver.Driver
	opened    chan api.Endpoint
	lines     lines
}

// lines takes a log and hands it out by line.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default: // nobody cares
	}
	return len(b), nil
}

// awaitLog returns when a line of the log has the text.
func (n *realNode) awaitLog(text string) {
	for line := range n.lines {
		if strings.Contains(line, text) {
			return
		}
	}
}

func newRealNode(t *testing.T) *realNode {
	t.Helper()
	drv, err := process.New()
	if err == nil {
		err = drv.Probe(t.Context())
	}
	if err != nil {
		t.Skip(err)
	}
	n := &realNode{
		node: newNode(t), driver: drv, readiness: health.NewReadiness(health.Config{}),
		opened: make(chan api.Endpoint, 1000), lines: make(lines, 1000),
	}
	n.boot, n.canListen = "", canListen
	t.Cleanup(func() {
		if err := errors.Join(n.agent.StopAll(context.Background()), n.agent.Close(context.Background()), n.readiness.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *realNode) Open(ref api.Ref, ep api.Endpoint) {
	n.move(ref, gateOpen)
	n.opened <- ep
}

// runs has the service run a program of the test binary.
func runs(kind string) func(*api.Service) {
	return func(s *api.Service) {
		s.Command = os.Args[0]
		s.Env = map[string]string{envProgram: kind}
		s.Health = "/"
	}
}

func (n *realNode) serve(kind string) {
	n.put(runs(kind))
	n.reopen()
}

// reopen starts an agent, after the former one, if any, was stopped.
func (n *realNode) reopen() {
	n.open(func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(n.lines, nil))
		c.Drivers = map[api.Isolation]driver.Driver{api.IsolationProcess: n.driver}
		c.Gate, c.Readiness, c.Checker = n, n.readiness, health.NewChecker(health.CheckerConfig{})
	})
}

// get asks the instance behind the endpoint how often it was started.
func get(t *testing.T, ep api.Endpoint) (starts int) {
	t.Helper()
	conn, err := net.Dial(ep.Network, ep.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // read from only
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var status, proto string
	buf := make([]byte, 4096)
	size := 0
	for {
		n, err := conn.Read(buf[size:])
		size += n
		if err != nil {
			break
		}
	}
	if _, err := fmt.Sscan(string(buf[:size]), &proto, &status); err != nil || status != "200" {
		t.Fatalf("answer %q", buf[:size])
	}
	_, _ = fmt.Sscan(string(buf[size-1:size]), &starts)
	return starts
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestRealProcesses: wake, serve, sleep with the data intact, on a port and on a socket.
func TestRealProcesses(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			n := newRealNode(t)
			n.serve(network)
			n.want(ref1, api.DesiredAsleep)
			var before int
			for i := range 5 {
				if err := n.agent.Wake(t.Context(), ref1); err != nil {
					t.Fatal(err)
				}
				ep := <-n.opened
				if ep.Network != network {
					t.Errorf("accepts connections at %v, want %s", ep, network)
				}
				if got := get(t, ep); got != i+1 {
					t.Errorf("started %d times, want %d", got, i+1)
				}
				if err := n.agent.Sleep(t.Context(), ref1); err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					before = openFiles(t)
				}
				// A check that was under way may hold its connection a moment longer.
				for deadline := time.Now().Add(10 * time.Second); i > 1 && openFiles(t) > before; runtime.Gosched() {
					if time.Now().After(deadline) {
						t.Fatalf("%d files open, were %d", openFiles(t), before)
					}
				}
			}
		})
	}
}

// TestRealAdoption: the next agent goes on with the same process, and sees it end.
func TestRealAdoption(t *testing.T) {
	n := newRealNode(t)
	n.serve("tcp")
	n.want(ref1, api.DesiredRunning)
	if err := n.agent.Wake(t.Context(), ref1); err != nil {
		t.Fatal(err)
	}
	<-n.opened
	before, _ := n.agent.Observed(ref1)
	for range 3 {
		n.stop()
		n.serve("tcp")
		ep := <-n.opened
		if got := get(t, ep); got != 1 {
			t.Fatalf("started %d times, want 1", got)
		}
		if o, _ := n.agent.Observed(ref1); o.PID != before.PID {
			t.Fatalf("pid %d, want %d", o.PID, before.PID)
		}
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ep := <-n.opened // the request that meets the crash waits for this
	if got := get(t, ep); got != 2 {
		t.Errorf("started %d times, want 2", got)
	}
	if o, _ := n.agent.Observed(ref1); o.Restarts != 1 || o.PID == before.PID {
		t.Errorf("observed %+v", o)
	}
}

// TestRealFailures: what a program's own fault looks like.
func TestRealFailures(t *testing.T) {
	n := newRealNode(t)
	n.serve("tcp")
	n.put(func(s *api.Service) { s.Command = "/no/such/program" })
	n.want(ref1, api.DesiredAsleep)
	err := n.agent.Wake(t.Context(), ref1)
	wantCode(t, err, api.CodeFailed)
	if want := "start web:one: execute /no/such/program: no such file or directory"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}

	n.put(func(s *api.Service) { s.Command, s.Args, s.Restart = "sh", []string{"-c", "exit 7"}, api.RestartNever })
	err = n.agent.Wake(t.Context(), ref1)
	wantCode(t, err, api.CodeFailed)
	if want := "start web:one: ended with exit code 7"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}
