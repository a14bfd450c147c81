package consensus

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func save(t *testing.T, n *Node) []byte {
	t.Helper()
	var b bytes.Buffer
	h, err := n.SnapshotSave(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	if h.ClusterID != n.ClusterID() || h.Node != n.ID() {
		t.Errorf("got header %+v", h)
	}
	return b.Bytes()
}

func TestSnapshotFile(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	putServices(t, n, 0, 10)
	b := save(t, n)
	info, err := SnapshotInspect(bytes.NewReader(b))
	if err != nil || info.Services != 10 || info.Nodes != 1 || info.Index != n.Index() {
		t.Fatalf("got %+v %v", info, err)
	}
	for name, damaged := range map[string][]byte{
		"empty":        nil,
		"no line":      []byte("x"),
		"other format": []byte("{}\n"),
		"newer":        bytes.Replace(b, []byte(`"version":1`), []byte(`"version":9`), 1),
		"cut":          b[:len(b)-1],
		"cut early":    b[:len(b)/2],
		"longer":       append(bytes.Clone(b), 0),
	} {
		if _, err := SnapshotInspect(bytes.NewReader(damaged)); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1
		if _, err := SnapshotInspect(bytes.NewReader(flipped)); err == nil {
			t.Fatalf("flipping a bit of byte %d is not noticed", i)
		}
	}
}

func FuzzSnapshotFile(f *testing.F) {
	f.Add([]byte(`{"format":"tenement snapshot","version":1}` + "\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := SnapshotInspect(bytes.NewReader(b)); err == nil {
			t.Fatal("no checksum is guessed")
		}
	})
}

func TestSnapshotRestore(t *testing.T) {
	c := newTestCluster(t, 3)
	putServices(t, c.leader().Node, 0, 10)
	b := save(t, c.followers()[0].Node)
	putServices(t, c.leader().Node, 10, 20)
	index := c.leader().Index()
	if _, err := c.followers()[0].SnapshotRestore(t.Context(), bytes.NewReader(b), false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("by a follower: got %v", err)
	}
	leader := c.leader()
	if _, err := leader.SnapshotRestore(t.Context(), bytes.NewReader(b[1:]), false); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a damaged one: got %v", err)
	}
	if _, err := leader.SnapshotRestore(t.Context(), bytes.NewReader(b), false); err != nil {
		t.Fatal(err)
	}
	c.awaitEqual()
	for _, m := range c.members {
		v := m.View()
		if _, ok := v.Service("s10"); ok {
			t.Errorf("%s still has what came after the snapshot", m.cfg.Node.Name)
		}
		if _, ok := v.Service("s9"); !ok || v.Index() <= index {
			t.Errorf("%s is at index %d after %d, without what the snapshot holds: %v", m.cfg.Node.Name, v.Index(), index, !ok)
		}
		if _, ok := v.Node(m.ID()); !ok {
			t.Errorf("node %s is gone", m.cfg.Node.Name)
		}
	}
	putServices(t, c.followers()[0].Node, 30, 31)
	left, err := filepath.Glob(filepath.Join(leader.disk.dir, "restore-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	for _, m := range c.members {
		m.kill()
	}
	for _, m := range c.members {
		m.start()
	}
	for _, m := range c.members {
		<-m.CaughtUp()
	}
	c.awaitEqual()

	foreign := open(t, testConfig(t, t.TempDir()))
	if _, err := foreign.SnapshotRestore(t.Context(), bytes.NewReader(b), false); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("in another cluster: got %v", err)
	}
	if _, err := foreign.SnapshotRestore(t.Context(), bytes.NewReader(b), true); err != nil {
		t.Error(err)
	}
	if _, ok := foreign.View().Service("s9"); !ok || foreign.View().ClusterID() != foreign.ClusterID() {
		t.Error("by force, in another cluster: it is not this cluster's state")
	}
}

func TestRecover(t *testing.T) {
	c := newTestCluster(t, 3)
	f := c.followers()[0]
	putServices(t, f.Node, 0, 10)
	if err := f.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	putServices(t, f.Node, 10, 20)
	c.awaitEqual()
	index, clusterID, id := f.Index(), f.ClusterID(), f.ID()
	if _, err := RecoverPreview(f.cfg.Dir); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "is ten already running") {
		t.Errorf("while it runs: got %v", err)
	}
	for _, m := range c.members {
		m.kill()
	}
	for range 2 { // a preview changes nothing
		r, err := RecoverPreview(f.cfg.Dir)
		if err != nil || len(r.Before) != 3 || len(r.After) != 1 || r.After[0].ID != id || r.Index != index || r.ClusterID != clusterID || r.Snapshot == 0 || r.Backup != "" {
			t.Fatalf("got %+v %v", r, err)
		}
	}
	r, err := Recover(f.cfg.Dir, RecoverOptions{Now: func() time.Time { return time.Unix(0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.Backup, logFile)); err != nil {
		t.Error(err)
	}
	c.members = []*member{f}
	f.start()
	if !f.IsLeader() || f.Index() < index || f.ClusterID() != clusterID || len(f.Members()) != 1 {
		t.Errorf("got index %d, want %d; members %+v", f.Index(), index, f.Members())
	}
	if _, ok := f.View().Service("s19"); !ok {
		t.Error("it has lost a write")
	}
	putServices(t, f.Node, 20, 21)
	// And it can grow again.
	m := c.add("node-9")
	m.cfg.Join = c.joining(m)
	m.start()
	c.awaitEqual()
}

func TestRecoverRefuses(t *testing.T) {
	if _, err := Recover(t.TempDir(), RecoverOptions{}); err == nil || !strings.Contains(err.Error(), "look for a log") {
		t.Errorf("an empty directory: got %v", err)
	}
	dir := t.TempDir()
	n := open(t, testConfig(t, dir))
	putServices(t, n, 0, 3)
	closeNode(t, n)
	flipLogs(t, dir)
	if _, err := Recover(dir, RecoverOptions{}); err == nil || !strings.Contains(err.Error(), "its checksum is wrong") {
		t.Errorf("a damaged log: got %v", err)
	}
}
