package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A harness that finds nothing proves something only if it finds what is there. Mutants
// are this module with one mistake in it, made by the compiler's overlay: the sources stay
// as they are.

var mutantsFlag = flag.Bool("mutants", false, "build this module with mistakes in it, and see that they are found")

const (
	mutantEnv  = "TENEMENT_SIM_MUTANT"
	controlEnv = "TENEMENT_SIM_CONTROL" // the same simulations without the mistake
)

type edit struct{ file, old, new string }

type mutant struct {
	name  string
	edits []edit
	set   func(*setting) // what the simulation is to look at
	test  string         // instead: the test that fails
}

var mutants = []mutant{
	{
		name: "heartbeats past the main loop, scripted", test: "TestHeartbeatOfTheNextLeader",
		edits: []edit{heartbeats},
	},
	{
		name: "heartbeats past the main loop", edits: []edit{heartbeats},
		set: func(s *setting) {
			s.hesitate = 8 * time.Second
			s.focus = []fault{{"the leader cut off", cutLeader}, {"process killed", kill}, {"power cut", powerCut}, {"restart", restart}}
		},
	},
	{
		name: "disks that lie",
		set: func(s *setting) {
			s.lies = true
			s.focus = []fault{{"power cut of all", powerCutAll}, {"the leader cut off", cutLeader}}
		},
	},
	{
		name: "no barrier",
		edits: []edit{
			{"../leadership.go", "err := n.Barrier(ctx)", "var err error"},
			{"../leader/leader.go", "err := cfg.Cluster.Barrier(ctx)", "var err error"},
		},
		set: func(s *setting) {
			s.busy, s.far, s.focus = true, true, []fault{{"leader killed", killLeader}}
		},
	},
	{
		name:  "leases and reads without a quorum",
		edits: []edit{{"../consistent.go", "if n.several.Load() {", "if false {"}},
		set: func(s *setting) {
			s.busy, s.patient, s.focus = true, true, []fault{{"leader stopped", freezeLeader}}
		},
	},
}

var heartbeats = edit{
	"../transport.go", "func (steadyTransport) SetHeartbeatHandler(func(raft.RPC)) {}",
	"func (s steadyTransport) SetHeartbeatHandler(f func(raft.RPC)) { s.Transport.SetHeartbeatHandler(f) }",
}

const (
	mutantSeed  = 4711
	mutantRuns  = 20
	mutantLasts = 5 * time.Minute
)

// TestMutants builds each mutant and sees it caught, and the same simulations find
// nothing without the mistake.
func TestMutants(t *testing.T) {
	skipUnderRace(t)
	if !*mutantsFlag {
		t.Skip("builds everything anew for each mutant: run with -mutants, or make sim")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			run := m.test
			if run == "" {
				run = "TestMutant"
			}
			out, err := runMutant(t, m, run, mutantEnv+"="+m.name)
			if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
				t.Fatal(err)
			}
			found := false
			for line := range strings.Lines(out) {
				if !found && (strings.Contains(line, "caught") || strings.Contains(line, "two leaders")) {
					found = true
					t.Log(strings.TrimSpace(line))
				}
			}
			if err == nil || !found {
				t.Errorf("the mistake was not found: %v\n%s", err, out)
			}
			m.edits = nil
			if out, err := runMutant(t, m, run, mutantEnv+"="+m.name, controlEnv+"=1"); err != nil {
				t.Errorf("it is found where there is none: %v\n%s", err, out)
			} else {
				t.Log("the same without the mistake: nothing found")
			}
		})
	}
}

// runMutant runs one test of this package, built with the mistakes of a mutant.
func runMutant(t *testing.T, m mutant, test string, env ...string) (string, error) {
	dir := t.TempDir()
	replace := map[string]string{}
	for i, e := range m.edits {
		path, err := filepath.Abs(e.file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), e.old); n != 1 {
			t.Fatalf("%s holds %q %d times, want once: bring this mutant up to date", e.file, e.old, n)
		}
		changed := filepath.Join(dir, string(rune('a'+i))+".go")
		if err := os.WriteFile(changed, []byte(strings.Replace(string(b), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = changed
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-count=1", "-timeout=10m", "-run", "^"+test+"$", "-v", ".")
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestMutant is what runs inside a mutant. It fails as soon as the mistake is noticed.
func TestMutant(t *testing.T) {
	name := os.Getenv(mutantEnv)
	if name == "" {
		t.Skip("runs inside of mutants: see TestMutants")
	}
	for _, m := range mutants {
		if m.name != name {
			continue
		}
		began := time.Now()
		for i := range uint64(mutantRuns) {
			s := settingOf(mutantSeed + i)
			s.hosts, s.lasts, s.announce = 3, mutantLasts, true
			m.set(&s)
			if os.Getenv(controlEnv) != "" {
				s.lies = false
			}
			if o := simulate(t, s); len(o.violations) > 0 {
				t.Fatalf("caught after %d simulations, %s (seed %d): %s", i+1, time.Since(began).Round(time.Second), s.seed, o.violations[0])
			}
		}
	}
}
