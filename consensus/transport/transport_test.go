package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

func TestPeerHTTP(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	reg := prometheus.NewRegistry()
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) { c.Registerer = reg })
	b := w.start(t, id(1), newKeyring(t, s))
	w.start(t, id(2), newKeyring(t, s))
	for range 3 {
		reach(t, a, id(1))
		reach(t, a, id(2))
		reach(t, b, id(0))
		reach(t, a, id(0)) // itself too
	}
	if status, body, err := get(t, a.Prober(id(1))); err != nil || status != 200 || !strings.HasPrefix(body, id(0)+" ") {
		t.Errorf("probe: got %d, %q, %v", status, body, err)
	}
	for range 2 {
		if status, body, err := get(t, a.Forwarder(id(1))); err != nil || status != 200 || !strings.HasPrefix(body, id(0)+" ") {
			t.Errorf("forward: got %d, %q, %v", status, body, err)
		}
	}
	if got := testutil.ToFloat64(a.metrics.connections.WithLabelValues("http/1.1", "out")); got != 1 {
		t.Errorf("got %v connections for forwards, want one", got)
	}
	if got := testutil.ToFloat64(a.metrics.connections.WithLabelValues("h2", "out")); got != 4 {
		t.Errorf("got %v connections, want one to each node and the probe's", got)
	}
	if n, err := testutil.GatherAndCount(reg, "tenement_peer_handshakes_total"); err != nil || n != 1 {
		t.Errorf("metrics: got %d, %v", n, err)
	}
}

func TestManyRequestsShareConnections(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a, b := w.start(t, id(0), newKeyring(t, s)), w.start(t, id(1), newKeyring(t, s))
	reach(t, a, id(1))
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if status, _, err := get(t, a.Client(id(1))); err != nil || status != 200 {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if got := testutil.ToFloat64(b.metrics.connections.WithLabelValues("h2", "in")); got != 1 {
		t.Errorf("got %v connections, want one", got)
	}
}

func TestHTTP1AndHijack(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a := w.start(t, id(0), newKeyring(t, s))
	w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				echo(w, r)
				return
			}
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(conn, rw)
		})
	})
	c, err := a.DialHTTP1(t.Context(), id(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if sc, ok := c.(interface{ NetConn() net.Conn }).NetConn().(syscall.Conn); !ok {
		t.Error("a pool can't look at the socket")
	} else if raw, err := sc.SyscallConn(); err != nil || raw == nil {
		t.Errorf("a pool can't look at the socket: %v", err)
	}
	r := bufio.NewReader(c)
	for range 2 { // the connection is kept
		_, _ = fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: y\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != id(0)+" HTTP/1.1 /x " {
			t.Errorf("got %q, %v", b, err)
		}
	}
	_, _ = fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: y\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "to and fro")
	got := make([]byte, 10)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "to and fro" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRemovedNodeIsRefused(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	started := make(chan struct{})
	a := w.start(t, id(0), newKeyring(t, s))
	b := w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				close(started)
				<-r.Context().Done()
			}
		})
	})
	raw, err := a.dial(t.Context(), id(1), "", protoRaft)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	long := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://peer/long", nil)
		_, err := a.Client(id(1)).Do(req)
		long <- err
	}()
	<-started
	w.remove(id(0))
	if status, body, err := get(t, a.Client(id(1))); err != nil || status != http.StatusForbidden || !strings.Contains(body, "has been removed from the cluster") {
		t.Errorf("got %d, %q, %v", status, body, err)
	}
	b.Disconnect(id(0))
	if err := <-long; KindOf(err) != ErrRefused {
		t.Errorf("the request under way: got %v", err)
	}
	if _, err := raw.Read(make([]byte, 1)); KindOf(err) != ErrRefused {
		t.Errorf("the open stream: got %v", err)
	}
	if _, err := a.dial(t.Context(), id(1), "", protoRaft); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a new stream: got %v", err)
	}
}

// Everybody without a certificate is refused whatever he asks for, except a joiner.
func TestNoClientCertificate(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	k := newKeyring(t, s)
	a := w.start(t, id(0), k, func(c *Config) { c.JoinHandler = http.NotFoundHandler() })
	b := w.start(t, id(1), k)
	connect := func(to *Transport, version uint16, protos ...string) error {
		t.Helper()
		c, err := tls.Dial("tcp", to.Addr().String(), &tls.Config{
			RootCAs: k.Pool(), ServerName: secret.DNSName(to.cfg.NodeID), NextProtos: protos, MaxVersion: version,
		})
		if err != nil {
			return err
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = c.Read(make([]byte, 1))
		return err
	}
	for name, c := range map[string]struct {
		to      *Transport
		version uint16
		protos  []string
		ok      bool
	}{
		"raft":              {a, 0, []string{protoRaft}, false},
		"h2":                {a, 0, []string{protoHTTP2}, false},
		"http/1.1":          {a, 0, []string{protoHTTP1}, false},
		"join":              {a, 0, []string{protoJoin}, true},
		"join, not offered": {b, 0, []string{protoJoin}, false},
		"raft or join":      {a, 0, []string{protoRaft, protoJoin}, false},
		"unknown":           {a, 0, []string{"spdy/3"}, false},
		"nothing":           {a, 0, nil, false},
		"TLS 1.2":           {a, tls.VersionTLS12, []string{protoJoin}, false},
	} {
		err := connect(c.to, c.version, c.protos...)
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSlowHandshakesAreBounded(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	const most = 8
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) { c.MaxUnproven = most })
	b := w.start(t, id(1), newKeyring(t, s))
	var slow []net.Conn
	for range 5 * most {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
	}
	// The oldest have been ended, in their order, and a node gets through nevertheless.
	for _, c := range slow[:4*most] {
		if _, err := c.Read(make([]byte, 1)); KindOf(err) != ErrRefused {
			t.Fatalf("got %v", err)
		}
	}
	reach(t, b, id(0))
	a.conns.mu.Lock()
	n := a.conns.unproven.Len()
	a.conns.mu.Unlock()
	if n > most {
		t.Errorf("%d unproven connections are kept, at most %d are allowed", n, most)
	}
	if got := testutil.ToFloat64(a.metrics.handshakes.WithLabelValues("evicted")); got < 4*most {
		t.Errorf("got %v evictions", got)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) { c.HandshakeTimeout = 10 * time.Millisecond })
	c, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); KindOf(err) != ErrRefused {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

func TestCloseWaitsForHandlers(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	started, ended := make(chan struct{}), false
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(started)
			<-r.Context().Done()
			ended = true
		})
	})
	b := w.start(t, id(1), newKeyring(t, s))
	done := make(chan error, 1)
	go func() {
		_, _, err := get(t, b.Client(id(0)))
		done <- err
	}()
	<-started
	if err := a.Close(); err != nil || !ended {
		t.Errorf("got %v, handler ended: %v", err, ended)
	}
	if err := <-done; KindOf(err) != ErrRefused {
		t.Errorf("got %v", err)
	}
	if _, _, err := get(t, a.Client(id(1))); !errors.Is(err, ErrClosed) {
		t.Errorf("a request of a closed transport: got %v", err)
	}
	if _, _, err := get(t, b.Client(id(0))); !errors.Is(err, ErrRefused) {
		t.Errorf("a request to a closed transport: got %v", err)
	}
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	started, finish := make(chan struct{}), make(chan struct{})
	a := w.start(t, id(0), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			<-finish
			echo(w, r)
		})
	})
	b := w.start(t, id(1), newKeyring(t, s))
	done := make(chan error, 1)
	go func() {
		_, body, err := get(t, b.Client(id(0)))
		if err == nil && !strings.HasPrefix(body, id(1)) {
			err = fmt.Errorf("got %q", body)
		}
		done <- err
	}()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shut := make(chan error, 1)
	go func() { shut <- a.Shutdown(ctx) }()
	close(finish)
	if err := errors.Join(<-done, <-shut); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	good := Config{Listener: ln, NodeID: id(0), Keyring: newKeyring(t, newSecret(t)), Handler: http.NotFoundHandler()}
	for want, change := range map[string]func(*Config){
		"Listener is nil": func(c *Config) { c.Listener = nil },
		"Keyring is nil":  func(c *Config) { c.Keyring = nil },
		"Handler is nil":  func(c *Config) { c.Handler = nil },
		"NodeID":          func(c *Config) { c.NodeID = "Not An Id" },
		"MaxUnproven":     func(c *Config) { c.MaxUnproven = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
