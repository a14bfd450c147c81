package sim

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseBeforeCatchingUp ends a node that was elected and hears nothing more, so that
// the barrier of its term is pending. It must not spin until that has been answered: in a
// bubble the time would stand still for ever.
func TestCloseBeforeCatchingUp(t *testing.T) {
	skipUnderRace(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(setting{seed: 1, hosts: 3, dir: tempDir(t)})
		votersFromTheStart(t, w)
		w.scripted(false)
		elected := make(chan struct{})
		win := sync.OnceFunc(func() { close(elected) })
		hesitation.Store(&win)
		defer hesitation.Store(nil)
		h := w.hosts[0]
		h.ill.begin()
		h.boot()
		<-elected
		w.net.sleep(100 * time.Millisecond)
		h.control(h.stop)
		w.net.sleep(time.Minute)
		w.shutDown()
		if len(w.violations) > 0 {
			t.Errorf("got %v", w.violations)
		}
	})
}
