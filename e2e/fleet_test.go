package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fleet is several servers on addresses of the loopback network that are theirs alone, so
// that each has the default ports, as on machines of their own.
type fleet struct {
	t     *testing.T
	nodes []*ten
}

// newFleet returns servers that are not started yet. The first has the configuration.
func newFleet(t *testing.T, n int, toml string) *fleet {
	t.Helper()
	f := &fleet{t: t}
	net := freeNet(t)
	for i := range n {
		if i > 0 {
			toml = ""
		}
		s := newTen(t, toml)
		s.host, s.port = net+strconv.Itoa(i+1), 8080
		s.flags = []string{"--bind", s.host, "--node-name", fmt.Sprintf("n%d", i+1)}
		f.nodes = append(f.nodes, s)
		t.Cleanup(s.wipeOut) // before newTen's own, which could wait for what hangs
	}
	return f
}

// startFleet starts the first server and has the others join it with its secret.
func startFleet(t *testing.T, n int, toml string) *fleet {
	t.Helper()
	f := newFleet(t, n, toml)
	f.nodes[0].start()
	for _, s := range f.nodes[1:] {
		s.flags = append(s.flags, "--join", f.nodes[0].host, "--secret-file", filepath.Join(f.nodes[0].dataDir, ".ten", "secret"))
	}
	f.each(f.nodes[1:], (*ten).start)
	return f
}

func (f *fleet) each(nodes []*ten, do func(*ten)) {
	var wg sync.WaitGroup
	for _, s := range nodes {
		wg.Go(func() { do(s) })
	}
	wg.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// freeNet returns the first three bytes of a part of 127.0.0.0/8 that nobody uses.
func freeNet(t *testing.T) string {
	t.Helper()
	listens := func(address string) error {
		ln, err := net.Listen("tcp", address)
		if err == nil {
			_ = ln.Close()
		}
		return err
	}
	if err := listens("127.11.11.11:0"); err != nil {
		t.Skipf("skipped: this machine has no 127.0.0.0/8: %v", err)
	}
	var err error
	for range 100 {
		prefix := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(250)) //nolint:gosec // no secret
		if err = listens(prefix + "1:7947"); err == nil {
			return prefix
		}
	}
	t.Fatal(err) // such as for a server that listens on every address
	return ""
}

// die ends what would end with the machine, at once: ten and its programs.
func (s *ten) die() {
	s.kill()
	s.wipeOut()
}

// wipeOut kills what the server has left behind, whether it was told to or not.
func (s *ten) wipeOut() {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, proc := range procs {
		env, _ := os.ReadFile(filepath.Join(proc, "environ"))
		args, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		if strings.HasPrefix(string(args), "ten: guard of leases\x00"+s.dataDir+"/") || strings.Contains(string(env), "\x00TENEMENT_DATA_DIR="+s.dataDir+"/") || strings.HasPrefix(string(env), "TENEMENT_DATA_DIR="+s.dataDir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, pid := range s.keepers() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// cluster returns what the server says of the cluster.
func (s *ten) cluster() api.ClusterStatus {
	s.t.Helper()
	var c api.ClusterStatus
	if _, err := s.local(s.t.Context(), "GET", "/api/cluster", &c); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// owners returns on which server each instance of the fleet is, and its pid; it waits
// until all run.
func (f *fleet) owners(by *ten, refs ...string) (owner map[string]*ten, pids map[string]int) {
	f.t.Helper()
	names := map[string]string{}
	for _, m := range by.cluster().Members {
		names[m.ID] = m.Name
	}
	owner, pids = map[string]*ten{}, map[string]int{}
	for _, ref := range refs {
		in := by.waitState(ref, api.StateRunning)
		pids[ref] = in.Observed.PID
		n, err := strconv.Atoi(strings.TrimPrefix(names[in.Node], "n"))
		if err != nil {
			f.t.Fatalf("%s is on node %q, %q", ref, in.Node, names[in.Node])
		}
		owner[ref] = f.nodes[n-1]
	}
	return owner, pids
}

// put puts an object through the server's HTTP API.
func (s *ten) put(path string, body any) {
	s.t.Helper()
	if _, err := s.send(s.t.Context(), "PUT", path, body, nil); err != nil {
		s.t.Fatal(err)
	}
}

// until repeats do, for which there is nothing that could be waited on, until it says
// that all is well; it returns how long that took.
func until(t *testing.T, limit time.Duration, do func() error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := time.Now()
	for {
		err := do()
		if err == nil {
			return time.Since(begin)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("after %s: %v", limit, err)
		}
	}
}

// answers returns nil if the instance answers requests through the server, with its pid.
func (s *ten) answers(ref string) (pid int, err error) {
	service, id, _ := strings.Cut(ref, ":")
	status, body, err := s.try("GET", id+"."+service+".localhost", "/", "")
	if err != nil {
		return 0, err
	}
	var name string
	if _, err := fmt.Sscan(body, &name, &pid); status != 200 || err != nil || name != ref && name != id {
		return 0, fmt.Errorf("%s through %s: %d %q", ref, s.host, status, body)
	}
	return pid, nil
}
