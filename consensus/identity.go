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
	ID string `json:"id"`
	// ClusterID is empty until the node has founded a cluster or asked to join one.
	ClusterID string `json:"cluster_id,omitempty"`
	// Bootstrapping is set until the new cluster has its first entries. It is what tells
	// a first start that was cut short, which may start over, from a node whose log
	// somebody has taken away, which must not begin a new history under its old name.
	Bootstrapping bool `json:"bootstrapping,omitempty"`
	// Joining is set until the node has been a member of the cluster, for the same reason.
	Joining bool `json:"joining,omitempty"`
}

const identityFile = "node.json"

// Identity is who the node of a directory is.
type Identity struct {
	ID        string // a UUID
	ClusterID string // a UUID, or empty: it belongs to no cluster yet
	// Member is set once it has been part of its cluster. From then on it needs its log.
	Member bool
}

// Identify returns who the node of dir is, before [Open], which certificates and join
// requests need. An empty directory is given an id.
func Identify(dir string) (Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Identity{}, fmt.Errorf("identify node: %w", err)
	}
	id, err := parseIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, raftDirName, logFile)); err == nil {
			return Identity{}, errLostIdentity(dir)
		}
		id, err = mintIdentity(dir)
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{id.ID, id.ClusterID, id.ClusterID != "" && !id.Joining && !id.Bootstrapping}, nil
}

// loadIdentity reads dir's identity, or mints one if dir has none. A node that belongs
// to no cluster founds one, or joins the one named. hasLog says whether the log beside it
// holds anything; the caller holds its lock.
func loadIdentity(dir string, hasLog bool, join string) (identity, error) {
	id, err := parseIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if hasLog {
			return identity{}, errLostIdentity(dir)
		}
		id, err = mintIdentity(dir)
	}
	if err != nil {
		return identity{}, err
	}
	path, log := filepath.Join(dir, identityFile), filepath.Join(dir, raftDirName)
	switch {
	case id.ClusterID == "" && hasLog:
		return identity{}, fmt.Errorf("read identity %s: it names no cluster, but %s holds a log: "+
			"move the directory away to start anew", path, log)
	case id.ClusterID == "" && join == "":
		id.ClusterID, id.Bootstrapping = uuid.NewString(), true
		return id, id.save(dir)
	case id.ClusterID == "":
		id.ClusterID, id.Joining = join, true
		return id, id.save(dir)
	case join != "" && join != id.ClusterID:
		return identity{}, fmt.Errorf("join cluster %s: this node belongs to cluster %s, says %s: "+
			"move its directory away to let it join as a new node", join, id.ClusterID, path)
	case !id.Bootstrapping && !id.Joining && !hasLog:
		return identity{}, fmt.Errorf("read identity %s: node %s of cluster %s has lost its log in %s: "+
			"put it back, or move the directory away to start a new cluster", path, id.ID, id.ClusterID, log)
	}
	return id, nil
}

func errLostIdentity(dir string) error {
	return fmt.Errorf("mint identity: %s holds a log but %s is missing: "+
		"put it back, or move the directory away to start a new cluster",
		filepath.Join(dir, raftDirName), filepath.Join(dir, identityFile))
}

func parseIdentity(dir string) (identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path) //nolint:gosec // the node's own directory
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, fmt.Errorf("read identity %s: %w", path, err)
	}
	for _, s := range []string{id.ID, id.ClusterID} {
		if s == "" && id.ID != "" {
			continue // no cluster yet
		}
		if _, err := uuid.Parse(s); err != nil {
			return identity{}, fmt.Errorf("read identity %s: %q is not an id: %w", path, s, err)
		}
	}
	return id, nil
}

// mintIdentity gives dir a node id, or returns the one that somebody else has just given
// it: two first starts at once become one node.
func mintIdentity(dir string) (identity, error) {
	id := identity{ID: uuid.NewString()}
	temp := "." + id.ID + ".new"
	if err := id.write(filepath.Join(dir, temp)); err != nil {
		return identity{}, err
	}
	err := os.Link(filepath.Join(dir, temp), filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, os.Remove(filepath.Join(dir, temp)), syncDir(dir)); err != nil {
		return identity{}, fmt.Errorf("mint identity: %w", err)
	}
	return parseIdentity(dir)
}

// save replaces node.json so that after a crash it is the old one or the new one.
func (id identity) save(dir string) error {
	path := filepath.Join(dir, identityFile)
	temp := path + ".new"
	if err := id.write(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return syncDir(dir)
}

func (id identity) write(path string) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := writeSynced(path, append(b, '\n')); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
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
