package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/state"
)

var _ leader.Cluster = (*Node)(nil)

func readIdentity(t *testing.T, dir string) identity {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, identityFile)) //nolint:gosec // a test's directory
	if err != nil {
		t.Fatal(err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	n := open(t, testConfig(t, dir))
	id := readIdentity(t, dir)
	if id.ID != n.ID() || id.ClusterID != n.ClusterID() || id.Bootstrapping || n.View().ClusterID() != id.ClusterID {
		t.Errorf("node.json holds %+v, the node is %s in %s, the state of %s", id, n.ID(), n.ClusterID(), n.View().ClusterID())
	}
	if self, ok := n.View().Node(n.ID()); !ok || self.Name != "node-a" || !n.IsLeader() {
		t.Errorf("after open: it is %+v, leader %v", self, n.IsLeader())
	}
	putServices(t, n, 0, 20)
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	putServices(t, n, 20, 30)
	index, hash := n.Index(), n.View().Hash()
	closeNode(t, n)
	closeNode(t, n)
	if _, err := n.PutService(t.Context(), service("late"), nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a write after close: got %v", err)
	}

	again := open(t, testConfig(t, dir))
	if again.ID() != id.ID || again.ClusterID() != id.ClusterID {
		t.Error("it has another identity")
	}
	if again.Index() != index || again.View().Hash() != hash {
		t.Errorf("got index %d, want %d, or another state", again.Index(), index)
	}
}

// A cluster of one is open long before any time-out, be it an hour.
func TestOpenWaitsForNoTimeout(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		cfg := testConfig(t, dir)
		cfg.tune = func(rc *raft.Config) { rc.HeartbeatTimeout, rc.ElectionTimeout = time.Hour, time.Hour }
		closeNode(t, open(t, cfg))
	}
}

func TestOpenRefuses(t *testing.T) {
	lose := func(names ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	edit := func(change func(*identity)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			id := readIdentity(t, dir)
			change(&id)
			if err := id.save(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	const other = "00000000-0000-4000-8000-000000000000"
	for name, test := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"lost identity":   {lose(identityFile), "holds a log but"},
		"lost log":        {lose(raftDirName), "has lost its log"},
		"other node":      {edit(func(id *identity) { id.ID = other }), "is not that of node " + other},
		"other cluster":   {edit(func(id *identity) { id.ClusterID = other }), "log and identity are from different clusters"},
		"bad id":          {edit(func(id *identity) { id.ID = "me" }), `"me" is not an id`},
		"no JSON":         {func(t *testing.T, dir string) { writeFile(t, dir, identityFile, "{") }, "read identity"},
		"changed entries": {flipLogs, "its checksum is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, testConfig(t, dir))
			putServices(t, n, 0, 3)
			closeNode(t, n)
			test.damage(t, dir)
			cfg := testConfig(t, dir)
			cfg.Fatal = func(error) {}
			n, err := Open(t.Context(), cfg)
			if err == nil {
				t.Error(n.Close())
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func writeFile(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A first start that was cut short anywhere is taken up again.
func TestOpenAfterAnInterruptedBootstrap(t *testing.T) {
	for _, name := range []string{"before the log", "between its writes", "after the log"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			closeNode(t, open(t, testConfig(t, dir)))
			id := readIdentity(t, dir)
			id.Bootstrapping = true
			if err := id.save(dir); err != nil {
				t.Fatal(err)
			}
			if name != "after the log" {
				if err := os.RemoveAll(filepath.Join(dir, raftDirName)); err != nil {
					t.Fatal(err)
				}
			}
			if name == "between its writes" {
				storeTerm(t, filepath.Join(dir, raftDirName))
			}
			n := open(t, testConfig(t, dir))
			if n.ID() != id.ID || n.View().ClusterID() != id.ClusterID || readIdentity(t, dir).Bootstrapping {
				t.Error("it did not go on as who it was")
			}
		})
	}
}

// storeTerm makes a log that holds a term and no entry.
func storeTerm(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := raftboltdb.NewBoltStore(filepath.Join(dir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.SetUint64([]byte(keyCurrentTerm), 1), log.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	open(t, testConfig(t, dir))
	cfg := testConfig(t, dir)
	cfg.LockWait = time.Millisecond
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "is ten already running on this directory?") {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"Dir is empty": func(c *Config) { c.Dir = "" },
		"Fatal is nil": func(c *Config) { c.Fatal = nil },
		"node: name":   func(c *Config) { c.Node.Name = "No Name" },
	} {
		cfg := testConfig(t, t.TempDir())
		change(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
}

func TestWritesThatChangeNothingStayOutOfTheLog(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	s := putService(t, n, service("app"))
	before := n.raft.LastIndex()
	if again := putService(t, n, service("app")); again != s {
		t.Error("an equal put gave another object")
	}
	five := uint64(5)
	for name, test := range map[string]struct {
		write func() error
		want  api.Code
	}{
		"stale":  {func() error { _, err := n.PutService(t.Context(), service("app"), &five); return err }, api.CodeStaleRevision},
		"absent": {func() error { _, err := n.DeleteService(t.Context(), "none", nil); return err }, api.CodeNotFound},
		"orphan": {func() error {
			_, err := n.PutInstance(t.Context(), &api.Instance{Service: "no", ID: "a"}, nil)
			return err
		}, api.CodeNotFound},
		"invalid":    {func() error { _, err := n.PutService(t.Context(), service("No"), nil); return err }, api.CodeInvalid},
		"invalid i":  {func() error { _, err := n.PutInstance(t.Context(), &api.Instance{}, nil); return err }, api.CodeInvalid},
		"invalid n":  {func() error { _, err := n.DescribeNode(t.Context(), api.Node{}); return err }, api.CodeInvalid},
		"invalid t":  {func() error { _, err := n.PutToken(t.Context(), &api.Token{}, nil); return err }, api.CodeInvalid},
		"invalid r":  {func() error { _, err := n.DeleteInstance(t.Context(), api.Ref{}, nil); return err }, api.CodeInvalid},
		"invalid p":  {func() error { return n.Place(t.Context(), []state.Placement{{}}) }, api.CodeInvalid},
		"invalid o":  {func() error { return n.Report(t.Context(), []api.Report{{}}) }, api.CodeInvalid},
		"invalid f":  {func() error { return n.SyncFile(t.Context(), nil, []api.Ref{{}}) }, api.CodeInvalid},
		"invalid fs": {func() error { return n.SyncFile(t.Context(), []*api.Service{{}}, nil) }, api.CodeInvalid},
	} {
		if err := test.write(); api.CodeOf(err) != test.want {
			t.Errorf("%s: got %v, want code %s", name, err, test.want)
		}
	}
	if got := n.raft.LastIndex(); got != before {
		t.Errorf("%d entries were written for nothing", got-before)
	}
}

func TestWritesOfEveryKind(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	ctx := t.Context()
	given := service("app")
	if s := putService(t, n, given); s.Revision != n.Index() || given.Args != nil {
		t.Errorf("got revision %d at index %d, and the caller's object %+v", s.Revision, n.Index(), given)
	}
	ref := api.Ref{Service: "app", ID: "a"}
	if _, err := n.PutInstance(ctx, &api.Instance{Service: "app", ID: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Place(ctx, []state.Placement{{Ref: ref, Node: n.ID(), Generation: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Report(ctx, []api.Report{{Ref: ref, Observed: api.Observed{State: api.StateRunning, Generation: 1}}}); err != nil {
		t.Fatal(err)
	}
	if i, _ := n.View().Instance(ref); i.State() != api.StateRunning || i.Node != n.ID() {
		t.Errorf("got %+v", i)
	}
	if index, err := n.DeleteInstance(ctx, ref, nil); err != nil || index != n.Index() {
		t.Errorf("got %d %v at index %d", index, err, n.Index())
	}
	if index, err := n.DeleteService(ctx, "app", nil); err != nil || index != n.Index() {
		t.Errorf("got %d %v at index %d", index, err, n.Index())
	}
	tok, err := n.PutToken(ctx, &api.Token{ID: "0123456789ab", SHA256: make([]byte, 32)}, nil)
	if err != nil || tok.Role != api.RoleAdmin {
		t.Fatalf("got %+v %v", tok, err)
	}
	if _, err := n.DeleteToken(ctx, tok.ID); err != nil {
		t.Error(err)
	}
	if err := n.SyncFile(ctx, []*api.Service{service("web")}, []api.Ref{{Service: "web", ID: "one"}}); err != nil {
		t.Fatal(err)
	}
	if s, _ := n.View().Service("web"); s.Source != api.SourceFile || n.View().InstanceCount("web") != 1 {
		t.Errorf("got %+v", s)
	}
}

// Every write is visible to its writer, and to whoever waits for its index.
func TestConcurrentWritersReadTheirWrites(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := range 10 {
				name := fmt.Sprintf("w%d-%d", w, i)
				s, err := n.PutService(context.Background(), service(name), nil)
				if err != nil {
					t.Error(err)
					return
				}
				v, err := n.WaitIndex(t.Context(), s.Revision-1)
				if got, ok := v.Service(name); err != nil || !ok || got.Revision != s.Revision {
					t.Errorf("%s: got %+v %v", name, got, err)
				}
			}
		})
	}
	wg.Wait()
	if events, _, ok := n.Events(0); !ok || len(events) != 641 {
		t.Errorf("got %d events, want 640 services and a node", len(events))
	}
}

func TestWaitIndex(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	index := n.Index()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := n.WaitIndex(ctx, index); api.CodeOf(err) != api.CodeUnavailable || v == nil {
		t.Errorf("a cancelled wait: got %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := n.WaitIndex(ctx, index); api.CodeOf(err) != api.CodeTimeout {
		t.Errorf("a wait that timed out: got %v", err)
	}
	got := make(chan uint64)
	go func() {
		v, _ := n.WaitIndex(context.Background(), index)
		got <- v.Index()
	}()
	putService(t, n, service("app"))
	if g := <-got; g <= index {
		t.Errorf("got index %d, want more than %d", g, index)
	}
	go func() {
		_, err := n.WaitIndex(context.Background(), n.Index())
		if api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("a wait when the node closed: got %v", err)
		}
		close(got)
	}()
	closeNode(t, n)
	<-got
}

// The leader's loop on the real thing: what is declared gets placed.
func TestLeaderPlaces(t *testing.T) {
	n := open(t, testConfig(t, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		leader.Run(ctx, leader.Config{Cluster: n, Logger: n.cfg.Logger})
	}()
	var refs []api.Ref
	for i := range 1500 {
		refs = append(refs, api.Ref{Service: "app", ID: fmt.Sprint(i)})
	}
	if err := n.SyncFile(ctx, []*api.Service{service("app", func(s *api.Service) { s.MaxInstances, s.Isolation = 2000, api.IsolationProcess })}, refs); err != nil {
		t.Fatal(err)
	}
	v := n.View()
	for unplaced := 1; unplaced > 0; {
		unplaced = 0
		for range v.Unplaced() {
			unplaced++
		}
		if unplaced > 0 {
			var err error
			if v, err = n.WaitIndex(ctx, v.Index()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range v.Instances("app") {
		if i.Node != n.ID() || i.Generation != 1 {
			t.Fatalf("got %+v", i)
		}
	}
	cancel()
	<-done
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	for range 2 { // closing takes them away, so that the next can register
		cfg := testConfig(t, dir)
		cfg.Registerer = reg
		n := open(t, cfg)
		putServices(t, n, 0, 5)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + float64(f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
		if got["tenement_raft_leader"] != 1 || got["tenement_raft_applied_index"] != float64(n.raft.AppliedIndex()) ||
			got["tenement_raft_store_seconds"] == 0 || len(got) != 10 {
			t.Errorf("got %v", got)
		}
		closeNode(t, n)
	}
}

// recordingTransport remembers who asked for a bypass of Raft's main loop.
type recordingTransport struct {
	Transport
	handlers int
}

func (r *recordingTransport) SetHeartbeatHandler(func(raft.RPC)) { r.handlers++ }

func TestHeartbeatsDontBypassTheMainLoop(t *testing.T) {
	addr, mem := raft.NewInmemTransport("self")
	mem.Connect(addr, mem)
	rec := &recordingTransport{Transport: mem}
	cfg := testConfig(t, t.TempDir())
	cfg.Transport = rec
	n := open(t, cfg)
	putServices(t, n, 0, 1)
	if rec.handlers != 0 {
		t.Errorf("Raft set %d heartbeat handlers (hashicorp/raft#695)", rec.handlers)
	}
	if _, ok := raft.Transport(steadyTransport{rec}).(raft.WithPreVote); !ok {
		t.Error("the wrapped transport hides pre-vote")
	}
}
