package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// run is a program's life as its own beats tell, in nanoseconds of the machine's clock.
type run struct {
	pid         int
	first, last int64
}

// TestSingleWriters: a node with an instance of which there must never be two is cut off.
// It stops the instance before another node starts it.
func TestSingleWriters(t *testing.T) {
	beats := filepath.Join(t.TempDir(), "beats")
	f := startFleet(t, api.Service{OnDisconnect: api.DisconnectStop, Env: map[string]string{"APP_BEAT": beats}}, 3)
	var gaps []time.Duration
	for n := range *singles {
		id := fmt.Sprintf("i%d", f.rand.IntN(3))
		owner := f.owner(id)
		before := f.runs(beats)[id]
		if f.rand.IntN(2) == 0 {
			owner.deafTo(f.others(owner)...)
		} else {
			for _, o := range f.others(owner) {
				o.deafTo(owner)
			}
			owner.deafTo(f.others(owner)...)
		}
		f.until("it starts elsewhere", patience, func() error {
			if now := f.runs(beats)[id]; now[len(now)-1].pid == before[len(before)-1].pid {
				return fmt.Errorf("%d: %s on %s is not started anew", n, id, owner.name)
			}
			return nil
		})
		f.heal()
		f.until("all is well", 2*patience, f.well)
		gaps = append(gaps, f.checkRuns(beats)...)
	}
	f.settle()
	if len(gaps) > 0 {
		t.Logf("%d times cut off, 0 overlaps; between two writers at least %s", *singles, slices.Min(gaps).Round(time.Millisecond))
	}
}

// owner returns the machine that the instance is placed on.
func (f *fleet) owner(id string) (owner *machine) {
	f.t.Helper()
	f.until("an owner of "+id, patience, func() error {
		c, err := f.nodes[0].cluster()
		if err != nil {
			return err
		}
		list, err := f.nodes[0].instances()
		for _, in := range list {
			for i, m := range f.nodes {
				for _, o := range c.Members {
					if in.ID == id && o.ID == in.Node && o.Name == m.name {
						owner = f.nodes[i]
					}
				}
			}
		}
		if err == nil && owner == nil {
			err = fmt.Errorf("%s has no owner", id)
		}
		return err
	})
	return owner
}

// runs reads what the programs have written of themselves, in the order of their starts.
func (f *fleet) runs(path string) map[string][]run {
	f.t.Helper()
	b, err := os.ReadFile(path) //nolint:gosec // a path of ours
	if err != nil {
		f.t.Fatal(err)
	}
	all := map[string][]run{}
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // is being written
		}
		var at int64
		var pid int
		var id string
		if _, err := fmt.Sscan(string(line), &at, &pid, &id); err != nil {
			f.t.Fatalf("%s: %q: %v", path, line, err)
		}
		runs := all[id]
		i := slices.IndexFunc(runs, func(r run) bool { return r.pid == pid })
		if i < 0 {
			all[id] = append(runs, run{pid, at, at})
			continue
		}
		runs[i].last = max(runs[i].last, at)
	}
	return all
}

// checkRuns fails if two runs of an instance overlap; it returns the times between them.
func (f *fleet) checkRuns(path string) (gaps []time.Duration) {
	f.t.Helper()
	for id, runs := range f.runs(path) {
		slices.SortFunc(runs, func(a, b run) int { return int(a.first - b.first) })
		for i := 1; i < len(runs); i++ {
			gap := time.Duration(runs[i].first - runs[i-1].last)
			if gap <= 0 {
				f.t.Fatalf("OVERLAP: two of %s for %s: pids %d and %d", id, -gap, runs[i-1].pid, runs[i].pid)
			}
			gaps = append(gaps, gap)
		}
	}
	return gaps
}

// TestSleepers: 1,000 requests through all nodes at once wake one sleeper: one start.
func TestSleepers(t *testing.T) {
	f := startFleet(t, plain, 3)
	for n := range *sleepers {
		id := fmt.Sprintf("i%d", n%3)
		f.until("it sleeps", patience, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, _ = f.pick().call(ctx, "DELETE", "/api/instances/app:"+id, nil, nil)
			list, err := f.nodes[0].instances()
			for _, in := range list {
				if in.ID == id && in.State() != api.StateAsleep {
					return fmt.Errorf("%s is %s", id, in.State())
				}
			}
			return err
		})
		var mu sync.Mutex
		pids := map[int]int{}
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				pid, err := f.nodes[i%3].ask(ctx, id)
				if err != nil {
					t.Errorf("%d: %v", n, err)
				}
				mu.Lock()
				defer mu.Unlock()
				pids[pid]++
			})
		}
		wg.Wait()
		if len(pids) != 1 {
			t.Fatalf("%d: %s was started more than once: %v", n, id, pids)
		}
	}
	t.Logf("%d times 1,000 requests for a sleeper: one start each", *sleepers)
}
