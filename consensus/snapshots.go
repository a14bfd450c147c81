package consensus

import (
	"io"

	"github.com/hashicorp/raft"
)

// snapshots tells the state machine which entry a snapshot ends with. Raft does not, and
// installs whatever the leader sends: a snapshot that comes late, to a node that was
// stopped for a while, say, can be older than what the node has applied since.
type snapshots struct{ raft.SnapshotStore }

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, openSnapshot{r, meta.Index}, nil
}

type openSnapshot struct {
	io.ReadCloser
	index uint64
}

// snapshotIndex returns the last entry of a snapshot that is being restored; 0 if that is
// not known.
func snapshotIndex(r io.ReadCloser) uint64 {
	for {
		switch s := r.(type) {
		case openSnapshot:
			return s.index
		case raft.ReadCloserWrapper:
			r = s.WrappedReadCloser()
		default:
			return 0
		}
	}
}
