package chaos

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

var plain = api.Service{}

// TestKills: kill -9 of any node under load, sometimes with its programs.
func TestKills(t *testing.T) {
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for n := range *kills {
		m := f.pick()
		time.Sleep(f.between(0, time.Second))
		if f.rand.IntN(3) == 0 {
			m.die()
		} else {
			m.kill()
		}
		time.Sleep(f.between(0, 2*time.Second))
		m.start()
		if n%10 == 9 {
			l.check()
		}
	}
	l.end(10)
}

// TestKillAll: kill -9 of all nodes at once, half of the time as a power cut.
func TestKillAll(t *testing.T) {
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for n := range *allKills {
		time.Sleep(f.between(500*time.Millisecond, 3*time.Second))
		end := (*machine).kill
		if n%2 == 1 {
			end = (*machine).die
		}
		pids := f.pids()
		f.all(end)
		f.all((*machine).start)
		took := f.until("a write", patience, func() error { return f.pick().put("after", n) })
		t.Logf("%d: a write is accepted %s after all serve again", n, took.Round(time.Millisecond))
		if n%2 == 0 {
			f.same(pids)
		}
		l.check()
	}
	l.end(3)
}

// all does something with all machines at once.
func (f *fleet) all(do func(*machine)) {
	var wg sync.WaitGroup
	for _, m := range f.nodes {
		wg.Go(func() { do(m) })
	}
	wg.Wait()
}

// pids returns the processes of all instances, for the machines that are asked one by one.
func (f *fleet) pids() map[string]int {
	f.t.Helper()
	pids := map[string]int{}
	f.until("all instances run", patience, func() error {
		list, err := f.nodes[0].instances()
		for _, in := range list {
			if in.Observed == nil || in.Observed.PID == 0 || in.State() != api.StateRunning {
				return fmt.Errorf("%s is %s", in.Ref(), in.State())
			}
			pids[in.ID] = in.Observed.PID
		}
		return err
	})
	return pids
}

// same checks that requests are answered by the same processes as before.
func (f *fleet) same(pids map[string]int) {
	f.t.Helper()
	for id, want := range pids {
		f.until(id+" answers", patience, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			pid, err := f.pick().ask(ctx, id)
			if err == nil && pid != want {
				f.t.Fatalf("%s was restarted: pid %d became %d", id, want, pid)
			}
			return err
		})
	}
}

// TestSurvivors: ten is killed on every node while 50 instances serve: same processes.
func TestSurvivors(t *testing.T) {
	if *survivals == 0 {
		t.Skip("skipped: -chaos.survivals=0")
	}
	f := startFleet(t, plain, 50)
	pids := f.pids()
	l := f.load(50)
	for range *survivals {
		time.Sleep(f.between(0, time.Second))
		m := f.pick()
		m.kill()
		m.start()
	}
	l.end(10)
	f.same(pids)
}
