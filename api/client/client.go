// Package client is the typed client of tenement's HTTP API, as the command line and the
// Terraform provider use it: several endpoints with fail-over, retries inside the
// caller's deadline, long-poll waits, and streams that reconnect where they were cut.
//
// Errors that the API answers are *api.Error; a server that can't be reached is
// *UnreachableError; a context that ends is its own error.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Defaults of [Config].
const (
	DefaultTimeout     = 5 * time.Minute
	DefaultAttempts    = 6
	DefaultBackoff     = 100 * time.Millisecond
	DefaultMaxBackoff  = 5 * time.Second
	DefaultDialTimeout = 5 * time.Second
)

// Config describes the servers to talk to and how patient to be.
type Config struct {
	// Endpoints are "http://host:port", "https://host:port" or "unix:///path/ten.sock",
	// the preferred first. The client stays with the one that answered last.
	Endpoints []string
	// Token is sent as a bearer token, unless empty.
	Token     string
	UserAgent string

	// Timeout bounds a call whose context has no deadline. Streams are not bounded.
	Timeout time.Duration
	// Attempts is how often an idempotent call is tried before its error is returned.
	Attempts int
	// Backoff is the wait after the first failure; it doubles up to MaxBackoff. A
	// Retry-After of the server is obeyed; one beyond the deadline ends the call at once.
	Backoff, MaxBackoff time.Duration
	DialTimeout         time.Duration
	// TryTimeout bounds what one endpoint may take for one answer, streams and blocking
	// queries excepted, after which the next is asked; zero leaves it to the call's bound.
	TryTimeout time.Duration
	// Persistent calls go on for as long as their deadline allows, once a server has
	// answered anything at all; so do conditional writes. A CodeStaleRevision may then be
	// the trace of an earlier try of the same write: the caller compares.
	Persistent bool
	// CA, in PEM, is what the certificates of https endpoints are checked against; empty:
	// what the system trusts.
	CA []byte

	// Notify, if set, is told of every failure that will be tried again, and when. It may
	// be called from several goroutines.
	Notify func(err error, in time.Duration)
}

func (c *Config) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.Timeout, DefaultTimeout)
	def(&c.Backoff, DefaultBackoff)
	def(&c.MaxBackoff, DefaultMaxBackoff)
	def(&c.DialTimeout, DefaultDialTimeout)
	if c.Attempts <= 0 {
		c.Attempts = DefaultAttempts
	}
	if c.UserAgent == "" {
		c.UserAgent = "tenement-client"
	}
	if c.Notify == nil {
		c.Notify = func(error, time.Duration) {}
	}
}

// Client talks to one cluster. Its methods may be called from several goroutines.
type Client struct {
	cfg       Config
	endpoints []*endpoint
	current   atomic.Int64 // the endpoint that answered last
	index     atomic.Uint64
	answered  atomic.Bool // by any endpoint, with anything
	following following
	sleep     func(context.Context, time.Duration) error
}

type endpoint struct {
	name string   // as it was configured, for messages
	base *url.URL // what request paths are joined to
	http *http.Client
}

// New returns a client. It connects at the first call, not here.
func New(cfg Config) (*Client, error) {
	cfg.setDefaults()
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("make client: no endpoints given")
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("make client: the token holds blanks or control characters")
	}
	cfg.Endpoints = slices.Clone(cfg.Endpoints)
	c := &Client{cfg: cfg, sleep: sleep}
	for _, name := range cfg.Endpoints {
		e, err := newEndpoint(name, cfg)
		if err != nil {
			return nil, fmt.Errorf("make client: %w", err)
		}
		c.endpoints = append(c.endpoints, e)
	}
	return c, nil
}

func newEndpoint(name string, cfg Config) (*endpoint, error) {
	bad := &api.FieldError{Field: "server", Got: name, Want: `"http://host:port", "https://host:port" or "unix:///path/ten.sock"`}
	u, err := url.Parse(name)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, bad
	}
	trust, err := trusted(cfg.CA)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: cfg.DialTimeout}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     trust,
		TLSHandshakeTimeout: cfg.DialTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
		u.Path = strings.TrimSuffix(u.Path, "/")
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		path := u.Path
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		u = &url.URL{Scheme: "http", Host: "localhost"}
	default:
		return nil, bad
	}
	return &endpoint{name: name, base: u, http: &http.Client{
		Transport: transport,
		// A redirect is an answer like any other: following it would hand the token on.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// trusted returns the TLS settings for a CA; nil, which is the system's, for none.
func trusted(ca []byte) (*tls.Config, error) {
	if len(ca) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("read CA: it holds no certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Close frees the idle connections. Calls under way go on.
func (c *Client) Close() {
	c.following.end(true)
	for _, e := range c.endpoints {
		e.http.CloseIdleConnections()
	}
}

// Endpoint returns the endpoint that answered last, or the first.
func (c *Client) Endpoint() string { return c.endpoints[c.current.Load()].name }

// Index returns the highest Raft index that any answer carried: what this client has
// written or read is visible on a node that has applied it.
func (c *Client) Index() uint64 { return c.index.Load() }

func (c *Client) sawIndex(n uint64) {
	for {
		old := c.index.Load()
		if n <= old || c.index.CompareAndSwap(old, n) {
			return
		}
	}
}

// UnreachableError says that no server answered: the request was not received, or the
// connection broke before the answer.
type UnreachableError struct {
	Endpoint string
	Err      error
	sent     bool // the server may have acted on the request
}

// Error implements error.
func (e *UnreachableError) Error() string { return fmt.Sprintf("reach %s: %v", e.Endpoint, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
