package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	recentLogs  = 256
	recentBytes = 16 << 10 // of an entry; a bigger one is read from the disk
)

// recent remembers the entries that were stored last. Raft reads each of them again: the
// leader four times to send it to two followers, a follower to apply it. Raft's own
// LogCache does the same without a bound on bytes, and forgets everything when a snapshot
// has made a few entries dispensable.
type recent struct {
	mu   sync.Mutex
	logs [recentLogs]*raft.Log // each at its index, modulo; never changed
}

// put remembers entries that are on the disk.
func (r *recent) put(logs []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range logs {
		slot := &r.logs[l.Index%recentLogs]
		*slot = nil
		if len(l.Data)+len(l.Extensions) <= recentBytes {
			*slot = l
		}
	}
}

// get copies an entry to l, if it is remembered.
func (r *recent) get(index uint64, l *raft.Log) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.logs[index%recentLogs]
	if have == nil || have.Index != index {
		return false
	}
	*l = *have
	return true
}

// forget is called before entries are deleted.
func (r *recent) forget(first, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, l := range r.logs {
		if l != nil && first <= l.Index && l.Index <= last {
			r.logs[i] = nil
		}
	}
}
