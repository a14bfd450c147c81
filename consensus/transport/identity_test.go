package transport

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

const day = 24 * time.Hour

func TestWrongIdentity(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a := w.start(t, id(0), newKeyring(t, s))
	b := w.start(t, id(1), newKeyring(t, s))
	stranger := w.start(t, id(2), newKeyring(t, newSecret(t)))

	w.move(id(9), b.Addr().String()) // another node has got the address
	_, _, err := get(t, a.Client(id(9)))
	if !errors.Is(err, ErrIdentity) || errors.Is(err, ErrCertificate) {
		t.Errorf("reused address: got %v", err)
	}
	if _, err := a.DialHTTP1(t.Context(), id(9)); !errors.Is(err, ErrIdentity) {
		t.Errorf("reused address: got %v", err)
	}
	w.move(id(9), stranger.Addr().String()) // another cluster has
	_, _, err = get(t, a.Client(id(9)))
	if !errors.Is(err, ErrCertificate) || errors.Is(err, ErrIdentity) {
		t.Errorf("address of another cluster: got %v", err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Node != id(9) || e.Address != stranger.Addr().String() {
		t.Errorf("got %+v", e)
	}
	if _, _, err = get(t, a.Client(id(8))); !errors.Is(err, ErrNoAddress) {
		t.Errorf("unknown node: got %v", err)
	}
	if _, _, err = get(t, a.Client("Not An Id")); err == nil || !strings.Contains(err.Error(), "node id") {
		t.Errorf("bad id: got %v", err)
	}
	// A moved node is found again.
	w.move(id(9), "127.0.0.1:1")
	w.move(id(1), "127.0.0.1:1")
	a.Disconnect(id(1))
	if _, _, err = get(t, a.Client(id(1))); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
	w.move(id(1), b.Addr().String())
	reach(t, a, id(1))
}

// One side's view of the other: each pair differs in one thing.
func TestCertificatesThatAreNotAccepted(t *testing.T) {
	base := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	old, fresh := newSecret(t), newSecret(t)
	for name, c := range map[string]struct {
		a, b       []secret.Secret
		clockA     time.Duration // ahead of b's
		aToB, bToA Kind
	}{
		"same":                     {a: []secret.Secret{old}, b: []secret.Secret{old}},
		"another CA":               {a: []secret.Secret{old}, b: []secret.Secret{fresh}, aToB: ErrCertificate, bToA: ErrCertificate},
		"a clock a day ahead":      {a: []secret.Secret{old}, b: []secret.Secret{old}, clockA: day},
		"a clock a day behind":     {a: []secret.Secret{old}, b: []secret.Secret{old}, clockA: -day},
		"expired, not yet valid":   {a: []secret.Secret{old}, b: []secret.Secret{old}, clockA: 31 * day, aToB: ErrCertificate, bToA: ErrCertificate},
		"not yet valid, expired":   {a: []secret.Secret{old}, b: []secret.Secret{old}, clockA: -31 * day, aToB: ErrCertificate, bToA: ErrCertificate},
		"before the CA was valid":  {a: []secret.Secret{old}, b: []secret.Secret{old}, clockA: -3000 * day, aToB: ErrCertificate, bToA: ErrCertificate},
		"old ↔ old, new":           {a: []secret.Secret{old}, b: []secret.Secret{old, fresh}},
		"old ↔ new, old":           {a: []secret.Secret{old}, b: []secret.Secret{fresh, old}},
		"new ↔ old, new":           {a: []secret.Secret{fresh}, b: []secret.Secret{old, fresh}},
		"new ↔ new, old":           {a: []secret.Secret{fresh}, b: []secret.Secret{fresh, old}},
		"old, new ↔ new, old":      {a: []secret.Secret{old, fresh}, b: []secret.Secret{fresh, old}},
		"old ↔ new":                {a: []secret.Secret{old}, b: []secret.Secret{fresh}, aToB: ErrCertificate, bToA: ErrCertificate},
		"old, third ↔ new, fourth": {a: []secret.Secret{old, newSecret(t)}, b: []secret.Secret{fresh, newSecret(t)}, aToB: ErrCertificate, bToA: ErrCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.now = func() time.Time { return base }
			a := w.start(t, id(0), newKeyring(t, c.a...), func(cfg *Config) { cfg.Now = func() time.Time { return base.Add(c.clockA) } })
			b := w.start(t, id(1), newKeyring(t, c.b...))
			for _, dir := range []struct {
				from *Transport
				to   string
				want Kind
			}{{a, id(1), c.aToB}, {b, id(0), c.bToA}} {
				if dir.want == "" {
					reach(t, dir.from, dir.to)
					continue
				}
				if _, _, err := get(t, dir.from.Client(dir.to)); !errors.Is(err, dir.want) {
					t.Errorf("from %s: got %v, want %v", dir.from.cfg.NodeID, err, dir.want)
				}
			}
		})
	}
}

// Only the certificate of the one who connects is bad: his side of the handshake is over
// before he hears of it, and the answer must still be told from a dead process.
func TestServerRefusesOurCertificate(t *testing.T) {
	base := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	w, s := newWorld(), newSecret(t)
	var clockB atomic.Int64
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) { c.Now = func() time.Time { return base } })
	b := w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Now = func() time.Time { return base.Add(time.Duration(clockB.Load())) }
	})
	reach(t, b, id(0)) // both have minted
	// Five days behind b finds a's certificate not yet valid, while its own, which it has
	// renewed, still is good enough for a.
	clockB.Store(int64(-5 * day))
	for i := range 20 { // however the alert and the end of the connection race
		a.Disconnect(id(1))
		if _, _, err := get(t, a.Client(id(1))); !errors.Is(err, ErrCertificate) {
			t.Fatalf("%d: got %v", i, err)
		}
		if _, err := a.DialHTTP1(t.Context(), id(1)); !errors.Is(err, ErrCertificate) {
			t.Fatalf("%d: got %v", i, err)
		}
	}
}

func TestRenewalWhileConnectionsGoOn(t *testing.T) {
	base := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	var clock atomic.Int64
	w, s := newWorld(), newSecret(t)
	w.now = func() time.Time { return base.Add(time.Duration(clock.Load())) }
	more := make(chan struct{})
	a := w.start(t, id(0), newKeyring(t, s))
	w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				for range more {
					_, _ = w.Write([]byte("x"))
					_ = http.NewResponseController(w).Flush()
				}
				return
			}
			echo(w, r)
		})
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://peer/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { more <- struct{}{} }()
	resp, err := a.Client(id(1)).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1)
	if _, err := resp.Body.Read(buf); err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		t.Helper()
		c, err := a.dial(t.Context(), id(1), "", protoHTTP1)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	last := serial()
	for range 24 { // two years, a month at a time
		clock.Add(int64(30 * day))
		now := serial() // new connections: with certificates that are valid now
		if now == last {
			t.Fatal("the certificate was not renewed")
		}
		last = now
		more <- struct{}{} // and the old one goes on
		if _, err := resp.Body.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	close(more)
}

func TestSecretRotationOnARunningCluster(t *testing.T) {
	old, fresh := newSecret(t), newSecret(t)
	w := newWorld()
	var nodes []*Transport
	for i := range 3 {
		nodes = append(nodes, w.start(t, id(i), newKeyring(t, old)))
	}
	all := func() {
		t.Helper()
		for _, from := range nodes {
			for i := range nodes {
				reach(t, from, id(i))
				c, err := from.DialHTTP1(t.Context(), id(i)) // a new connection, too
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
			}
		}
	}
	all()
	step := func(what string, f func(*secret.Keyring) error) {
		t.Helper()
		for _, n := range nodes {
			if err := f(n.cfg.Keyring); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			all()
		}
	}
	step("add", func(k *secret.Keyring) error { return k.Add(fresh) })
	step("use", func(k *secret.Keyring) error { return k.Use(fresh.ID()) })
	kept, err := nodes[0].DialHTTP1(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	// A connection under the old secret ends with the secret, whoever has made it.
	thief := w.start(t, id(7), newKeyring(t, old))
	stolen, err := thief.DialHTTP1(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer stolen.Close()
	for _, n := range nodes {
		if err := n.cfg.Keyring.Remove(old.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stolen.Read(buf1()); KindOf(err) != ErrRefused {
		t.Errorf("the old secret's connection: got %v", err)
	}
	if _, _, err := get(t, thief.Client(id(1))); !errors.Is(err, ErrCertificate) {
		t.Errorf("the old secret: got %v", err)
	}
	all()
	if got := testutil.ToFloat64(nodes[0].metrics.connections.WithLabelValues("http/1.1", "out")); got < 1 {
		t.Errorf("the connection under the new secret has gone")
	}
}

func buf1() []byte { return make([]byte, 1) }
