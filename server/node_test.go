package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server/config"
)

var refOne = api.Ref{Service: "app", ID: "one"}

// TestFailedStart: whichever part can't be opened, the error says so and nothing is left:
// no goroutine, no lock, no socket. Once the obstacle is gone the next start works.
func TestFailedStart(t *testing.T) {
	for _, tc := range []struct{ obstacle, want string }{
		{".ten/logs", "logs"},
		{".ten/raft", "raft"},
		{".ten/run", "run"},
		{".ten/pending-tokens", "token"},
		{".ten/lock/x", "lock"},
		{"ten.sock", "ten.sock"},
	} {
		t.Run(tc.obstacle, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, tc.obstacle)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("in the way"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "tenement.toml"), []byte(oneService), 0o600); err != nil {
				t.Fatal(err)
			}
			m := fake.NewMachine(nil)
			defer m.Close()
			err := Run(t.Context(), testOptions(m, dir))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("run: %v; want an error about %s", err, tc.want)
			}
			if fi, err := os.Lstat(filepath.Join(dir, "ten.sock")); err == nil && fi.Mode()&fs.ModeSocket != 0 {
				t.Error("ten.sock was left")
			}
			if strings.HasSuffix(tc.obstacle, "/x") {
				path = filepath.Dir(path)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			s := startServer(t, dir)
			if _, body := s.get("one.app.localhost", "/"); body != "app:one\n" {
				t.Errorf("got %q", body)
			}
			for name, want := range map[string]fs.FileMode{".ten": 0o700, "ten.sock": 0o600} {
				if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != want {
					t.Errorf("%s: %v, %v; want mode %o", name, fi.Mode(), err, want)
				}
			}
		})
	}
}

// TestOneServerADirectory: the second is refused, and takes nothing from the first.
func TestOneServerADirectory(t *testing.T) {
	s := startServer(t, tempDir(t))
	m := fake.NewMachine(nil)
	defer m.Close()
	if err := Run(t.Context(), testOptions(m, s.dir)); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server: %v", err)
	}
	if _, err := s.client.ServerHealth(t.Context()); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	s := startServer(t, tempDir(t))
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "tenement.toml"), []byte(oneService), 0o600); err != nil {
		t.Fatal(err)
	}
	m := fake.NewMachine(nil)
	defer m.Close()
	opts := testOptions(m, dir)
	load := opts.Load
	opts.Load = func() (cfg *config.Config, err error) {
		if cfg, err = load(); err == nil {
			_, err = fmt.Sscanf(s.addr, "127.0.0.1:%d", &cfg.Port)
		}
		return cfg, err
	}
	if err := Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--port") {
		t.Errorf("got %v", err)
	}
}

// openConsensus returns replicated state with service app on a node that can run it.
func openConsensus(t *testing.T) *consensus.Node {
	t.Helper()
	n, err := consensus.Open(t.Context(), consensus.Config{
		Dir: tempDir(t), Reserve: -1, LowWater: -1, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
		Node: api.Node{Name: "n", Isolations: []api.Isolation{api.IsolationNamespace}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := n.PutService(t.Context(), &api.Service{Name: "app", Command: "true", MaxInstances: 20_000}, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// owned runs f until the test ends.
func owned(t *testing.T, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// told collects what the pump tells the agent.
type told struct {
	mu    sync.Mutex
	refs  map[api.Ref]int
	block chan struct{} // while set and open, telling waits
}

func (c *told) changed(ref api.Ref) {
	c.mu.Lock()
	c.refs[ref]++
	block := c.block
	c.mu.Unlock()
	if block != nil {
		<-block
	}
}

func (c *told) count(ref api.Ref) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refs[ref]
}

func newRouter(t *testing.T) *route.Router {
	t.Helper()
	r, err := route.New(route.Config{Domain: "localhost", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPump(t *testing.T) {
	n, r, c := openConsensus(t), newRouter(t), &told{refs: map[api.Ref]int{}}
	p := newPump(n, r, c.changed)
	p.reset()
	owned(t, p.run)
	in, err := n.PutInstance(t.Context(), &api.Instance{Service: "app", ID: "one"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reached := func(index uint64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.waitFor(ctx, index); err != nil {
			t.Fatal(err)
		}
	}
	reached(in.Revision)
	if m := r.Match("one.app.localhost", "/"); m.Kind != route.Direct || m.Target == nil || c.count(refOne) != 1 {
		t.Errorf("after a put: %+v, told %d times", m, c.count(refOne))
	}
	if _, err := n.PutService(t.Context(), &api.Service{Name: "app", Command: "false", MaxInstances: 20_000}, nil); err != nil {
		t.Fatal(err)
	}
	reached(n.Index())
	if c.count(refOne) != 2 {
		t.Errorf("after a change of its service: told %d times", c.count(refOne))
	}
	index, err := n.DeleteService(t.Context(), "app", nil)
	if err != nil {
		t.Fatal(err)
	}
	reached(index)
	if m := r.Match("one.app.localhost", "/"); m.Kind != route.Unknown || c.count(refOne) != 3 {
		t.Errorf("after its service is deleted: %v, told %d times", m.Kind, c.count(refOne))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := p.waitFor(ctx, index+1000); !errors.Is(err, gone) {
		t.Errorf("wait for the future: %v", err)
	}
}

// TestPumpFallsBehind: more happens than the state remembers, while the pump is held up.
// Nothing is lost: neither what came nor what went.
func TestPumpFallsBehind(t *testing.T) {
	n, r, c := openConsensus(t), newRouter(t), &told{refs: map[api.Ref]int{}}
	put := func(id string) {
		t.Helper()
		if _, err := n.PutInstance(t.Context(), &api.Instance{Service: "app", ID: id}, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("goes")
	p := newPump(n, r, c.changed)
	p.reset()
	open := make(chan struct{})
	c.block = open
	owned(t, p.run)
	put("holds-up") // the pump stands still with the first word of it
	put("goes-too")
	for _, id := range []string{"goes", "goes-too"} {
		if _, err := n.DeleteInstance(t.Context(), api.Ref{Service: "app", ID: id}, nil); err != nil {
			t.Fatal(err)
		}
	}
	const many = 9000
	var refs []api.Ref
	for i := range many {
		refs = append(refs, api.Ref{Service: "app", ID: fmt.Sprint("i", i)})
	}
	if err := n.SyncFile(t.Context(), []*api.Service{{Name: "app", Command: "true", MaxInstances: 20_000}}, refs); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.block = nil
	c.mu.Unlock()
	close(open)
	if err := p.waitFor(t.Context(), n.Index()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range append(refs, api.Ref{Service: "app", ID: "goes"}) {
		if c.count(ref) == 0 {
			t.Fatalf("%s: told nothing", ref)
		}
	}
	if m := r.Match("i8999.app.localhost", "/"); m.Kind != route.Direct || m.Target == nil {
		t.Errorf("the last one: %+v", m)
	}
	if m := r.Match("goes.app.localhost", "/"); m.Target != nil {
		t.Errorf("a deleted one: %+v", m)
	}
}

// TestPlaced: a request for an instance that was declared a moment ago waits until the
// leader has placed it.
func TestPlaced(t *testing.T) {
	n := openConsensus(t)
	p := newPump(n, newRouter(t), func(api.Ref) {})
	if _, _, err := placed(t.Context(), n, refOne); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("no instance: %v", err)
	}
	if _, err := n.PutInstance(t.Context(), &api.Instance{Service: "app", ID: "one"}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := placed(ctx, n, refOne); api.CodeOf(err) != api.CodeTimeout {
		t.Errorf("nobody places: %v", err)
	}
	owned(t, func(ctx context.Context) {
		leader.Run(ctx, leader.Config{Cluster: leading{n}, Logger: slog.New(slog.DiscardHandler)})
	})
	id, index, err := placed(t.Context(), n, refOne)
	if in, ok := n.View().Instance(refOne); err != nil || !ok || id != n.ID() || in.Node != id || index == 0 {
		t.Errorf("placed on %s at %d: %+v, %v", id, index, in, err)
	}
	if err := (requests{node: n, pump: p}).Create(ctx, api.Ref{Service: "app", ID: "two"}); err == nil {
		t.Error("created for a client that is gone")
	}
}

func TestImportTokens(t *testing.T) {
	n, dir, log := openConsensus(t), tempDir(t), &syncBuffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	if err := importTokens(t.Context(), n, filepath.Join(dir, "missing"), logger); err != nil {
		t.Errorf("no directory: %v", err)
	}
	_, id, hash, err := api.NewSecret(strings.NewReader(strings.Repeat("x", 64)))
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(api.Token{ID: id, Role: api.RoleAdmin, SHA256: hash[:], CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"good.json": string(good), "bad.json": "{", "other.json": `{"id":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := importTokens(t.Context(), n, dir, logger); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := n.View().Token(id); !ok {
		t.Error("the token was not imported")
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2 || !strings.Contains(log.String(), "bad.json") || !strings.Contains(log.String(), "other.json") {
		t.Errorf("left: %v; log: %s", left, log)
	}
}

func TestStorageUsage(t *testing.T) {
	dir := tempDir(t)
	l := local{dataDir: dir}
	own, outside := filepath.Join(dir, "app", "one"), tempDir(t)
	for path, size := range map[string]int{own + "/a": 100, own + "/sub/b": 11, outside + "/secret": 1 << 20, dir + "/app/two/c": 1 << 20} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out": outside, "file": outside + "/secret", "up": "../two", "loop": "."} {
		if err := os.Symlink(target, filepath.Join(own, name)); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := l.StorageUsage(t.Context(), refOne); err != nil || s.Used != 111 || s.Path != own {
		t.Errorf("got %+v, %v; want 111 bytes in %s", s, err, own)
	}
	if s, err := l.StorageUsage(t.Context(), api.Ref{Service: "app", ID: "none"}); err != nil || s.Used != 0 {
		t.Errorf("an instance that never ran: %+v, %v", s, err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "app", "link")); err != nil {
		t.Fatal(err)
	}
	if s, err := l.StorageUsage(t.Context(), api.Ref{Service: "app", ID: "link"}); s.Used != 0 {
		t.Errorf("a data directory that leads outside: %+v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.StorageUsage(ctx, refOne); !errors.Is(err, context.Canceled) {
		t.Errorf("client gone: %v", err)
	}
}
