package agent

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
)

// takePort has another process listen on the port that the next start is given, and lets
// the agent give it away all the same. The returned function ends that process.
func (n *realNode) takePort(t *testing.T) (port int, leave func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{envProgram + "=stranger", "PORT=" + strconv.Itoa(port)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	n.agent.ports.listen = func(int) bool { return true }
	n.agent.ports.ranges = [2]portRange{{all: []int{port}}}
	return port, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestStrangerOnPort: a neighbour that listens first on an instance's port gets none of
// its requests; the instance comes up when the neighbour has gone.
func TestStrangerOnPort(t *testing.T) {
	n := newRealNode(t)
	n.serve("shared")
	port, leave := n.takePort(t)
	defer leave()
	n.want(ref1, api.DesiredAsleep)
	woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
	n.awaitLog("stranger on port")
	select {
	case ep := <-n.opened:
		t.Fatalf("the gate opens to a stranger at %v", ep)
	default:
	}
	leave()
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	if ep := <-n.opened; ep.Address != fmt.Sprintf("127.0.0.1:%d", port) || get(t, ep) != 1 {
		t.Errorf("accepts connections at %v", ep)
	}
	for len(n.lines) > 0 {
		if line := <-n.lines; strings.Contains(line, "stranger on port") {
			t.Errorf("warned more than once: %s", line)
		}
	}
}

// TestStrangerStays: the start fails when its time is over, and says why.
func TestStrangerStays(t *testing.T) {
	n := newRealNode(t)
	n.serve("shared")
	n.put(func(s *api.Service) {
		runs("shared")(s)
		s.StartupTimeout, s.Restart = api.Duration(time.Second), api.RestartNever
	})
	port, leave := n.takePort(t)
	defer leave()
	n.want(ref1, api.DesiredAsleep)
	err := n.agent.Wake(t.Context(), ref1)
	wantCode(t, err, api.CodeTimeout)
	if want := fmt.Sprintf("listens on port %d, which is this instance's", port); !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to say %q", err, want)
	}
}

// TestStrangerAlone: the program itself finds the port taken.
func TestStrangerAlone(t *testing.T) {
	n := newRealNode(t)
	n.serve("tcp")
	n.put(func(s *api.Service) {
		s.Command, s.Args = "sh", []string{"-c", "until [ -e told ]; do sleep 0.01; done; exit 7"}
		s.Restart = api.RestartNever
	})
	_, leave := n.takePort(t)
	defer leave()
	n.want(ref1, api.DesiredAsleep)
	woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
	n.awaitLog("stranger on port")
	if err := os.WriteFile(filepath.Join(n.dataDir(ref1), "told"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := <-woken
	wantCode(t, err, api.CodeFailed)
	if want := "ended with exit code 7: another process (pid "; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to say %q", err, want)
	}
}

// TestAdoptedPortTaken: while no ten ran the program lost its port to a stranger; the
// next ten gives it another.
func TestAdoptedPortTaken(t *testing.T) {
	n := newRealNode(t)
	n.serve("once")
	n.want(ref1, api.DesiredRunning)
	if err := n.agent.Wake(t.Context(), ref1); err != nil {
		t.Fatal(err)
	}
	first := <-n.opened
	before, _ := n.agent.Observed(ref1)
	n.stop()
	if err := unix.Kill(before.PID, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	// It closes its listener; the test takes the port as soon as that is so.
	var l net.Listener
	for l == nil {
		l, _ = net.Listen("tcp", first.Address)
	}
	defer l.Close() //nolint:errcheck // only listens
	n.reopen()
	if ep := <-n.opened; ep != first {
		t.Fatalf("adopted at %v, want %v", ep, first)
	}
	if ep := <-n.opened; ep == first {
		t.Error("still at the stranger's port")
	} else if o, _ := n.agent.Observed(ref1); o.PID == before.PID {
		t.Error("still the same process")
	}
}
