package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// fatals collects what a node calls Fatal with.
type fatals struct {
	mu   sync.Mutex
	errs []error
	once sync.Once
	done chan struct{}
}

func newFatals() *fatals { return &fatals{done: make(chan struct{})} }

func (f *fatals) call(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
	f.once.Do(func() { close(f.done) })
}

func (f *fatals) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-f.done:
	case <-t.Context().Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) != 1 {
		t.Fatalf("Fatal was called %d times: %v", len(f.errs), f.errs)
	}
	return f.errs[0]
}

func testConfig(t testing.TB, dir string) Config {
	return Config{
		Dir:     dir,
		Node:    api.Node{Name: "node-a", Isolations: []api.Isolation{api.IsolationProcess}},
		Fatal:   func(err error) { t.Errorf("fatal: %v", err) },
		Reserve: api.MiB, patience: time.Minute,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func open(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func closeNode(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func service(name string, change ...func(*api.Service)) *api.Service {
	s := &api.Service{Name: name, Command: "serve"}
	for _, f := range change {
		f(s)
	}
	return s
}

func putService(t testing.TB, n *Node, s *api.Service) *api.Service {
	t.Helper()
	got, err := n.PutService(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func putServices(t testing.TB, n *Node, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		putService(t, n, service(fmt.Sprintf("s%d", i)))
	}
}
