package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// TestUpgrades: every node is upgraded to the next version and back, one after the other,
// while clients send requests: none fails, and no instance is restarted.
func TestUpgrades(t *testing.T) {
	f := startFleet(t, plain, 6)
	pids := f.pids()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served atomic.Int64
	for w := range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				m := f.nodes[w%3]
				try, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				if _, err := m.ask(try, fmt.Sprintf("i%d", w)); err != nil {
					t.Errorf("i%d through %s at %s: %v", w, m.name, time.Now().Format(time.StampMilli), err)
				}
				cancel()
				served.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	successors := map[*machine]int{}
	t.Cleanup(func() {
		for _, pid := range successors {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	l := f.load(6)
	for range *upgrades {
		for _, to := range []string{nextBinary, tenBinary} {
			for _, m := range f.nodes {
				if _, err := m.ten("upgrade", "--binary", to); err != nil {
					t.Fatal(err)
				}
				var now api.Telemetry
				m.must("GET", "/api/telemetry", nil, &now)
				successors[m] = now.PID
				f.until("all is well", 2*patience, f.well)
			}
			f.versions(to)
		}
	}
	stop()
	wg.Wait()
	l.end(3)
	f.same(pids)
	t.Logf("%d rolling upgrades forth and back: %d requests, none failed; the same processes", *upgrades, served.Load())
}

func (f *fleet) versions(binary string) {
	f.t.Helper()
	want := "1.0.0-chaos"
	if binary == nextBinary {
		want = "1.1.0-chaos"
	}
	f.until("version "+want, patience, func() error {
		c, err := f.nodes[0].cluster()
		for _, m := range c.Members {
			if !strings.HasPrefix(m.Version, want) {
				return fmt.Errorf("%s has version %s", m.Name, m.Version)
			}
		}
		return err
	})
}

// TestClocks: the wall clock of one node, or of all, is an hour or a day off, all of a
// sudden. Nobody notices.
func TestClocks(t *testing.T) {
	if *clocks == 0 {
		t.Skip("skipped: -chaos.clocks=0")
	}
	f := newFleet(t, plain)
	for _, m := range f.nodes {
		m.binary = clockBinary
		m.env = []string{"TENEMENT_CHAOS_CLOCK=" + filepath.Join(m.dir, "clock")}
	}
	f.bring(6)
	l := f.load(6)
	leader := f.leader()
	stop, steady := f.leaders(), f.steady()
	day := 24 * time.Hour
	for n := range *clocks {
		for _, by := range []time.Duration{time.Hour, -time.Hour, day, -day} {
			some := f.nodes
			switch n % 3 {
			case 0:
				some = []*machine{leader}
			case 1:
				some = f.others(leader)[:1]
			}
			for _, m := range some {
				m.step(by)
			}
			time.Sleep(5 * time.Second)
			for _, m := range some {
				m.step(0)
			}
			time.Sleep(time.Second)
		}
	}
	steady()
	if leaders := stop(); len(leaders) > 1 {
		t.Errorf("elections: leaders were %v", leaders)
	}
	l.end(20)
}

// step sets how far the machine's wall clock is off.
func (m *machine) step(by time.Duration) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, "clock"), []byte(by.String()), 0o600); err != nil {
		m.t.Fatal(err)
	}
}
