package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tenement-fleet/tenement/api"
)

// TestMaxStarts: as many as allowed are being started at once, and all are in the end.
func TestMaxStarts(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady.set(func(context.Context, *proc) bool { time.Sleep(100 * time.Millisecond); return true })
		n.open(func(c *Config) { c.MaxStarts = 4 })
		var wg sync.WaitGroup
		for i := range 100 {
			ref := api.Ref{Service: "web", ID: fmt.Sprint("i", i)}
			n.want(ref, api.DesiredAsleep)
			wg.Go(func() {
				if err := n.agent.Wake(t.Context(), ref); err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if got := time.Since(began); got != 2500*time.Millisecond {
			t.Errorf("took %s, want 2.5s", got)
		}
		if n.most != 4 {
			t.Errorf("%d were started at once, want 4", n.most)
		}
	})
}

// TestSleepersCostNothing: no goroutine and no memory of the agent's own.
func TestSleepersCostNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		const many = 100_000
		for i := range many {
			ref := api.Ref{Service: "web", ID: fmt.Sprint("i", i)}
			n.insts[ref] = &api.Instance{
				Service: "web", ID: ref.ID, Desired: api.DesiredAsleep, Generation: 1,
				Observed: &api.Observed{State: api.StateAsleep, Desired: api.DesiredAsleep, Generation: 1},
			}
			n.gates[ref] = &gate{}
		}
		before := runtime.NumGoroutine()
		n.open()
		synctest.Wait()
		if extra := runtime.NumGoroutine() - before; extra > 3 {
			t.Errorf("%d goroutines for sleepers", extra)
		}
		if len(n.agent.supervisors) != 0 || len(n.agent.reports.pending) != 0 || len(n.reports) != 0 {
			t.Error("sleepers are held on to, or reported")
		}
	})
}

// TestCycles: nothing is left of many sleeps and wakes.
func TestCycles(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		before := runtime.NumGoroutine()
		for range 500 {
			if err := errors.Join(n.agent.Wake(t.Context(), ref1), n.agent.Sleep(t.Context(), ref1)); err != nil {
				t.Fatal(err)
			}
		}
		n.expect(ref1, api.StateAsleep, gateAsleep)
		// The Go runtime may run a finalizer or the like meanwhile; a leak would be hundreds.
		if runtime.NumGoroutine() > before+50 || len(n.agent.supervisors) != 0 || n.agent.ports.inUse() != 0 {
			t.Error("something is left")
		}
		n.remove(ref1)
		synctest.Wait()
		if left, _ := os.ReadDir(filepath.Join(n.dirs, "sock")); len(left) != 0 {
			t.Errorf("%v is left of the sockets", left)
		}
		if fi, err := os.Stat(filepath.Join(n.dirs, "run", recordsFile)); err != nil || fi.Size() > slotSize {
			t.Errorf("the records have grown: %v, %v", fi, err)
		}
		if got := n.started(ref1); got != 500 {
			t.Errorf("started %d times, want 500", got)
		}
	})
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		reg := prometheus.NewRegistry()
		n.put(plain)
		n.open(func(c *Config) { c.Registerer = reg })
		n.want(ref1, api.DesiredRunning)
		n.want(ref2, api.DesiredAsleep)
		n.want(ref3, api.DesiredStopped)
		if err := n.agent.Wake(t.Context(), ref2); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
		err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tenement_ports_in_use Ports given to instances.
# TYPE tenement_ports_in_use gauge
tenement_ports_in_use 2
# HELP tenement_starts_in_flight Instances that are being started.
# TYPE tenement_starts_in_flight gauge
tenement_starts_in_flight 0
# HELP tenement_wakes_total Starts of instances that a request waited for.
# TYPE tenement_wakes_total counter
tenement_wakes_total 1
# HELP tenement_instances Instances on this node by state.
# TYPE tenement_instances gauge
tenement_instances{state="asleep"} 0
tenement_instances{state="backoff"} 0
tenement_instances{state="degraded"} 0
tenement_instances{state="failed"} 0
tenement_instances{state="pending"} 0
tenement_instances{state="running"} 2
tenement_instances{state="starting"} 0
tenement_instances{state="stopped"} 1
tenement_instances{state="stopping"} 0
tenement_instances{state="unhealthy"} 0
`), "tenement_ports_in_use", "tenement_starts_in_flight", "tenement_wakes_total", "tenement_instances")
		if err != nil {
			t.Error(err)
		}
		if got := testutil.CollectAndCount(n.agent.metrics.phases); got != 3 {
			t.Errorf("%d phases of starts are measured, want 3", got)
		}
	})
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "create agent: Config.") {
		t.Errorf("New with nothing set: %v", err)
	}
}

func TestClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.onReady.set(func(context.Context, *proc) bool { return false })
		a := n.open()
		n.want(ref1, api.DesiredAsleep)
		woken := async(func() error { return a.Wake(t.Context(), ref1) })
		n.expect(ref1, api.StateStarting, gateDown)
		n.stop()
		wantCode(t, <-woken, api.CodeUnavailable)
		wantCode(t, a.Wake(t.Context(), ref1), api.CodeUnavailable)
		n.changed(ref1)
		if n.process(ref1) == nil {
			t.Error("closing ended a process")
		}
	})
}
