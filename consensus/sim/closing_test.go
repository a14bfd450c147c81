package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseBeforeCatchingUp ends a node that never heard of a leader: to wait for the end
// of what is pending it must not spin, which in a bubble stops the time for ever.
func TestCloseBeforeCatchingUp(t *testing.T) {
	skipUnderRace(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(setting{seed: 1, hosts: 3, dir: tempDir(t)})
		votersFromTheStart(t, w)
		h := w.hosts[0]
		h.ill.begin()
		h.boot()
		w.net.sleep(3 * time.Second)
		h.control(h.stop)
		w.net.sleep(time.Minute)
		w.shutDown()
		if len(w.violations) > 0 {
			t.Errorf("got %v", w.violations)
		}
	})
}
