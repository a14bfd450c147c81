package server

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/secret"
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
	return m.peers.client.RestoreSnapshot(asCaller(ctx, m.consensus), leader, r, force)
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
	done, err := consensus.Recover(filepath.Join(dataDir, internalDir), consensus.RecoverOptions{Logger: log})
	if err != nil {
		return done, err
	}
	return done, replaceFile(filepath.Join(dataDir, internalDir, recoveredFile), nil)
}

// recoveredFile tells the next start that the servers which the state knows are lost.
const recoveredFile = "recovered"

// forgetLost removes the other servers from the state after a recovery: they are lost, or
// join anew under their old names.
func (n *node) forgetLost(ctx context.Context) {
	mark := n.path(recoveredFile)
	if _, err := os.Stat(mark); err != nil {
		return
	}
	for ctx.Err() == nil {
		err := n.removeOthers(ctx)
		if err == nil {
			err = os.Remove(mark)
		}
		if err == nil {
			return
		}
		n.log.Warn("the servers that were lost are not forgotten yet", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (n *node) removeOthers(ctx context.Context) error {
	for other := range n.consensus.View().Nodes() {
		if other.ID == n.consensus.ID() {
			continue
		}
		if err := n.consensus.RemoveMember(asNode(ctx, n.consensus), other.ID, true); err != nil {
			return err
		}
		n.log.Info("a server that was lost is forgotten", "node", other.ID, "name", other.Name)
	}
	return nil
}

// NewSecret makes the secret of a cluster that is yet to be.
func NewSecret() (string, error) {
	s, err := secret.New(rand.Reader)
	if err != nil {
		return "", err
	}
	return s.Reveal(), nil
}

// LongToken makes a join token that holds the secret of the cluster of a data directory's
// server, for servers that find the cluster at the addresses.
func LongToken(dataDir string, addresses []string) (string, error) {
	k, err := secret.Load(SecretPath(dataDir))
	if err != nil {
		return "", err
	}
	return secret.JoinToken{Addresses: addresses, CA: k.CAs()[0].Fingerprint(), Secret: k.Secrets()[0]}.Reveal()
}

// SecretPath is where the server of a data directory keeps its cluster's secret.
func SecretPath(dataDir string) string { return filepath.Join(dataDir, internalDir, secretFile) }
