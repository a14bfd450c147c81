package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestKillNine: kill -9 of ten with busy instances; afterwards the same pids, and every
// line that the programs numbered is there exactly once.
func TestKillNine(t *testing.T) {
	// So often that all lines of the test fit into one answer of the API.
	instances, rounds, tick := 10, 3, "2ms"
	if long() {
		instances, rounds, tick = 50, 20, "20ms"
	}
	var ids []string
	for i := range instances {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprintf("i%d", i)))
	}
	s := startTen(t, appConfig("", "APP_TICK = \""+tick+"\"")+"\n[instances]\napp = ["+strings.Join(ids, ",")+"]\n")
	pids := map[string]int{}
	for i := range instances {
		ref := fmt.Sprintf("app:i%d", i)
		pids[ref] = s.waitState(ref, api.StateRunning).Observed.PID
	}

	for round := range rounds {
		stopLoad := s.load(instances)
		waitTicks(t, s, "app:i0")
		s.kill()
		stopLoad()
		s.start()
		for ref, in := range s.instances() {
			if in.Observed == nil || in.Observed.PID != pids[ref] {
				t.Fatalf("round %d: %s: observed %+v, want pid %d", round, ref, in.Observed, pids[ref])
			}
		}
	}
	waitTicks(t, s, "app:i0")
	for ref, pid := range pids {
		checkTicks(t, s, ref, pid)
	}
}

// load requests all instances until the returned function is called.
func (s *ten) load(instances int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				_, _, _ = s.try("GET", fmt.Sprintf("i%d.app.localhost", i%instances), "/", "")
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// waitTicks follows the log until 20 more lines have come.
func waitTicks(t *testing.T, s *ten, ref string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tenBinary, "--data-dir", s.dataDir, "logs", ref, "-f", "--json")
	cmd.Env = cleanEnv()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	for n := 0; n < 120 && sc.Scan(); n++ {
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("no new lines of %s", ref)
	}
}

// checkTicks reads the whole log of ref: numbers 1, 2, 3 … without gap or repeat.
func checkTicks(t *testing.T, s *ten, ref string, pid int) {
	t.Helper()
	service, id, _ := strings.Cut(ref, ":")
	var entries []api.LogEntry
	if _, err := s.local(t.Context(), "GET", fmt.Sprintf("/api/logs?process=%s&id=%s&level=stdout&limit=10000", service, id), &entries); err != nil {
		t.Fatal(err)
	}
	last := 0
	for i, e := range entries {
		var n, by int
		if _, err := fmt.Sscanf(e.Message, "tick %d of %d", &n, &by); err != nil {
			t.Fatalf("%s: line %q", ref, e.Message)
		}
		if i > 0 && n != last+1 {
			t.Fatalf("%s: tick %d follows %d", ref, n, last)
		}
		if i == 0 && n != 1 {
			t.Fatalf("%s: the first tick is %d", ref, n)
		}
		last = n
	}
	if last < 20 {
		t.Errorf("%s: only %d ticks", ref, last)
	}
}

// TestUpgradeUnderLoad: ten is replaced while requests come; none fails, no instance restarts.
func TestUpgradeUnderLoad(t *testing.T) {
	rounds := 2
	if long() {
		rounds = 10
	}
	s := startTen(t, appConfig("", "")+"\n[instances]\napp = [\"one\", \"two\"]\n")
	pid := s.waitState("app:one", api.StateRunning).Observed.PID
	s.waitState("app:two", api.StateRunning)

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	var wg sync.WaitGroup
	var served, failed atomic.Int64
	answers := make(chan struct{}, 1)
	for w := range 8 {
		wg.Go(func() {
			host := []string{"one.app.localhost", "two.app.localhost", "app.localhost"}[w%3]
			for ctx.Err() == nil {
				path := "/"
				if w == 7 {
					path = "/slow?d=300ms"
				}
				status, body, err := s.try("POST", host, path, "x")
				if err != nil || status != 200 {
					failed.Add(1)
					t.Errorf("request during upgrade: %d %q %v", status, body, err)
					cancel()
					return
				}
				served.Add(1)
				select {
				case answers <- struct{}{}:
				default:
				}
			}
		})
	}
	for range rounds {
		before := served.Load()
		s.run("upgrade")
		for ctx.Err() == nil && served.Load() < before+200 {
			select {
			case <-answers:
			case <-ctx.Done():
			}
		}
	}
	if ctx.Err() != nil && failed.Load() == 0 {
		t.Errorf("only %d requests were answered in %s", served.Load(), patience)
	}
	cancel()
	wg.Wait()
	t.Logf("%d requests over %d upgrades, %d failed", served.Load(), rounds, failed.Load())
	if got := s.instances()["app:one"].Observed.PID; got != pid {
		t.Errorf("app:one was restarted: pid %d, was %d", got, pid)
	}
	s.adopt()
}

// adopt makes the harness end the server that an upgrade left behind: it is no child
// of the test, so its pid comes from the server itself.
func (s *ten) adopt() {
	s.t.Helper()
	pid := s.pid()
	s.t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGINT)
		waitGone(s.t, pid)
	})
}

// pid returns the process id of the server that answers.
func (s *ten) pid() int {
	s.t.Helper()
	var telemetry api.Telemetry
	if _, err := s.local(s.t.Context(), "GET", "/api/telemetry", &telemetry); err != nil {
		s.t.Fatal(err)
	}
	return telemetry.PID
}

func goBuild(t *testing.T, pkg string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", bin, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return bin
}
