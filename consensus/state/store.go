package state

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Store holds the current version of the state. Apply, ApplyBatch and Restore belong
// to one goroutine; everything else may be called from any.
type Store struct {
	weights *weights
	view    atomic.Pointer[View]

	mu     sync.Mutex // guards events, and orders their change with that of view
	events ring
}

// New returns an empty store.
func New() *Store {
	s := &Store{weights: newWeights()}
	s.view.Store(&View{data: newData(), changed: make(chan struct{})})
	return s
}

// Result is what became of a command.
type Result struct {
	// Object is the object that resulted: the *api.Service, *api.Instance, *api.Node or
	// *api.Token put or deleted, the cluster id, how many placements or reports took
	// effect, nil for a SyncFile. It is shared and must not be changed.
	Object any
	// Err says why the command had no effect: an *api.Error, or an error that wraps
	// ErrUnreadable.
	Err error
}

// Entry is a command with its place in the log.
type Entry struct {
	Index   uint64
	Command []byte
}

// Apply applies one encoded command. Every index is applied once, in growing order. A
// command that fails changes nothing.
func (s *Store) Apply(index uint64, command []byte) Result {
	return s.ApplyBatch([]Entry{{Index: index, Command: command}})[0]
}

// ApplyBatch applies commands one after the other, and shows readers the outcome of
// all of them at once. After a command that can't be read none of the rest is applied:
// what they would do to the state that it leads to nobody can tell.
func (s *Store) ApplyBatch(entries []Entry) []Result {
	results := make([]Result, len(entries))
	now := s.View().data
	var events []api.Event
	for i, e := range entries {
		c, err := decode(e.Command)
		if err != nil {
			for ; i < len(entries); i++ {
				results[i] = Result{Err: fmt.Errorf("apply entry %d: %w", e.Index, err)}
			}
			break
		}
		after, t, res := now.apply(c, e.Index, s.weights)
		results[i] = res
		events = append(events, t...)
		now = after
	}
	s.publish(now, events)
	return results
}

// apply returns the data after the command, which is d itself unless the command
// changed something, and the events of the change.
func (d data) apply(c *Command, index uint64, w *weights) (data, []api.Event, Result) {
	if index <= d.index {
		return d, nil, Result{Err: api.Errorf(api.CodeInternal, "apply command: index %d is not after %d", index, d.index)}
	}
	op := c.operation()
	if op == nil {
		return d, nil, Result{Err: fmt.Errorf("apply command: %w: want exactly one operation", ErrUnreadable)}
	}
	t := &txn{data: d, weights: w, at: index, now: c.Time}
	object, err := op.apply(t)
	if err != nil {
		return d, nil, Result{Err: err}
	}
	if len(t.events) == 0 && t.clusterID == d.clusterID {
		return d, nil, Result{Object: object}
	}
	t.index = index
	return t.data, t.events, Result{Object: object}
}

// publish makes d what readers see.
func (s *Store) publish(d data, events []api.Event) {
	before := s.View()
	if d.index == before.index {
		return
	}
	s.mu.Lock()
	s.events.add(events)
	s.view.Store(&View{data: d, changed: make(chan struct{})})
	s.mu.Unlock()
	close(before.changed)
}

// View returns the current version of the state.
func (s *Store) View() *View { return s.view.Load() }

// Preview returns what the command would result in if it were applied now, and whether
// it would change anything. A command that would not need not go through the log.
func (s *Store) Preview(c *Command) (res Result, changes bool) {
	before := s.View().data
	after, _, res := before.apply(c, before.index+1, s.weights)
	return res, after.index != before.index
}

// Events returns what happened after the given index, oldest first, and a channel that
// is closed when more has happened. If that is no longer known ok is false, and the
// caller has to start again from a View.
func (s *Store) Events(after uint64) (events []api.Event, changed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, ok = s.events.after(after)
	return events, s.View().changed, ok
}

// Snapshot returns the current version, to be written out whenever it suits.
func (s *Store) Snapshot() io.WriterTo { return s.View() }

// Restore replaces the state with what a snapshot holds; if it can't be read the state
// stays as it is. Events up to the snapshot are no longer known.
func (s *Store) Restore(r io.Reader) error {
	d, err := readSnapshot(r, s.weights)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.events = ring{floor: d.index}
	before := s.View()
	s.view.Store(&View{data: d, changed: make(chan struct{})})
	s.mu.Unlock()
	close(before.changed)
	return nil
}

// keepEvents is how many events a store remembers.
const keepEvents = 8192

// ring remembers the last keepEvents events. Its slice is only ever appended to, or
// left for a new one, so that parts of it can be handed out.
type ring struct {
	events []api.Event
	floor  uint64 // index of the newest forgotten event
}

func (r *ring) add(events []api.Event) {
	r.events = append(r.events, events...)
	if len(r.events) < 2*keepEvents {
		return
	}
	forget := len(r.events) - keepEvents
	r.floor = r.events[forget-1].Index
	r.events = append(make([]api.Event, 0, 2*keepEvents), r.events[forget:]...)
}

func (r *ring) after(index uint64) ([]api.Event, bool) {
	if index < r.floor {
		return nil, false
	}
	first, _ := slices.BinarySearchFunc(r.events, index+1, func(e api.Event, want uint64) int {
		if e.Index < want {
			return -1
		}
		return 1
	})
	return r.events[first:len(r.events):len(r.events)], true
}
