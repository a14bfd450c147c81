package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

func TestRecent(t *testing.T) {
	var r recent
	entry := func(index, term uint64, size int) *raft.Log {
		return &raft.Log{Index: index, Term: term, Data: make([]byte, size)}
	}
	// has checks what is remembered at an index: the term, 0 for nothing.
	has := func(index, term uint64) {
		t.Helper()
		var l raft.Log
		if ok := r.get(index, &l); ok != (term != 0) || l.Term != term || ok && l.Index != index {
			t.Errorf("entry %d: got term %d (%t), want %d", index, l.Term, ok, term)
		}
	}
	has(0, 0)
	r.put([]*raft.Log{entry(1, 1, 10), entry(2, 1, recentBytes), entry(3, 1, recentBytes+1)})
	has(1, 1)
	has(2, 1)
	has(3, 0)
	r.put([]*raft.Log{entry(1+recentLogs, 2, 1)}) // in the place of 1
	has(1, 0)
	has(1+recentLogs, 2)
	r.put([]*raft.Log{entry(4, 2, 1), entry(5, 2, 1), entry(6, 2, 1)})
	r.forget(2, 5)
	for index, term := range map[uint64]uint64{2: 0, 4: 0, 5: 0, 6: 2, 1 + recentLogs: 2} {
		has(index, term)
	}
	r.put([]*raft.Log{entry(6, 3, recentBytes+1)}) // replaces it, and is not remembered
	has(6, 0)
}
