package transport

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/consensus/secret"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// After a body that was too large net/http sleeps half a second, whatever is closed.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// world is the nodes of one or more clusters, and where each can be found.
type world struct {
	mu        sync.Mutex
	addresses map[string]string
	removed   map[string]bool
	now       func() time.Time
}

func newWorld() *world {
	return &world{addresses: map[string]string{}, removed: map[string]bool{}, now: time.Now}
}

func (w *world) addressOf(id string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.addresses[id]
	return a, ok
}

func (w *world) move(id, address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses[id] = address
}

func (w *world) remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed[id] = true
}

func (w *world) allow(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed[id] {
		return fmt.Errorf("node %s has been removed from the cluster", id)
	}
	return nil
}

// id returns the n-th node's id.
func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func newSecret(t testing.TB) secret.Secret {
	t.Helper()
	s, err := secret.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKeyring(t testing.TB, secrets ...secret.Secret) *secret.Keyring {
	t.Helper()
	k, err := secret.NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start opens a node's transport on a free port, changed as the test wants it.
func (w *world) start(t testing.TB, nodeID string, k *secret.Keyring, change ...func(*Config)) *Transport {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Listener: ln, NodeID: nodeID, Keyring: k, Handler: http.HandlerFunc(echo), Allow: w.allow, AddressOf: w.addressOf,
		DialTimeout: 20 * time.Second, HandshakeTimeout: 20 * time.Second, // the machine may be busy
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Now: w.now,
	}
	for _, f := range change {
		f(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	w.move(nodeID, ln.Addr().String())
	return tr
}

// echo answers with who asked what over which protocol.
func echo(w http.ResponseWriter, r *http.Request) {
	peer, _ := PeerID(r.Context())
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s %s %s", peer, r.Proto, r.URL.Path, body)
}

func get(t testing.TB, c *http.Client) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://peer/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// reach asserts that a request from a to the node works, and over which id it came.
func reach(t testing.TB, a *Transport, node string) {
	t.Helper()
	status, body, err := get(t, a.Client(node))
	if want := a.cfg.NodeID + " HTTP/2.0 /ping "; err != nil || status != http.StatusOK || body != want {
		t.Fatalf("%s to %s: got %d, %q, %v, want %q", a.cfg.NodeID, node, status, body, err, want)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
