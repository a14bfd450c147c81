package consensus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// A snapshot file is a line of JSON, the [SnapshotHeader], then the state's own snapshot
// (see package state), then the SHA-256 of everything before it, 32 bytes.

const (
	snapshotFileFormat  = "tenement snapshot"
	snapshotFileVersion = 1
)

// SnapshotHeader says what a snapshot file is of.
type SnapshotHeader struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	ClusterID string    `json:"cluster_id"`
	Index     uint64    `json:"index"`
	Node      string    `json:"node"` // the id of the node that wrote it
	CreatedAt time.Time `json:"created_at"`
}

// SnapshotInfo is what [SnapshotInspect] finds in a snapshot file.
type SnapshotInfo struct {
	SnapshotHeader
	Services  int `json:"services"`
	Instances int `json:"instances"`
	Fleets    int `json:"fleets"`
	Nodes     int `json:"nodes"`
	Tokens    int `json:"tokens"`
}

// SnapshotSave writes everything that is committed to w, as a snapshot file.
func (n *Node) SnapshotSave(ctx context.Context, w io.Writer) (SnapshotHeader, error) {
	v, err := n.ConsistentView(ctx)
	if err != nil {
		return SnapshotHeader{}, fmt.Errorf("save snapshot: %w", err)
	}
	h := SnapshotHeader{
		Format: snapshotFileFormat, Version: snapshotFileVersion,
		ClusterID: v.ClusterID(), Index: v.Index(), Node: n.id.ID, CreatedAt: n.cfg.Now().UTC(),
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if err := json.NewEncoder(out).Encode(h); err != nil {
		return h, fmt.Errorf("save snapshot: %w", err)
	}
	if _, err := v.WriteTo(out); err != nil {
		return h, fmt.Errorf("save snapshot: %w", err)
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return h, fmt.Errorf("save snapshot: %w", err)
	}
	return h, nil
}

// SnapshotInspect reads a snapshot file, all of it, and checks it.
func SnapshotInspect(r io.Reader) (SnapshotInfo, error) {
	h, v, err := readSnapshotFile(r, io.Discard)
	if err != nil {
		return SnapshotInfo{}, err
	}
	info := SnapshotInfo{SnapshotHeader: h, Instances: v.InstanceCount("")}
	for range v.Services() {
		info.Services++
	}
	for range v.Fleets("") {
		info.Fleets++
	}
	for range v.Nodes() {
		info.Nodes++
	}
	for range v.Tokens() {
		info.Tokens++
	}
	return info, nil
}

// readSnapshotFile checks a snapshot file to its last byte, and copies the state in it to
// copied on the way.
func readSnapshotFile(r io.Reader, copied io.Writer) (SnapshotHeader, *state.View, error) {
	fail := func(err error) (SnapshotHeader, *state.View, error) {
		return SnapshotHeader{}, nil, api.Errorf(api.CodeInvalid, "read snapshot file: %w", err)
	}
	sum := &summed{in: bufio.NewReaderSize(r, 64<<10), hash: sha256.New()}
	line, err := sum.line()
	if err != nil {
		return fail(err)
	}
	var h SnapshotHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Format != snapshotFileFormat {
		return fail(errors.New("it is no snapshot of tenement"))
	}
	if h.Version != snapshotFileVersion {
		return fail(fmt.Errorf("its version is %d, this ten reads version %d", h.Version, snapshotFileVersion))
	}
	store := state.New()
	restored := store.Restore(io.TeeReader(sum, copied))
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return fail(err)
	}
	// First: in a damaged file it is the damage that the state stumbles over.
	if !sum.ok() {
		return fail(errors.New("its checksum is wrong: it is damaged, or not complete"))
	}
	if restored != nil {
		return fail(restored)
	}
	v := store.View()
	if v.ClusterID() != h.ClusterID || v.Index() != h.Index {
		return fail(errors.New("its header and its content are not of one another"))
	}
	return h, v, nil
}

// summed reads everything but the checksum at the end, which it keeps.
type summed struct {
	in   *bufio.Reader
	hash hash.Hash
}

func (s *summed) line() ([]byte, error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return nil, errors.New("it is no snapshot of tenement")
	}
	s.hash.Write(line)
	return bytes.Clone(line), nil
}

// Read implements io.Reader.
func (s *summed) Read(b []byte) (int, error) {
	ahead, err := s.in.Peek(min(len(b)+sha256.Size, s.in.Size()))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if len(ahead) <= sha256.Size {
		return 0, io.EOF
	}
	n := copy(b, ahead[:len(ahead)-sha256.Size])
	s.hash.Write(b[:n])
	_, err = s.in.Discard(n)
	return n, err
}

// ok reports whether what is left is the checksum of what was read.
func (s *summed) ok() bool {
	rest, err := io.ReadAll(s.in)
	return err == nil && bytes.Equal(rest, s.hash.Sum(nil))
}

// SnapshotRestore makes the state of the whole cluster what a snapshot file holds. Only
// the leader can. Everything that was written since the snapshot is lost. The index goes
// on from where it is, for clients wait for higher ones. The snapshot of another cluster
// is refused unless forced; its state becomes this cluster's then.
func (n *Node) SnapshotRestore(ctx context.Context, r io.Reader, force bool) (SnapshotHeader, error) {
	if !n.IsLeader() {
		return SnapshotHeader{}, errNotLeader()
	}
	temp, err := os.CreateTemp(n.disk.dir, "restore-*")
	if err != nil {
		return SnapshotHeader{}, fmt.Errorf("restore snapshot: %w", err)
	}
	defer func() {
		if err := errors.Join(temp.Close(), os.Remove(temp.Name())); err != nil {
			n.cfg.Logger.Warn("could not remove the copy of a restored snapshot", "error", err)
		}
	}()
	h, _, err := readSnapshotFile(r, temp)
	if err != nil {
		return h, fmt.Errorf("restore snapshot: %w", err)
	}
	if h.ClusterID != n.id.ClusterID && !force {
		return h, api.Errorf(api.CodeConflict, "restore snapshot: it is of cluster %s, this is cluster %s: force it if that is meant", h.ClusterID, n.id.ClusterID)
	}
	if _, err := temp.Seek(0, io.SeekStart); err != nil {
		return h, fmt.Errorf("restore snapshot: %w", err)
	}
	if err := n.restore(ctx, temp, h.Index); err != nil {
		return h, fmt.Errorf("restore snapshot: %w", err)
	}
	return h, nil
}

// restore has Raft replace the state by what content holds, a snapshot of package state
// that has been checked.
func (n *Node) restore(ctx context.Context, content *os.File, index uint64) error {
	before := n.View()
	in := bufio.NewReaderSize(content, 64<<10)
	first, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	// What is written until Raft takes it up counts on by less than this.
	first, err = rebase(first, n.id.ClusterID, max(index, before.Index())+restoreGap)
	if err != nil {
		return err
	}
	stat, err := content.Stat()
	if err != nil {
		return err
	}
	at, err := content.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	rest := stat.Size() - at + int64(in.Buffered())
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: 1, Term: 1, Size: int64(len(first)) + rest}
	n.restoring.Store(true)
	defer n.restoring.Store(false)
	err = n.call(ctx, func() error { return n.raft.Restore(meta, io.MultiReader(bytes.NewReader(first), in), enqueueWait) })
	if err != nil {
		return err
	}
	if err := n.secretAgain(ctx, before); err != nil {
		return err
	}
	return n.describeAgain(ctx, before)
}

// restoreGap is more than the writes that may be pending.
const restoreGap = 1 << 20

// rebase gives the header of a state's snapshot another cluster and index.
func rebase(header []byte, clusterID string, index uint64) ([]byte, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(header, &fields)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{"cluster_id": clusterID, "index": index} {
		if fields[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(fields)
	return append(b, '\n'), err
}

// secretAgain stores how far the rotation of the secret is, which a restore does not
// change: a node would take the snapshot's word for it, and wait for ever.
func (n *Node) secretAgain(ctx context.Context, before *state.View) error {
	again := state.PutSecret{Phase: api.SecretRemove}
	switch s := before.Secret(); {
	case s != nil:
		again.Phase, again.Sealed, again.IDs = s.Phase, s.Sealed, s.IDs
	case n.View().Secret() == nil:
		return nil
	default: // there was no rotation yet
		if self, ok := before.Node(n.id.ID); ok {
			again.IDs = self.SecretIDs
		}
	}
	if _, err := n.propose(ctx, &state.Command{PutSecret: &again}); err != nil {
		return fmt.Errorf("keep the state of the secret's rotation: %w", err)
	}
	return nil
}

// describeAgain stores what the members said of themselves before a restore, for the
// snapshot may not know them, or as they were.
func (n *Node) describeAgain(ctx context.Context, before *state.View) error {
	for _, s := range n.servers() {
		node, ok := before.Node(string(s.ID))
		if !ok {
			continue
		}
		_, err := n.propose(ctx, &state.Command{DescribeNode: &state.DescribeNode{Node: *node}})
		if err != nil {
			return fmt.Errorf("describe node %s: %w", node.Name, err)
		}
	}
	return nil
}
