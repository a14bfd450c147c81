package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

// raceDetector says that the tests run under it.
var raceDetector bool

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testCluster = "8d3f7f8e-53a1-4c52-9c55-57d3f5a1b001"

// patience bounds every wait of a test: the machine may be busy.
const patience = 60 * time.Second

func testKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// fast shortens memberlist's intervals.
func fast(m *memberlist.Config) {
	m.ProbeInterval, m.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	m.GossipInterval, m.PushPullInterval = 20*time.Millisecond, 500*time.Millisecond
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = 2, 2
	m.DeadNodeReclaimTime = m.ProbeInterval
	m.TCPTimeout = 5 * time.Second
}

func testConfig(t testing.TB, name string) Config {
	return Config{
		NodeID: uuid.NewString(), ClusterID: testCluster, Bind: "127.0.0.1",
		Keys:   func() [][]byte { return [][]byte{testKey(1)} },
		Meta:   Meta{Name: name, PeerAddr: "127.0.0.1:7947", HTTPAddr: "127.0.0.1:8080", Version: "1.0.0"},
		Logger: slog.New(slog.NewTextHandler(newTestWriter(t), nil)).With("self", name),
		tune:   fast,
	}
}

// testWriter writes to a test's log until it ends: memberlist's answers to probes outlive
// its shutdown.
type testWriter struct {
	mu sync.Mutex
	t  testing.TB // nil once it has ended
}

func newTestWriter(t testing.TB) *testWriter {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

func open(t testing.TB, cfg Config) *Pool {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closePool(t, p) })
	return p
}

func closePool(t testing.TB, p *Pool) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func join(t testing.TB, p *Pool, to ...*Pool) {
	t.Helper()
	for _, o := range to {
		if n, err := p.Join(t.Context(), o.Addr().String()); n != 1 || err != nil {
			t.Fatalf("join: reached %d, %v", n, err)
		}
	}
}

// openAll opens pools and joins them.
func openAll(t testing.TB, cfgs ...Config) []*Pool {
	t.Helper()
	pools := make([]*Pool, len(cfgs))
	for i, c := range cfgs {
		pools[i] = open(t, c)
		if i > 0 {
			join(t, pools[i], pools[0])
		}
	}
	for _, p := range pools {
		for _, o := range pools {
			await(t, p, o.cfg.NodeID, "alive", isState(StateAlive))
		}
	}
	return pools
}

// await waits until p's view of a node is as wanted.
func await(t testing.TB, p *Pool, id, want string, ok func(Member) bool) Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		changed := p.Changed()
		if m, found := p.Member(id); found && ok(m) {
			return m
		}
		select {
		case <-changed:
		case <-ctx.Done():
			m, _ := p.Member(id)
			t.Fatalf("%s sees %+v, want %s", p.cfg.Meta.Name, m, want)
		}
	}
}

func isState(s State) func(Member) bool { return func(m Member) bool { return m.State == s } }

func has(k ProblemKind) func(Member) bool { return func(m Member) bool { return m.Has(k) } }

// logLines collects log lines.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logLines) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func addr(host byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), 7946)
}
