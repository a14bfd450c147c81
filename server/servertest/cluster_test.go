package servertest_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/servertest"
)

// Three nodes are one cluster: what is declared on one is known to all, runs on one, and
// is reached through each.
func TestThreeNodes(t *testing.T) {
	nodes := servertest.Cluster(t, 3, servertest.Config{Logger: testLogger(t)})
	svc := &api.Service{Name: "app", Command: "true", Isolation: api.IsolationProcess}
	if _, err := nodes[2].Client.PutService(t.Context(), svc, nil); err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for i := range 6 {
		in := &api.Instance{Service: "app", ID: fmt.Sprint("i", i)}
		got, err := nodes[i%3].Client.PutInstance(t.Context(), in, nil)
		if err != nil {
			t.Fatal(err)
		}
		// What was written there is read there.
		if _, err := nodes[i%3].Client.Instance(t.Context(), got.Ref()); err != nil {
			t.Errorf("read own write: %v", err)
		}
	}
	for i := range 6 {
		in := nodes[(i+1)%3].Wait(api.Ref{Service: "app", ID: fmt.Sprint("i", i)}, api.StateRunning)
		used[in.Node] = true
		for _, n := range nodes {
			n.Want(fmt.Sprintf("i%d.app.localhost", i), "/", "")
		}
	}
	if len(used) != 3 {
		t.Errorf("6 instances on %d of 3 nodes", len(used))
	}
	start := time.Now()
	for range 20 {
		if _, err := nodes[1].Client.SetWeight(t.Context(), api.Ref{Service: "app", ID: "i0"}, 1+int(time.Now().UnixNano()%99)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("20 writes through a follower: %s", time.Since(start))
}

func testLogger(t *testing.T) *slog.Logger {
	w := &logWriter{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// logWriter writes to a test's log until it ends: memberlist's answers to probes outlive
// its shutdown.
type logWriter struct {
	mu sync.Mutex
	t  *testing.T // nil once it has ended
}

func (w *logWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(p[:len(p)-1]))
	}
	return len(p), nil
}
