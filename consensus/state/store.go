package state

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Store holds the current version of the state. Apply and Restore belong to one
// goroutine; everything else may be called from any.
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
	// Object is the object that resulted: the *api.Service, *api.Instance, *api.Fleet,
	// *api.Route, *api.Node, *api.Token, *api.JoinToken, *Secret or *Sealed put, changed or
	// deleted, the cluster id, how many placements or reports took effect, nil for a SyncFile. It is
	// shared and must not be changed.
	Object any
	// Index is the state's index after the command.
	Index uint64
	// Err is an *api.Error that says why the command had no effect.
	Err error
}

// Apply applies log entries in their order, and shows readers the outcome of all of them
// at once. It returns the results of each entry's commands. A command that fails changes
// nothing. After one that can't be read nothing more is applied, for what the rest would
// do to the state that it leads to nobody can tell: the error wraps ErrUnreadable.
func (s *Store) Apply(entries ...[]byte) ([][]Result, error) {
	results := make([][]Result, len(entries))
	w := writer{data: s.View().data, weights: s.weights}
	var err error
	for i, e := range entries {
		if results[i], err = w.applyEntry(e); err != nil {
			break
		}
	}
	s.publish(w.data, w.events)
	return results, err
}

// writer applies commands to data of its own.
type writer struct {
	data
	weights *weights
	events  []api.Event
	txn     txn // room for the one at work
}

func (w *writer) applyEntry(entry []byte) ([]Result, error) {
	dec, err := newDecoder(entry)
	if err != nil {
		return nil, err
	}
	var results []Result
	for {
		c, err := dec.next()
		if c == nil || err != nil {
			return results, err
		}
		results = append(results, w.apply(c))
	}
}

// apply changes the data and notes the events if the command has an effect. The index
// counts such commands: it is the same on every node, whatever else is in its log.
func (w *writer) apply(c *Command) Result {
	op := c.operation()
	if op == nil {
		return Result{Err: api.Errorf(api.CodeInternal, "apply command: want exactly one operation")}
	}
	t := &w.txn
	*t = txn{data: w.data, weights: w.weights, at: w.index + 1, now: c.Time}
	object, err := op.apply(t)
	if err != nil {
		return Result{Err: err}
	}
	if t.changed {
		t.index = t.at
		if n := needs(op); n > 1 {
			t.stateVersion = max(t.stateVersion, n)
		}
		w.data = t.data
		w.events = append(w.events, t.events...)
	}
	return Result{Object: object, Index: w.index}
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
	w := writer{data: before, weights: s.weights}
	res = w.apply(c)
	return res, w.index != before.index
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
