package consensus

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

func TestWatchdog(t *testing.T) {
	type look struct {
		pending  int
		progress uint64
		want     bool
		busy     bool
	}
	for name, looks := range map[string][]look{
		"idle":            {{0, 5, false, false}, {0, 5, false, false}, {0, 5, false, false}, {0, 5, false, false}},
		"progress":        {{9, 5, false, false}, {9, 6, false, false}, {9, 7, false, false}, {9, 8, false, false}},
		"stuck":           {{9, 5, false, false}, {9, 5, false, false}, {9, 5, false, false}, {9, 5, true, false}},
		"late progress":   {{9, 5, false, false}, {9, 5, false, false}, {9, 5, false, false}, {9, 6, false, false}, {9, 6, false, false}},
		"pending anew":    {{9, 5, false, false}, {9, 5, false, false}, {0, 5, false, false}, {9, 5, false, false}, {9, 5, false, false}},
		"stuck from then": {{0, 5, false, false}, {1, 5, false, false}, {1, 5, false, false}, {1, 5, true, false}},
		"busy":            {{9, 5, false, false}, {9, 5, false, true}, {9, 5, false, true}, {9, 5, false, true}, {9, 5, false, false}},
	} {
		dog := watchdog{ticks: 3}
		for i, l := range looks {
			if got := dog.stuck(l.pending, l.busy, l.progress); got != l.want {
				t.Errorf("%s: look %d: got %v", name, i+1, got)
			}
		}
	}
}

// hung is a node whose disk has stopped answering, until release is called.
func hung(t *testing.T) (n *Node, fatal *fatals, release func()) {
	t.Helper()
	gate, armed := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	fatal = newFatals()
	cfg := testConfig(t, t.TempDir())
	cfg.Fatal, cfg.patience = fatal.call, 0 // the default
	cfg.wrap = func(s rawStore) rawStore {
		return &faultyStore{s, func(string) error {
			select {
			case <-armed:
				<-gate
			default:
			}
			return nil
		}}
	}
	n = open(t, cfg)
	t.Cleanup(release) // before the Close that open has planned
	close(armed)
	return n, fatal, release
}

func TestWatchdogEndsAHungNode(t *testing.T) {
	n, fatal, _ := hung(t)
	_, err := n.PutService(t.Context(), service("app"), nil)
	if api.CodeOf(err) != api.CodeInternal || !strings.Contains(err.Error(), "no progress for 3s") {
		t.Errorf("the hanging write: got %v", err)
	}
	if err := fatal.wait(t); !strings.Contains(err.Error(), "no progress for 3s with 1 writes pending") {
		t.Errorf("Fatal got %v", err)
	}
}

// No more than maxPending writes wait for Raft; further ones wait for a slot, and for
// their own context.
func TestPendingWritesAreBounded(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	for range maxPending {
		n.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.PutService(ctx, service("app"), nil); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "wait for earlier writes") {
		t.Errorf("one more: got %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := n.PutService(context.Background(), service("app"), nil)
		done <- err
	}()
	for range maxPending {
		<-n.slots
	}
	if err := <-done; err != nil {
		t.Errorf("after a slot became free: got %v", err)
	}
}

// What a caller no longer waits for may still be committed.
func TestWriteOutlivesItsCaller(t *testing.T) {
	n, _, release := hung(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := n.PutService(ctx, service("app"), nil)
		done <- err
	}()
	cancel()
	if err := <-done; api.CodeOf(err) != api.CodeUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("a write whose caller has gone: got %v", err)
	}
	release()
}

// A node that reads what it can't understand stops there, and so do those after it.
func TestUnreadableEntryStopsTheNode(t *testing.T) {
	fatal := newFatals()
	dir := t.TempDir()
	cfg := testConfig(t, dir)
	cfg.Fatal = fatal.call
	n := open(t, cfg)
	putServices(t, n, 0, 1)
	index := n.Index()
	if err := n.raft.Apply([]byte{state.Version + 1, '{', '}'}, enqueueWait).Error(); err != nil {
		t.Fatal(err)
	}
	if err := fatal.wait(t); !errors.Is(err, state.ErrUnreadable) {
		t.Errorf("Fatal got %v", err)
	}
	if n.Index() != index {
		t.Error("the state went on")
	}
	closeNode(t, n)
	if _, err := Open(t.Context(), cfg); !errors.Is(err, state.ErrUnreadable) {
		t.Errorf("the next start: got %v", err)
	}
}
