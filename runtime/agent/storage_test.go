package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// ephemeralService is one whose data does not persist.
func ephemeralService(s *api.Service) {
	no := false
	s.StoragePersist = &no
	s.IdleTimeout = api.Duration(time.Minute)
}

// TestEphemeralData: data that does not persist survives idleness and crash, and goes
// when the instance is stopped or removed, awake or asleep, whatever links it holds.
func TestEphemeralData(t *testing.T) {
	for _, asleepFirst := range []bool{false, true} {
		for _, last := range []api.Desired{api.DesiredAsleep, api.DesiredStopped, wantGone} {
			t.Run(fmt.Sprintf("asleep first: %t, then %s", asleepFirst, last), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *node) { ephemeralData(t, n, asleepFirst, last) })
			})
		}
	}
}

func ephemeralData(t *testing.T, n *node, asleepFirst bool, last api.Desired) {
	n.put(ephemeralService)
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
		time.Sleep(2 * time.Minute)
		n.expect(ref1, api.StateAsleep, gateAsleep)
	}
	if !n.hasData(ref1) {
		t.Fatal("data is gone too early")
	}
	if last == wantGone {
		n.remove(ref1)
	} else {
		n.want(ref1, last)
	}
	synctest.Wait()
	if _, err := os.Stat(n.dataDir(ref1)); !errors.Is(err, os.ErrNotExist) || n.record(ref1) != nil || len(n.agent.fates.marked()) > 0 {
		t.Error("data, its record or its mark is left")
	}
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	switch last {
	case api.DesiredStopped:
		n.expect(ref1, api.StateStopped, gateHeld)
	case api.DesiredAsleep:
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil || !n.hasData(ref1) {
			t.Errorf("woken with a directory of its own: %t, %v", n.hasData(ref1), err)
		}
	}
}

// TestEphemeralDataStoppedAgain: an instance that is to be asleep and was woken by a
// request is stopped once more, awake or asleep.
func TestEphemeralDataStoppedAgain(t *testing.T) {
	for _, idle := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			n.put(ephemeralService)
			n.open()
			n.want(ref1, api.DesiredAsleep)
			if err := n.agent.Wake(t.Context(), ref1); err != nil {
				t.Fatal(err)
			}
			if idle {
				time.Sleep(2 * time.Minute)
				n.expect(ref1, api.StateAsleep, gateAsleep)
			}
			if !n.hasData(ref1) {
				t.Error("data is gone too early")
			}
			if err := n.agent.Sleep(t.Context(), ref1); err != nil {
				t.Fatal(err)
			}
			n.expect(ref1, api.StateAsleep, gateAsleep)
			if n.hasData(ref1) {
				t.Error("data is left")
			}
		})
	}
}

// TestStopAllKeepsData: a ten that ends its programs is no user's stop.
func TestStopAllKeepsData(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredRunning)
		n.expect(ref1, api.StateRunning, gateOpen)
		if err := n.agent.StopAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.process(ref1) != nil || !n.hasData(ref1) {
			t.Errorf("has a process: %t, data: %t", n.process(ref1) != nil, n.hasData(ref1))
		}
	})
}

// TestEphemeralDataTenKilled: ten is killed between a user's stop and the end of the
// program; the next ten removes the data, whether or not the program lives, and whether
// or not the cluster has heard of the stop. Falling asleep, killed alike, removes nothing.
func TestEphemeralDataTenKilled(t *testing.T) {
	stops := map[string]func(t *testing.T, n *node){
		"asleep":  func(_ *testing.T, n *node) { n.want(ref1, api.DesiredAsleep) },
		"stopped": func(_ *testing.T, n *node) { n.want(ref1, api.DesiredStopped) },
		"removed": func(_ *testing.T, n *node) { n.remove(ref1) },
		"again": func(t *testing.T, n *node) {
			async(func() error { return n.agent.Sleep(t.Context(), ref1) })
		},
		"idle": func(*testing.T, *node) { time.Sleep(59*time.Second + 500*time.Millisecond) }, // after the second before
	}
	for name, stop := range stops {
		for _, ended := range []bool{false, true} {
			for _, reported := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, program ended: %t, reported: %t", name, ended, reported), func(t *testing.T) {
					inBubble(t, func(t *testing.T, n *node) { tenKilled(t, n, name == "idle", stop, ended, reported) })
				})
			}
		}
	}
}

func tenKilled(t *testing.T, n *node, idle bool, stop func(*testing.T, *node), ended, reported bool) {
	n.put(ephemeralService)
	n.onTerm.set(func(*proc) {})
	n.open()
	n.want(ref1, api.DesiredAsleep)
	if err := n.agent.Wake(t.Context(), ref1); err != nil {
		t.Fatal(err)
	}
	if !idle {
		n.want(ref1, api.DesiredRunning)
	}
	time.Sleep(time.Second)
	if !reported {
		n.onReport.set(func([]api.Report) error { return errNo })
	}
	stop(t, n)
	synctest.Wait()
	if reported {
		time.Sleep(time.Second)
	}
	n.expectState(ref1, api.StateStopping)
	n.stop()
	n.agent = nil
	n.onReport.set(nil)
	if ended {
		n.crash(ref1)
	}
	n.onTerm.set(nil)
	n.open()
	time.Sleep(time.Second)
	if n.process(ref1) != nil || n.record(ref1) != nil {
		t.Error("the process, or its record, is left")
	}
	if n.hasData(ref1) != idle {
		t.Errorf("has data: %t", n.hasData(ref1))
	}
}

// TestRemovalFinished: ten was killed when the program had ended and its data had not
// gone yet.
func TestRemovalFinished(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if err := n.agent.fates.condemn(ref1); err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.open()
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if n.hasData(ref1) || len(n.agent.fates.marked()) > 0 {
			t.Error("data, or its mark, is left")
		}
	})
}

// TestBootKeepsData: a boot is no user's stop, whatever was desired before.
func TestBootKeepsData(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n.stop()
		n.crash(ref1)
		n.boot = "boot-2"
		n.open()
		n.expect(ref1, api.StateAsleep, gateAsleep)
		if !n.hasData(ref1) {
			t.Error("the data is gone")
		}
	})
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

// TestDataNotRemovable: nobody is started with data that should be gone.
func TestDataNotRemovable(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		n.put(ephemeralService)
		n.open()
		n.want(ref1, api.DesiredAsleep)
		if err := n.agent.Wake(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		defer n.agent.data.Close() //nolint:errcheck // only a directory
		closed, err := os.OpenRoot(n.dirs)
		if err := errors.Join(err, closed.Close()); err != nil {
			t.Fatal(err)
		}
		n.agent.data = closed
		if err := n.agent.Sleep(t.Context(), ref1); err != nil {
			t.Fatal(err)
		}
		if err := n.agent.Wake(t.Context(), ref1); api.CodeOf(err) != api.CodeFailed || !strings.Contains(err.Error(), "remove data") {
			t.Errorf("Wake = %v", err)
		}
	})
}
