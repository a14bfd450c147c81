package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

const (
	maxStreams     = 250
	maxHeaderBytes = 64 << 10 // a proxied request's 32 KiB, and what peers add
	// ServerIdle is after how long the port ends an idle HTTP connection. Clients must be
	// quicker, so that no request meets a connection that is just being closed.
	ServerIdle = 3 * time.Minute
	clientIdle = 90 * time.Second
	// maxForwarders is how many idle connections of a [Transport.Forwarder] are kept.
	maxForwarders = 4
)

type peerKey struct{}

// PeerID returns the id of the node that sent the request with this context: proven by
// its certificate.
func PeerID(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(peerKey{}).(string)
	return id, ok
}

// WithPeerID returns a context for which PeerID returns id, for tests of handlers.
func WithPeerID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, peerKey{}, id)
}

func (t *Transport) newHTTPServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(t.serveHTTP),
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       ServerIdle,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second,
			WriteByteTimeout: 30 * time.Second,
		},
		ErrorLog:    slog.NewLogLogger(t.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return t.requests },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			id, err := peerOf(c)
			if err != nil {
				return ctx // serveHTTP refuses what has no id
			}
			return WithPeerID(ctx, id)
		},
	}
}

func (t *Transport) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !t.handlers.enter() {
		writeProblem(w, api.Errorf(api.CodeUnavailable, "this node is shutting down"))
		return
	}
	defer t.handlers.leave()
	id, ok := PeerID(r.Context())
	if !ok {
		writeProblem(w, api.Errorf(api.CodeUnauthenticated, "the connection has no node id"))
		return
	}
	if err := t.cfg.Allow(id); err != nil {
		if _, ok := errors.AsType[*api.Error](err); !ok {
			err = api.Errorf(api.CodeForbidden, "node %s is refused: %w", id, err)
		}
		writeProblem(w, err)
		return
	}
	t.cfg.Handler.ServeHTTP(w, r)
}

func writeProblem(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		e = api.Errorf(api.CodeInternal, "internal error") // what it is stays here
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(e.Problem(http.StatusText(e.Code.Status()))) // the peer may have gone
}

func (t *Transport) newPool(proto string) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == protoHTTP1)
	protocols.SetHTTP2(proto == protoHTTP2)
	return &http.Transport{
		Protocols:           protocols,
		MaxIdleConnsPerHost: maxForwarders,
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, fmt.Errorf("dial peer: %w", err)
			}
			c, err := t.dial(ctx, strings.TrimSuffix(host, secret.DNSName("")), "", proto)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		// A machine that vanished is noticed although nothing ends its connections.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second, WriteByteTimeout: 10 * time.Second,
		},
		IdleConnTimeout:        clientIdle,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
	}
}

// Client returns an HTTP client whose requests all go to the node with the given id,
// whatever the host in their URL ("https://peer/…" reads well). All clients share a pool
// of HTTP/2 connections. The node's address is looked up when a connection is made. Errors
// are *[Error]; errors while reading a body are classified by [KindOf]. It has no time-out:
// contexts bound requests. Redirects are not followed.
func (t *Transport) Client(nodeID string) *http.Client { return t.client(t.pool, nodeID) }

// Prober returns a client as Client does, but with connections of its own, so that
// nothing large delays an answer by which a node is judged.
func (t *Transport) Prober(nodeID string) *http.Client { return t.client(t.probes, nodeID) }

// Forwarder returns a client as Client does, but for HTTP/1.1: a connection carries one
// request at a time, for half of what one costs over HTTP/2.
func (t *Transport) Forwarder(nodeID string) *http.Client { return t.client(t.forwards, nodeID) }

func (t *Transport) client(pool *http.Transport, nodeID string) *http.Client {
	return &http.Client{
		Transport:     &peerTripper{t: t, pool: pool, node: nodeID},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type peerTripper struct {
	t    *Transport
	pool *http.Transport
	node string
}

// RoundTrip implements http.RoundTripper.
func (p *peerTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := secret.CheckNodeID(p.node); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, p.t.fail(p.node, "", err)
	}
	out := *r
	u := *r.URL
	u.Scheme, u.Host = "https", secret.DNSName(p.node)
	out.URL = &u
	resp, err := p.pool.RoundTrip(&out)
	if err != nil {
		return nil, p.t.fail(p.node, "", err)
	}
	resp.Request = r
	return resp, nil
}

// DialHTTP1 returns a new connection to the node for HTTP/1.1, for a client that does its
// own pooling. It must not be kept idle as long as [ServerIdle].
func (t *Transport) DialHTTP1(ctx context.Context, nodeID string) (net.Conn, error) {
	c, err := t.dial(ctx, nodeID, "", protoHTTP1)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// plain hides from net/http that a connection is TLS with a protocol that it does not
// know: it would close it.
type plain struct{ net.Conn }

// handlers counts those that run, so that Close can wait for them.
type handlers struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when closed and n == 0
}

func (h *handlers) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.n++
	return true
}

func (h *handlers) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
	if h.closed && h.n == 0 {
		close(h.idle)
	}
}

// wait lets none in any more and waits until all have left.
func (h *handlers) wait(most time.Duration) error {
	h.mu.Lock()
	h.closed, h.idle = true, make(chan struct{})
	if h.n == 0 {
		close(h.idle)
	}
	h.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-h.idle:
		return nil
	case <-timer.C:
		h.mu.Lock()
		defer h.mu.Unlock()
		return fmt.Errorf("close transport: %d handlers still run after %v", h.n, most)
	}
}
