package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// TestEphemeralData: data that does not persist survives sleep and crash, and goes when
// the instance is stopped or removed, awake or asleep, whatever links it holds.
func TestEphemeralData(t *testing.T) {
	for _, asleepFirst := range []bool{false, true} {
		for _, removed := range []bool{false, true} {
			t.Run(fmt.Sprintf("asleep first: %t, removed: %t", asleepFirst, removed), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *node) { ephemeralData(t, n, asleepFirst, removed) })
			})
		}
	}
}

func ephemeralData(t *testing.T, n *node, asleepFirst, removed bool) {
	no := false
	n.put(func(s *api.Service) { s.StoragePersist = &no })
	n.open()
	n.want(ref1, api.DesiredRunning)
	n.expect(ref1, api.StateRunning, gateOpen)
	outside := filepath.Join(n.dirs, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "f"), nil, 0o600),
		os.Symlink(outside, filepath.Join(n.dataDir(ref1), "link"))); err != nil {
		t.Fatal(err)
	}
	n.crash(ref1)
	time.Sleep(time.Second)
	n.expect(ref1, api.StateRunning, gateOpen)
	if asleepFirst {
		if err := n.agent.Sleep(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		n.expect(ref1, api.StateAsleep, gateAsleep)
	}
	if !n.hasData(ref1) {
		t.Fatal("data is gone too early")
	}
	if removed {
		n.remove(ref1)
	} else {
		n.want(ref1, api.DesiredStopped)
	}
	synctest.Wait()
	if n.hasData(ref1) || n.record(ref1) != nil {
		t.Error("data, or its record, is left")
	}
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if !removed {
		n.expect(ref1, api.StateStopped, gateHeld)
	}
}

// TestPersistentData stays, whatever happens.
func TestPersistentData(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(plain)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		n.remove(ref1)
		synctest.Wait()
		if !n.hasData(ref1) || n.process(ref1) != nil || n.record(ref1) != nil || n.agent.ports.inUse() != 0 {
			t.Error("not removed, or its data is")
		}
		if _, known := n.agent.Observed(ref1); known {
			t.Error("a removed instance is still known")
		}
	})
}
