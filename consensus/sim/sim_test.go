package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"go.uber.org/goleak"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "first seed of the simulations; 0 draws one")
	hoursFlag = flag.Float64("hours", 0.3, "simulated cluster-hours")
	runsFlag  = flag.Int("runs", 0, "simulations, instead of -hours")
	sayFlag   = flag.Bool("say", false, "print what happens")
	minutes   = flag.Duration("lasts", 10*time.Minute, "simulated time of each simulation")
)

func TestMain(m *testing.M) {
	cfg := metrics.DefaultConfig("")
	cfg.EnableHostname, cfg.EnableRuntimeMetrics = false, false
	if _, err := metrics.NewGlobal(cfg, &sink{}); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// hesitation is what new leaders do before they begin; nil for nothing.
var hesitation atomic.Pointer[func()]

// sink is where Raft's own metrics go. It is the one place where Raft calls out between
// winning an election and beginning to lead, without a lock: so a process is made to
// hesitate there as if it were not scheduled.
type sink struct{ metrics.BlackholeSink }

func (*sink) IncrCounterWithLabels(key []string, _ float32, _ []metrics.Label) {
	if f := hesitation.Load(); f != nil && slices.Equal(key, []string{"raft", "state", "leader"}) {
		(*f)()
	}
}

// raceDetector says that the tests run under it.
var raceDetector bool

// skipUnderRace leaves the simulations out where they would crash.
func skipUnderRace(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector crashes in synctest bubbles with many timers: golang/go#78156")
	}
}

// tempDir returns a directory for the small files of a world, in memory if possible.
func tempDir(t *testing.T) string {
	parent := ""
	if s, err := os.Stat("/dev/shm"); err == nil && s.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "sim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// outcome is what became of a simulation.
type outcome struct {
	*world
	lasted    time.Duration // of simulated time
	took      time.Duration
	ops       int // in histories
	undecided int
}

func simulate(t *testing.T, s setting) outcome {
	s.dir = tempDir(t)
	s.verbose = *sayFlag
	var o outcome
	began := time.Now()
	synctest.Test(t, func(*testing.T) {
		o.world = newWorld(s)
		o.run()
		o.lasted = time.Since(o.began)
	})
	wrong, ops, undecided := o.history.check()
	o.ops, o.undecided = ops, undecided
	o.violations = append(o.violations, wrong...)
	o.took = time.Since(began)
	return o
}

// settingOf derives all of a simulation from its seed.
func settingOf(seed uint64) setting {
	sizes := []int{3, 3, 3, 4, 5, 5, 6}
	return setting{seed: seed, hosts: sizes[seed%uint64(len(sizes))], lasts: *minutes}
}

// TestSim simulates clusters under all faults. Run it for long with
//
//	make sim
//
// and one seed again with
//
//	go test ./consensus/sim -run TestSim -seed SEED -runs 1 -say -v
func TestSim(t *testing.T) {
	skipUnderRace(t)
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	t.Logf("first seed: %d", seed)
	total := map[string]int{}
	var lasted, took time.Duration
	ops, undecided, runs := 0, 0, 0
	for ; *runsFlag > 0 && runs < *runsFlag || *runsFlag == 0 && lasted.Hours() < *hoursFlag; runs++ {
		s := settingOf(seed + uint64(runs))
		o := simulate(t, s)
		fmt.Printf("seed %d: %d nodes, %s in %s, %d of %d operations succeeded, %d rounds, %d violations\n", s.seed, s.hosts,
			o.lasted.Round(time.Second), o.took.Round(10*time.Millisecond), o.counts["operations that succeeded"],
			o.counts["operations that succeeded"]+o.counts["operations that failed"], o.counts["rounds"], len(o.violations))
		lasted, took, ops, undecided = lasted+o.lasted, took+o.took, ops+o.ops, undecided+o.undecided
		for k, n := range o.counts {
			total[k] += n
		}
		for _, v := range o.violations {
			t.Errorf("seed %d: %s", s.seed, v)
		}
		if len(o.violations) > 0 { // at once: a long run may be ended before its end
			fmt.Printf("what happened last:\n%s\n%s\n", strings.Join(o.events, "\n"), strings.Join(o.violations, "\n"))
		}
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(total)) {
		fmt.Fprintf(&text, "  %-36s %d\n", k, total[k])
	}
	fmt.Printf("%d simulations, %.2f cluster-hours in %s, %d operations checked by Porcupine, %d registers undecided\n%s",
		runs, lasted.Hours(), took.Round(time.Second), ops, undecided, text.String())
}
