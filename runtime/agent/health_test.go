package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func withHealth(s *api.Service) { s.Health = "/up" }

// TestHealth: accepting is told from healthy; 1 or 2 failed checks degrade, the third
// restarts.
func TestHealth(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(withHealth)
		n.open()
		n.want(ref1, api.DesiredRunning)
		if o := n.expect(ref1, api.StateRunning, gateOpen); !o.Healthy {
			t.Error("not healthy after its first check, which is made at once")
		}
		old := n.process(ref1)
		n.onCheck.set(func(*proc) error { return errNo })
		time.Sleep(12 * time.Second)
		if o := n.expect(ref1, api.StateDegraded, gateOpen); o.Healthy || o.Reason != "no" {
			t.Errorf("observed %+v", o)
		}
		n.onCheck.set(nil)
		time.Sleep(12 * time.Second)
		if o := n.expect(ref1, api.StateRunning, gateOpen); !o.Healthy || o.Reason != "" {
			t.Errorf("observed %+v", o)
		}
		n.onCheck.set(func(*proc) error { return errNo })
		n.onTerm.set(func(*proc) {})
		time.Sleep(33 * time.Second)
		n.expect(ref1, api.StateUnhealthy, gateDown)
		if !old.term.Load() {
			t.Error("not asked to end")
		}
		n.onCheck.set(nil)
		n.onTerm.set(nil)
		time.Sleep(11 * time.Second) // grace, backoff
		if o := n.expect(ref1, api.StateRunning, gateOpen); !o.Healthy || o.Restarts != 1 || n.process(ref1) == old {
			t.Errorf("observed %+v", o)
		}
	})
}

// TestWarmUp: checks that fail within startup_timeout, before the first good one, only
// say that it is not healthy yet; it is asked again soon.
func TestWarmUp(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(withHealth)
		checks := 0
		n.onCheck.set(func(*proc) error {
			checks++
			if checks < 5 {
				return errNo
			}
			return nil
		})
		n.open()
		n.want(ref1, api.DesiredRunning)
		if o := n.expect(ref1, api.StateRunning, gateOpen); o.Healthy {
			t.Error("healthy after a failed check")
		}
		time.Sleep(1700 * time.Millisecond) // 0.1 + 0.2 + 0.4 + 0.8, and a tenth
		if o := n.expect(ref1, api.StateRunning, gateOpen); !o.Healthy {
			t.Errorf("not healthy after %d checks", checks)
		}
	})
}

// TestNeverHealthy: once startup_timeout has passed, failures count.
func TestNeverHealthy(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(func(s *api.Service) { s.Health, s.HealthInterval = "/up", api.Seconds(1) })
		n.onCheck.set(func(*proc) error { return errNo })
		n.open()
		n.want(ref1, api.DesiredRunning)
		time.Sleep(9 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
		time.Sleep(3 * time.Second)
		n.expect(ref1, api.StateDegraded, gateOpen)
		time.Sleep(2 * time.Second)
		if o := n.expect(ref1, api.StateRunning, gateOpen); o.Restarts != 1 {
			t.Errorf("observed %+v, want one restart", o)
		}
	})
}

// TestChecksAreNoRequests: an instance that is checked falls asleep all the same.
func TestChecksAreNoRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		checks := 0
		n.onCheck.set(func(*proc) error { checks++; return nil })
		n.put(func(s *api.Service) { s.Health, s.IdleTimeout = "/up", api.Seconds(60) })
		n.open()
		n.want(ref1, api.DesiredRunning)
		time.Sleep(61 * time.Second)
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if checks < 6 || checks > 8 {
			t.Errorf("%d checks in a minute at 10s", checks)
		}
		time.Sleep(time.Minute)
		if checks > 8 {
			t.Error("a sleeper is checked")
		}
	})
}

// TestChecksSpread: a check comes up to a tenth early or late.
func TestChecksSpread(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 9 * time.Second, 0.5: 10 * time.Second, 0.75: 10500 * time.Millisecond} {
		inBubble(t, func(t *testing.T, n *node) {
			var checks []time.Time
			n.onCheck.set(func(*proc) error { checks = append(checks, time.Now()); return nil })
			n.put(withHealth)
			n.open(func(c *Config) { c.Random = func() float64 { return random } })
			n.want(ref1, api.DesiredRunning)
			time.Sleep(25 * time.Second)
			n.expect(ref1, api.StateRunning, gateOpen)
			if len(checks) != 3 {
				t.Fatalf("%v: %d checks, want one at once and two more in 25s", random, len(checks))
			}
			for i := range 2 {
				if got := checks[i+1].Sub(checks[i]); got != want {
					t.Errorf("%v: checked after %v, want %v", random, got, want)
				}
			}
		})
	}
}

// TestLiveSettings: what a program is not started from applies at once, without a restart.
func TestLiveSettings(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		old := n.process(ref1)
		time.Sleep(time.Hour)
		n.put(func(s *api.Service) { s.IdleTimeout = api.Seconds(7200) })
		synctest.Wait()
		n.request(ref1)()
		time.Sleep(7100 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.put(func(s *api.Service) { s.IdleTimeout = 0 })
		time.Sleep(7100 * time.Second)
		n.expect(ref1, api.StateRunning, gateOpen)
		if n.process(ref1) != old {
			t.Error("restarted")
		}
		n.put(func(s *api.Service) { s.IdleTimeout = api.Seconds(10) })
		n.expect(ref1, api.StateAsleep, gateAsleep)
	})
}
