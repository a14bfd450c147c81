package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestDrainWaits drains a node whose instances leave one after the other, the last only
// once the one that was to move first serves elsewhere.
func TestDrainWaits(t *testing.T) {
	w := newWorld(t)
	w.server.grow("well")
	w.server.plan = nil
	polls := 0
	w.server.onPoll = func() { // under the server's lock
		switch polls++; polls {
		case 1:
			moving := w.server.instances[1].Clone()
			moving.Previous, moving.Node = &api.Previous{Node: "n2"}, "n3"
			w.server.instances[1] = moving
		case 2:
			w.server.instances[1].Previous = nil
		}
	}
	stdout, stderr, code := w.run(t.Context(), "node", "drain", "n2")
	if code != 0 || stdout != "n2 is empty\n" || polls != 2 {
		t.Errorf("exit %d after %d polls: %s%s", code, polls, stdout, stderr)
	}
}

func TestDrainInterrupted(t *testing.T) {
	w := newWorld(t)
	w.server.grow("well")
	w.server.plan = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	w.server.onPoll = func() { cancel(&signalError{os.Interrupt}) }
	stdout, stderr, code := w.run(ctx, "node", "drain", "n2")
	if code != exitInterrupted || stdout != "" || !strings.Contains(stderr, "n2 goes on draining; 'ten node uncordon n2' stops that") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if e := w.server.members[1].Eligibility; e != api.EligibilityDraining {
		t.Errorf("the node is %s", e)
	}
}

func TestRestoreSends(t *testing.T) {
	w := newWorld(t)
	path := w.dir + "/s"
	if err := os.WriteFile(path, []byte("other state"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := w.run(t.Context(), "cluster", "snapshot", "restore", path, "--yes"); code != exitConflict {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, stderr, code := w.run(t.Context(), "cluster", "snapshot", "restore", path, "--yes", "--force"); code != 0 || w.server.restored != "other state" {
		t.Errorf("exit %d, restored %q: %s", code, w.server.restored, stderr)
	}
}

func TestOfflineWithoutHooks(t *testing.T) {
	w := newWorld(t)
	w.hooks = hooks{}
	for _, args := range []string{"secret", "secret new", "join-token --long", "cluster recover", "cluster snapshot inspect " + w.dir} {
		if _, stderr, code := w.run(t.Context(), strings.Fields(args)...); code != exitError || !strings.Contains(stderr, "needs Linux") {
			t.Errorf("%s: exit %d: %s", args, code, stderr)
		}
	}
	w.hooks.LongToken = func(string, []string) (string, error) { return "", errors.New("broken") }
	if _, stderr, code := w.run(t.Context(), "join-token", "--long"); code != exitUsage && !strings.Contains(stderr, "broken") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
