package agent

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

var threeRefs = []api.Ref{ref1, ref2, ref3}

func version(v string) func(*api.Service) {
	return func(s *api.Service) { s.Env = map[string]string{"VERSION": v} }
}

// running counts the instances that run a version.
func (n *node) running(v string) (count int) {
	for _, ref := range threeRefs {
		if p := n.process(ref); p != nil && slices.Contains(p.spec.Env, "VERSION="+v) {
			count++
		}
	}
	return count
}

// TestRoll: a change of what programs are started from restarts those that run, one at a
// time; those that sleep use it when they wake.
func TestRoll(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(version("1"))
		n.open()
		for _, ref := range threeRefs {
			n.want(ref, api.DesiredRunning)
			n.expect(ref, api.StateRunning, gateOpen)
		}
		sleeper := api.Ref{Service: "web", ID: "sleeper"}
		n.want(sleeper, api.DesiredAsleep)
		n.onReady.set(func(context.Context, *proc) bool { time.Sleep(time.Second); return true })
		svc := n.put(version("2"))
		for i := range 3 {
			synctest.Wait()
			if got := n.running("2"); got != i+1 {
				t.Fatalf("after %ds %d are being replaced, want %d", i, got, i+1)
			}
			open := 0
			for _, ref := range threeRefs {
				if n.gateOf(ref) == gateOpen {
					open++
				}
			}
			if open != 2 {
				t.Errorf("%d serve during the roll, want 2", open)
			}
			time.Sleep(time.Second)
		}
		for _, ref := range threeRefs {
			if o := n.expect(ref, api.StateRunning, gateOpen); o.ServiceRevision != svc.Revision || o.Restarts != 1 {
				t.Errorf("%s: observed %+v", ref, o)
			}
		}
		if n.started(sleeper) != 0 {
			t.Error("a sleeper was started")
		}
		if err := n.agent.Wake(t.Context(), sleeper); err != nil {
			t.Fatal(err)
		}
		if p := n.process(sleeper); !slices.Contains(p.spec.Env, "VERSION=2") {
			t.Error("a sleeper woke up with the old service")
		}
	})
}

// TestRollHalts: when the new version does not come up, the others stay as they are,
// until the service is changed again.
func TestRollHalts(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(version("1"))
		n.open()
		for _, ref := range threeRefs {
			n.want(ref, api.DesiredRunning)
			n.expect(ref, api.StateRunning, gateOpen)
		}
		n.onReady.set(func(_ context.Context, p *proc) bool { return !slices.Contains(p.spec.Env, "VERSION=2") })
		n.put(version("2"))
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := n.running("1"); got != 2 {
			t.Fatalf("%d keep running the old version, want 2", got)
		}
		n.put(version("3"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := n.running("3"); got != 3 {
			t.Errorf("%d run the corrected version, want 3", got)
		}
	})
}

// TestRollAfterRecover: a service that changed while no ten ran.
func TestRollAfterRecover(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(version("1"))
		n.open()
		for _, ref := range threeRefs {
			n.want(ref, api.DesiredRunning)
			n.expect(ref, api.StateRunning, gateOpen)
		}
		n.stop()
		n.agent = nil
		n.put(version("2"))
		n.open()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := n.running("2"); got != 3 {
			t.Errorf("%d run the new version, want 3", got)
		}
	})
}

// TestRollStarting: a change that comes while the old version is being started.
func TestRollStarting(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(version("1"))
		n.onReady.set(func(_ context.Context, p *proc) bool { return slices.Contains(p.spec.Env, "VERSION=2") })
		n.open()
		n.want(ref1, api.DesiredRunning)
		woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
		n.expect(ref1, api.StateStarting, gateDown)
		n.put(version("2"))
		if err := <-woken; err != nil {
			t.Errorf("who waits is not served by the new version: %v", err)
		}
		n.expect(ref1, api.StateRunning, gateOpen)
	})
}

func TestSpecSum(t *testing.T) {
	base := testService(true)
	for name, c := range map[string]struct {
		change  func(*api.Service)
		restart bool
	}{
		"nothing":      {func(*api.Service) {}, false},
		"command":      {func(s *api.Service) { s.Command = "/x" }, true},
		"args":         {func(s *api.Service) { s.Args = []string{"x"} }, true},
		"env":          {func(s *api.Service) { s.Env = map[string]string{"A": "b"} }, true},
		"secret_env":   {func(s *api.Service) { s.SecretEnv = []string{"VERSION"} }, false},
		"workdir":      {func(s *api.Service) { s.Workdir = "/x" }, true},
		"isolation":    {func(s *api.Service) { s.Isolation = api.IsolationNamespace }, true},
		"socket":       {func(s *api.Service) { s.Socket = "/x" }, true},
		"memory_limit": {func(s *api.Service) { s.MemoryLimit = api.MiB }, true},
		"cpu_shares":   {func(s *api.Service) { s.CPUShares = 7 }, true},
		"idle_timeout": {func(s *api.Service) { s.IdleTimeout = api.Seconds(1) }, false},
		"health":       {func(s *api.Service) { s.Health = "/x" }, false},
		"restart":      {func(s *api.Service) { s.Restart = api.RestartNever }, false},
		"revision":     {func(s *api.Service) { s.Revision = 99 }, false},
		"stop_timeout": {func(s *api.Service) { s.StopTimeout = api.Seconds(1) }, false},
	} {
		svc := base.Clone()
		c.change(svc)
		if got := specSum(svc) != specSum(base); got != c.restart {
			t.Errorf("a change of %s needs a restart: %t, want %t", name, got, c.restart)
		}
	}
	// Another version of ten must come to the same sum, or it would restart everything.
	if got, want := specSum(base), "388888739c38c937"; got != want {
		t.Errorf("sum %s, want %s", got, want)
	}
}
