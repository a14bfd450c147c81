package peering

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/transport"
)

// endpoints is everything that a node can be asked.
var endpoints = []struct {
	route, body string
	anyone      bool // is answered whoever asks, if only with the cluster's secret
}{
	{"GET /status", "", true},
	{"POST /promise", "{}", true},
	{"GET /ping", "", true},
	{"POST /join", "{}", true},
	{"POST /leave", "{}", false},
	{"POST /commands", "[]", false},
	{"GET /index", "", false},
	{"POST /lease", "{}", false},
	{"GET /leases/n/ended", "", false},
	{"POST /removed", "{}", false},
	{"DELETE /members/n", "", false},
	{"POST /members/n/promote", "{}", false},
	{"POST /snapshot", "x", false},
	{"GET /instances/app:one/storage", "", false},
	{"GET /instances/app:one/data", "", false},
	{"POST /instances/app:one/wake", "{}", false},
	{"POST /instances/app:one/sleep", "{}", false},
	{"POST /instances/app:one/restart", "{}", false},
	{"POST /logs", "{}", false},
	{"POST /logs/stream", "{}", false},
}

// TestWhoIsAnswered: who has the secret and is no node of the cluster, or no longer, hears
// what it takes to become one, and nothing else.
func TestWhoIsAnswered(t *testing.T) {
	f := &fake{}
	k := newKeyring(t)
	port := answers(t, k, f.config())
	known, unknown := ask(t, asker, k, port).To(answerer), ask(t, stranger, k, port).To(answerer)
	for _, e := range endpoints {
		method, path, _ := strings.Cut(e.route, " ")
		res, body := do(t, known, method, prefix+path, "", strings.NewReader(e.body))
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s of a node: %d %s", e.route, res.StatusCode, body)
		}
		res, body = do(t, unknown, method, prefix+path, "", strings.NewReader(e.body))
		if e.anyone && res.StatusCode != http.StatusOK || !e.anyone && (res.StatusCode != http.StatusForbidden || res.Header.Get(headerUnknown) == "") {
			t.Errorf("%s of a stranger: %d %s", e.route, res.StatusCode, body)
		}
	}
	if res, body := do(t, unknown, http.MethodGet, prefix+"/nothing", "", nil); res.StatusCode != http.StatusForbidden ||
		!strings.Contains(body, stranger) || !strings.Contains(body, "move its data directory away") {
		t.Errorf("a stranger is told %d %s", res.StatusCode, body)
	}
	// A request for an instance waits at the node that passes it on; see package proxy.
	if res, body := do(t, known, http.MethodGet, "/", "app:one", nil); body != "app:one" {
		t.Errorf("a node's request for an instance: %d %s", res.StatusCode, body)
	}
	if res, body := do(t, unknown, http.MethodGet, prefix+"/status", "app:one", nil); res.StatusCode != http.StatusMisdirectedRequest ||
		res.Header.Get("Tenement-Moved") == "" || body != "" {
		t.Errorf("a stranger's: %d %s", res.StatusCode, body)
	}
}

// TestNoCertificate: who has not even the secret is not answered at all.
func TestNoCertificate(t *testing.T) {
	port := answers(t, newKeyring(t), (&fake{}).config())
	other := ask(t, asker, newKeyring(t), port)
	if _, err := other.Ping(t.Context(), answerer); !errors.Is(err, transport.ErrCertificate) || !errors.Is(err, consensus.ErrNotSent) {
		t.Errorf("with another cluster's certificate: %v", err)
	}
	bare := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}} //nolint:gosec // it is the other side that must be careful
			return d.DialContext(ctx, network, port.Addr().String())
		},
		DisableKeepAlives: true,
	}}
	for _, e := range endpoints {
		method, path, _ := strings.Cut(e.route, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "https://peer"+prefix+path, strings.NewReader(e.body))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := bare.Do(req); err == nil {
			_ = res.Body.Close()
			t.Errorf("%s without a certificate: %s", e.route, res.Status)
		}
	}
}

// TestSoonKnown: a node that has just joined asks one that has not heard of it yet, and
// does not notice.
func TestSoonKnown(t *testing.T) {
	var asked atomic.Int32
	f := &fake{known: func(string) bool { return asked.Add(1) > 2 }}
	c := pair(t, f.config())
	if err := c.Wake(t.Context(), answerer, ref); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

// refusing is a connection to a node that does not know who asks.
type refusing struct{ asked int }

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked++
	return recorded(Handler((&fake{}).config()), req), nil
}

// TestNeverKnown: a node that was removed hears what to do, and that nothing was done, so
// that what it wanted written is tried at the next leader and can't have happened twice.
func TestNeverKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &refusing{}
		c := Client{To: func(string) *http.Client { return &http.Client{Transport: r} }}
		begin := time.Now()
		_, err := c.Forward(t.Context(), answerer, []consensus.Forwarded{{}})
		if api.CodeOf(err) != api.CodeForbidden || !errors.Is(err, consensus.ErrNotSent) || !strings.Contains(err.Error(), "can only join as a new one") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took < unknownWait || took > unknownWait+2*unknownPause || r.asked < 10 {
			t.Errorf("asked %d times in %v", r.asked, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), unknownWait/2)
		defer cancel()
		begin = time.Now()
		if err := c.Wake(ctx, answerer, ref); api.CodeOf(err) != api.CodeForbidden || time.Since(begin) > unknownWait/2 {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestActorIsCarried: what only the leader does, it does on behalf of one whom it has
// authorised itself, as it does with commands; a request of nobody is nobody's.
func TestActorIsCarried(t *testing.T) {
	var heard consensus.Actor
	var from string
	f := &fake{acts: func(id string, a consensus.Actor) error {
		from, heard = id, a
		if a.TokenID == "" {
			return api.Errorf(api.CodeUnauthenticated, "nobody")
		}
		return nil
	}}
	c := pair(t, f.config())
	actor := consensus.Actor{TokenID: "0123456789ab", Role: api.RoleAdmin, Tenant: "t\né", Node: asker}
	for name, do := range map[string]func(context.Context) error{
		"remove":  func(ctx context.Context) error { return c.RemoveMember(ctx, answerer, "n", true) },
		"promote": func(ctx context.Context) error { return c.Promote(ctx, answerer, "n") },
		"restore": func(ctx context.Context) error {
			return c.RestoreSnapshot(ctx, answerer, strings.NewReader("x"), false)
		},
	} {
		from, f.done = "", ""
		if err := do(consensus.WithActor(t.Context(), actor)); err != nil || heard != actor || from != asker || f.done != name {
			t.Errorf("%s: the leader heard of %+v from %s and did %q: %v", name, heard, from, f.done, err)
		}
		f.done = ""
		if err := do(t.Context()); api.CodeOf(err) != api.CodeUnauthenticated || heard != (consensus.Actor{}) || f.done != "" {
			t.Errorf("%s for nobody: the leader heard of %+v and did %q: %v", name, heard, f.done, err)
		}
	}
	f.done = ""
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "https://peer"+prefix+"/members/n", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(headerActor, "{")
	res, err := c.To(answerer).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest || f.done != "" {
		t.Errorf("an actor that can't be read: %s, did %q", res.Status, f.done)
	}
}
