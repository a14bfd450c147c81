package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// identity is who a node is, for the life of its directory: the content of node.json.
type identity struct {
	ID        string `json:"id"`
	ClusterID string `json:"cluster_id"`
	// Bootstrapping is set until the new cluster has its first entries. It is what tells
	// a first start that was cut short, which may start over, from a node whose log
	// somebody has taken away, which must not begin a new history under its old name.
	Bootstrapping bool `json:"bootstrapping,omitempty"`
}

const identityFile = "node.json"

// loadIdentity reads dir's identity, or mints one if dir has none. hasLog says whether
// the log beside it holds anything; the caller holds its lock.
func loadIdentity(dir string, hasLog bool) (identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path) //nolint:gosec // the node's own directory
	if errors.Is(err, fs.ErrNotExist) {
		if hasLog {
			return identity{}, fmt.Errorf("mint identity: %s holds a log but %s is missing: "+
				"put it back, or move the directory away to start a new cluster", filepath.Join(dir, raftDirName), path)
		}
		id := identity{ID: uuid.NewString(), ClusterID: uuid.NewString(), Bootstrapping: true}
		return id, id.save(dir)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, fmt.Errorf("read identity %s: %w", path, err)
	}
	for _, s := range []string{id.ID, id.ClusterID} {
		if _, err := uuid.Parse(s); err != nil {
			return identity{}, fmt.Errorf("read identity %s: %q is not an id: %w", path, s, err)
		}
	}
	if !id.Bootstrapping && !hasLog {
		return identity{}, fmt.Errorf("read identity %s: node %s of cluster %s has lost its log in %s: "+
			"put it back, or move the directory away to start a new cluster", path, id.ID, id.ClusterID, filepath.Join(dir, raftDirName))
	}
	return id, nil
}

// save replaces node.json so that after a crash it is the old one or the new one.
func (id identity) save(dir string) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	path := filepath.Join(dir, identityFile)
	temp := path + ".new"
	if err := writeSynced(temp, append(b, '\n')); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return syncDir(dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the node's own directory
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the node's own directory
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
