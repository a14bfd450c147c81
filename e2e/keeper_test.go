package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// TestLastWords: a program prints and ends while no ten runs. The next ten has its lines,
// each once, whoever was ten before; and Ctrl-C leaves nobody behind.
func TestLastWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		isolation string
		upgrade   bool
	}{{"process", false}, {"namespace", false}, {"process", true}} {
		t.Run(fmt.Sprintf("%s upgrade=%t", tt.isolation, tt.upgrade), func(t *testing.T) {
			t.Parallel()
			const lines = 500
			if tt.isolation == "namespace" && !namespaces(t) {
				t.Skip("skipped: namespaces do not work on this machine, see ten doctor")
			}
			s := startTen(t, appConfig(fmt.Sprintf("isolation = %q", tt.isolation), fmt.Sprintf("APP_LAST = \"%d\"", lines))+
				"\n[instances]\napp = [\"one\"]\n")
			pid := s.waitState("app:one", api.StateRunning).Observed.PID
			before := s.oneKeeper()
			if tt.upgrade {
				s.run("upgrade")
				if after := s.oneKeeper(); after == before {
					t.Errorf("the successor left keeper %d in place", before)
				}
				successor := s.pid()
				if err := syscall.Kill(successor, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				waitGone(t, successor)
				s.terminate() // the one that was replaced, if it has not ended
			} else {
				s.kill()
			}
			if err := syscall.Kill(-pid, syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			waitGone(t, pid)
			s.start()
			s.checkLastWords(lines)
			s.oneKeeper()
			s.interrupt()
			if left := s.keepers(); len(left) != 0 {
				t.Errorf("keepers left: %v", left)
			}
		})
	}
}

// namespaces asks ten doctor whether the namespace isolation works here.
func namespaces(t *testing.T) bool {
	t.Helper()
	out, _, _ := newTen(t, "").exec("doctor", "--json")
	var checks []struct {
		Name string
		OK   bool
	}
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Name == "isolation namespace" {
			return c.OK
		}
	}
	t.Fatalf("ten doctor does not know: %s", out)
	return false
}

// checkLastWords waits for the last line and checks that all are there in order, once.
func (s *ten) checkLastWords(lines int) {
	s.t.Helper()
	last := fmt.Sprintf("last words %d of %d", lines, lines)
	var entries []api.LogEntry
	for deadline := time.Now().Add(patience); ; {
		if _, err := s.local(s.t.Context(), "GET", "/api/logs?process=app&id=one&level=stdout&limit=10000", &entries); err != nil {
			s.t.Fatal(err)
		}
		if len(entries) > 0 && entries[len(entries)-1].Message == last {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d lines, and not the last", len(entries))
		}
	}
	if len(entries) != lines {
		s.t.Errorf("%d lines, want %d", len(entries), lines)
	}
	for i, e := range entries {
		if want := fmt.Sprintf("last words %d of %d", i+1, lines); e.Message != want {
			s.t.Fatalf("line %d is %q", i+1, e.Message)
		}
	}
}

// oneKeeper waits until exactly one process keeps the server's pipes and returns its pid.
func (s *ten) oneKeeper() int {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := s.keepers()
		if len(got) == 1 {
			return got[0]
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d keepers: %v", len(got), got)
		}
	}
}

// keepers returns the processes that keep the server's pipes.
func (s *ten) keepers() (pids []int) {
	s.t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, proc := range procs {
		if b, _ := os.ReadFile(proc + "/cmdline"); string(b) != "ten: keeper of output pipes\x00" {
			continue
		}
		if dir, _ := os.Readlink(proc + "/fd/1"); dir == filepath.Join(s.dataDir, ".ten", "logs", "io") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			pids = append(pids, pid)
		}
	}
	return pids
}
