package server

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/tenement-fleet/tenement/consensus"
)

// SaveSnapshot implements httpapi.Members.
func (m members) SaveSnapshot(ctx context.Context, w io.Writer) error {
	_, err := m.consensus.SnapshotSave(ctx, w)
	return err
}

// RestoreSnapshot implements httpapi.Members. Only the leader can: any other node passes
// the snapshot on.
func (m members) RestoreSnapshot(ctx context.Context, r io.Reader, force bool) error {
	if m.consensus.IsLeader() {
		_, err := m.consensus.SnapshotRestore(ctx, r, force)
		return err
	}
	leader, _, ok := m.consensus.Leader()
	if !ok {
		return errNoLeader()
	}
	return m.peers.client.RestoreSnapshot(ctx, leader, r, force)
}

// RestoreSnapshot implements peering.Node.
func (m member) RestoreSnapshot(ctx context.Context, r io.Reader, force bool) error {
	_, err := m.consensus.SnapshotRestore(ctx, r, force)
	return err
}

// InspectSnapshot reads a snapshot file, all of it, and says what it is of.
func InspectSnapshot(r io.Reader) (consensus.SnapshotInfo, error) {
	return consensus.SnapshotInspect(r)
}

// RecoverPreview says what Recover would do to a data directory.
func RecoverPreview(dataDir string) (consensus.Recovery, error) {
	return consensus.RecoverPreview(filepath.Join(dataDir, internalDir))
}

// Recover makes the stopped server of a data directory the only member of its cluster,
// after most of the others were lost for good. It backs up first.
func Recover(dataDir string, log *slog.Logger) (consensus.Recovery, error) {
	return consensus.Recover(filepath.Join(dataDir, internalDir), consensus.RecoverOptions{Logger: log})
}

// SecretPath is where the server of a data directory keeps its cluster's secret.
func SecretPath(dataDir string) string { return filepath.Join(dataDir, internalDir, secretFile) }
