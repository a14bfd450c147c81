package peering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/proxy"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// After a body that was too large net/http sleeps half a second, whatever is closed.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// The nodes of the tests: who answers, who is a node of its cluster, and who only has the
// cluster's secret.
const (
	answerer = "00000000-0000-4000-8000-000000000001"
	asker    = "00000000-0000-4000-8000-000000000002"
	stranger = "00000000-0000-4000-8000-000000000003"
)

var ref = api.Ref{Service: "app", ID: "one"}

func newKeyring(t testing.TB) *secret.Keyring {
	t.Helper()
	s, err := secret.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := secret.NewKeyring(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens a node's peer port, from which the answerer is found at an address.
func open(t testing.TB, id string, k *secret.Keyring, h http.Handler, address string) *transport.Transport {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := transport.New(transport.Config{
		Listener: ln, NodeID: id, Keyring: k, Handler: h,
		AddressOf:   func(string) (string, bool) { return address, address != "" },
		DialTimeout: 20 * time.Second, HandshakeTimeout: 20 * time.Second, // the machine may be busy
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// answers opens the peer port of a node that knows the asker and answers with h; with the
// Handler of cfg if that is nil.
func answers(t testing.TB, k *secret.Keyring, cfg Config) *transport.Transport {
	t.Helper()
	return open(t, answerer, k, Handler(cfg), "")
}

// ask returns the way of a node to the answerer.
func ask(t testing.TB, id string, k *secret.Keyring, to *transport.Transport) *Client {
	t.Helper()
	tr := open(t, id, k, http.NotFoundHandler(), to.Addr().String())
	return &Client{To: tr.Client, Probe: tr.Prober}
}

// pair returns the way of the asker to a node that answers as cfg says.
func pair(t testing.TB, cfg Config) *Client {
	t.Helper()
	k := newKeyring(t)
	return ask(t, asker, k, answers(t, k, cfg))
}

// fake is a node that does what it is asked, and all that goes with it.
type fake struct {
	err   error                                      // of everything
	log   []api.LogEntry                             // what it has; after it the stream breaks off
	data  func(w io.Writer) error                    // how it sends data
	apply func(batch []consensus.Forwarded)          // is told of commands
	known func(id string) bool                       // default: the asker
	acts  func(from string, a consensus.Actor) error // default: err
	done  string                                     // what it has done as the leader
}

func (f *fake) config() Config {
	return Config{
		Node: f, Runtime: f, Logs: f, Founder: f, Logger: slog.New(slog.DiscardHandler),
		Proxy: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Header.Get(proxy.HeaderInstance))
		}),
	}
}

func (f *fake) Knows(id string) bool {
	if f.known != nil {
		return f.known(id)
	}
	return id == asker
}

func (f *fake) Status() Status                         { return Status{NodeID: answerer} }
func (f *fake) Promise(PromiseRequest) (Status, error) { return f.Status(), f.err }
func (f *fake) Ping() Pong                             { return Pong{NodeID: answerer} }
func (f *fake) Join(context.Context, string, JoinRequest) (JoinAnswer, error) {
	return JoinAnswer{ClusterID: "c"}, f.err
}
func (f *fake) Leave(context.Context, string) error { return f.err }

func (f *fake) Authorize(from string, a consensus.Actor) error {
	if f.acts != nil {
		return f.acts(from, a)
	}
	return f.err
}

func (f *fake) RemoveMember(context.Context, string, bool) error { f.done = "remove"; return f.err }
func (f *fake) Promote(context.Context, string) error            { f.done = "promote"; return f.err }

func (f *fake) ApplyForwarded(_ context.Context, _ string, batch []consensus.Forwarded) []consensus.ForwardResult {
	if f.apply != nil {
		f.apply(batch)
	}
	return make([]consensus.ForwardResult, len(batch))
}
func (f *fake) VerifiedIndex(context.Context) (uint64, error)           { return 7, f.err }
func (f *fake) GrantLease(context.Context, string) error                { return f.err }
func (f *fake) LeaseEnded(_ context.Context, node string) (bool, error) { return node == "a/b", f.err }
func (f *fake) Removed(string) error                                    { return f.err }
func (f *fake) RestoreSnapshot(_ context.Context, r io.Reader, _ bool) error {
	if f.err != nil {
		return f.err
	}
	f.done = "restore"
	_, err := io.Copy(io.Discard, r)
	return err
}

func (f *fake) Wake(context.Context, api.Ref) error    { return f.err }
func (f *fake) Sleep(context.Context, api.Ref) error   { return f.err }
func (f *fake) Restart(context.Context, api.Ref) error { return f.err }
func (f *fake) StorageUsage(context.Context, api.Ref) (api.Storage, error) {
	return api.Storage{}, f.err
}

func (f *fake) SendData(_ context.Context, _ api.Ref, to string, w io.Writer) error {
	if f.data != nil {
		return f.data(w)
	}
	_, err := io.WriteString(w, to)
	return errors.Join(err, f.err)
}

func (f *fake) Query(context.Context, api.LogQuery) ([]api.LogEntry, error) { return f.log, f.err }

func (f *fake) Follow(context.Context, api.LogQuery) iter.Seq2[api.LogEntry, error] {
	return func(yield func(api.LogEntry, error) bool) {
		for _, e := range f.log {
			if !yield(e, nil) {
				return
			}
		}
		if f.err != nil {
			yield(api.LogEntry{}, f.err)
		}
	}
}

// do sends a request as it is to the answerer, and returns how it was answered.
func do(t testing.TB, h *http.Client, method, path, instance string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://peer"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if instance != "" {
		req.Header.Set(proxy.HeaderInstance, instance)
	}
	res, err := h.Do(req)
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w", method, path, err))
	}
	defer res.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// recorded returns how a handler answers, without a connection.
func recorded(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	h.ServeHTTP(w, r)
	return w.Result()
}
