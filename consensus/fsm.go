package consensus

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
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
	// busy is set while the state is being changed. That may take a while on a starved
	// machine, but has nothing to wait for.
	busy atomic.Bool

	// ready is closed when Raft's entries may be applied; nil is as good.
	ready chan struct{}
	mu    sync.Mutex // orders applyAhead with the rest
	// ahead is the entry up to which applyAhead has applied; Raft does not know.
	ahead    uint64
	last     uint64 // entry that was applied
	restores int    // how often the state was replaced
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: readers see the entries that shared one fsync
// at once. The response to an entry is the []state.Result of its commands. A node that
// can't read an entry has no state from there on, and stops.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	if f.ready != nil {
		<-f.ready
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	skipped := 0
	for skipped < len(logs) && logs[skipped].Index <= f.ahead {
		skipped++
	}
	if skipped < len(logs) {
		f.ahead = 0 // Raft has caught up with the state
	}
	return append(make([]any, skipped, len(logs)), f.apply(logs[skipped:])...)
}

// apply applies entries that have not been. The caller holds the lock.
func (f *fsm) apply(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if f.latch.tripped() != nil {
		return out
	}
	entries := make([][]byte, 0, len(logs))
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			entries = append(entries, l.Data)
		}
	}
	f.busy.Store(true)
	defer f.busy.Store(false)
	start := f.now()
	results, err := f.store.Apply(entries...)
	f.applied(f.now().Sub(start))
	if err != nil {
		f.latch.trip(fmt.Errorf("apply log up to entry %d: %w", logs[len(logs)-1].Index, err))
	}
	for i, l := range logs {
		f.last = l.Index
		if l.Type == raft.LogCommand {
			out[i], results = results[0], results[1:]
		}
	}
	return out
}

// Snapshot implements raft.FSM. Raft labels it with the last entry that it had applied,
// which the state must not be ahead of.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ahead > 0 {
		return nil, fmt.Errorf("take snapshot: the state is ahead of raft, up to entry %d", f.ahead)
	}
	return snapshot{f.store.Snapshot()}, nil
}

// Restore implements raft.FSM. A snapshot that is older than the state is left alone: what
// has been seen must not be taken back. Raft goes on after it with entries that are then
// skipped.
func (f *fsm) Restore(r io.ReadCloser) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	index := snapshotIndex(r)
	if index > 0 && index <= f.last {
		f.ahead = max(f.ahead, f.last)
		return nil
	}
	f.busy.Store(true)
	defer f.busy.Store(false)
	err := f.store.Restore(r)
	if err == nil {
		f.ahead, f.last = 0, index
		f.restores++
	}
	return err
}

// snapshot is a version of the state to be written out.
type snapshot struct{ io.WriterTo }

// Persist implements raft.FSMSnapshot. The caller cancels the sink after an error.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	_, err := s.WriteTo(sink)
	return err
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
