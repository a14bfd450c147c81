package consensus

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// fsm is what Raft sees of the state. It decides nothing.
type fsm struct {
	store   *state.Store
	latch   *latch
	now     func() time.Time
	applied func(time.Duration) // told how long each batch took
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: readers see the entries that shared one fsync
// at once. A node that can't read an entry has no state from there on, and stops.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	entries := make([]state.Entry, 0, len(logs))
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			entries = append(entries, state.Entry{Index: l.Index, Command: l.Data})
		}
	}
	results := f.apply(entries)
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			out[i], results = results[0], results[1:]
		}
	}
	return out
}

func (f *fsm) apply(entries []state.Entry) []state.Result {
	if err := f.latch.tripped(); err != nil {
		return slices.Repeat([]state.Result{{Err: stopped(err)}}, len(entries))
	}
	start := f.now()
	results := f.store.ApplyBatch(entries)
	f.applied(f.now().Sub(start))
	if n := len(results); n > 0 && errors.Is(results[n-1].Err, state.ErrUnreadable) {
		f.latch.trip(results[n-1].Err)
	}
	return results
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.store.Snapshot()}, nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error { return f.store.Restore(r) }

// snapshot is a version of the state to be written out.
type snapshot struct{ io.WriterTo }

// Persist implements raft.FSMSnapshot. The caller cancels the sink after an error.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	_, err := s.WriteTo(sink)
	return err
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
