package consensus

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/hashicorp/raft"
)

// Raft applies nothing that came after its last snapshot until a leader says what is
// committed. A server that starts and finds none would serve a state from hours ago. So
// the leader stamps its entries with what was committed when it wrote them, Close stores
// it, and a start applies that much ahead of Raft, which then skips it.

// keyCommitted is where Close notes the commit index.
const keyCommitted = "Committed"

// commitStamp returns what an entry says is committed, in its extensions after the
// checksum; 0 if it says nothing.
func commitStamp(l *raft.Log) uint64 {
	if len(l.Extensions) != checksumSize+8 {
		return 0
	}
	return binary.BigEndian.Uint64(l.Extensions[checksumSize:])
}

// knownCommitted returns up to which index the log is certainly committed.
func (s *storage) knownCommitted() (uint64, error) {
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	var l raft.Log
	if err := s.GetLog(last, &l); err != nil {
		return 0, err
	}
	committed := commitStamp(&l)
	if noted, err := s.rawStore.GetUint64([]byte(keyCommitted)); err == nil {
		committed = max(committed, noted)
	}
	return min(committed, last), nil
}

// applyAhead brings the state up to what is known to be committed, before Raft does.
// Raft's own entries wait for it; see [fsm.ApplyBatch].
func (n *Node) applyAhead(restores int) error {
	defer close(n.fsm.ready)
	if n.votesAlone() {
		return nil // Raft will have done it before Open returns
	}
	first, err := strconv.ParseUint(n.raft.Stats()["last_snapshot_index"], 10, 64)
	if err != nil {
		return fmt.Errorf("read snapshot index: %w", err)
	}
	committed, err := n.files.knownCommitted()
	if err != nil {
		return fmt.Errorf("read what is committed: %w", err)
	}
	n.fsm.mu.Lock()
	defer n.fsm.mu.Unlock()
	if n.fsm.restores != restores {
		return nil // a leader has sent a newer state meanwhile
	}
	const chunk = 256
	for first++; first <= committed; first += chunk {
		logs := make([]*raft.Log, 0, chunk)
		for i := first; i <= min(committed, first+chunk-1); i++ {
			l := new(raft.Log)
			if err := n.files.GetLog(i, l); err != nil {
				return fmt.Errorf("read log entry %d: %w", i, err)
			}
			logs = append(logs, l)
		}
		n.fsm.apply(logs)
	}
	n.fsm.ahead = committed
	return nil
}

// noteCommitted lets the next start know what this one knew.
func (n *Node) noteCommitted() {
	if n.latch.tripped() != nil || n.votesAlone() {
		return
	}
	if err := n.files.SetUint64([]byte(keyCommitted), n.raft.CommitIndex()); err != nil {
		n.cfg.Logger.Warn("could not note what is committed", "error", err)
	}
}

// committed returns what Raft knows to be committed.
func (n *Node) committed() uint64 {
	if n.raft == nil {
		return 0 // its first entry is being written
	}
	return n.raft.CommitIndex()
}
