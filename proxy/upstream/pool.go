package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Defaults of a Config.
const (
	DefaultMaxIdle     = 128
	DefaultIdleTimeout = 30 * time.Second
)

// freshFor is how lately a pooled connection must have been used to carry a request
// that must not be sent twice. Servers that close idle connections wait longer.
const freshFor = time.Second

// unchecked is how long a connection may have been idle to be used without a look at it.
const unchecked = 10 * time.Millisecond

// ErrNotSent is wrapped by every error of a request of which nothing was sent, because
// no connection could be made or it was dead already: trying again is safe.
var ErrNotSent = errors.New("reach backend")

// Config bounds a Pool. Zero fields take the defaults.
type Config struct {
	MaxIdle     int
	IdleTimeout time.Duration
	// Dial makes the connections, for HTTP/2 or for HTTP/1.1, to an endpoint that the
	// network does not know; nil: the pool does it itself.
	Dial func(ctx context.Context, http2 bool) (net.Conn, error)
}

// Pool is the connections to one endpoint. Its methods may be called from several
// goroutines.
type Pool struct {
	ep  api.Endpoint
	cfg Config

	mu     sync.Mutex
	idle   []*Conn // the longest idle first
	reaper *time.Timer
	h2     *http.Transport // made on first use
	closed bool
}

// NewPool returns an empty Pool for an endpoint.
func NewPool(ep api.Endpoint, cfg Config) *Pool {
	if cfg.MaxIdle <= 0 {
		cfg.MaxIdle = DefaultMaxIdle
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = DefaultIdleTimeout
	}
	return &Pool{ep: ep, cfg: cfg}
}

// Get returns an idle connection or makes one, by the deadline. With once set the
// request must not be sent twice, and only a connection that is surely alive will do.
func (p *Pool) Get(ctx context.Context, deadline time.Time, once bool) (*Conn, error) {
	for {
		c := p.take()
		if c == nil {
			return p.Dial(ctx, deadline)
		}
		if c.alive(once) {
			c.reused = true
			return c, nil
		}
		c.Abort()
	}
}

// Dial makes a new connection by the deadline.
func (p *Pool) Dial(ctx context.Context, deadline time.Time) (*Conn, error) {
	nc, err := p.dial(ctx, deadline, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return newConn(p, nc), nil
}

// dial waits where the kernel would not: a unix socket whose backlog is full refuses at
// once, while a program that just woke to a crowd will soon accept.
func (p *Pool) dial(ctx context.Context, deadline time.Time, http2 bool) (net.Conn, error) {
	if p.cfg.Dial != nil {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		return p.cfg.Dial(ctx, http2)
	}
	dialer := net.Dialer{Deadline: deadline, KeepAlive: -1} // a backend is on this machine
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		nc, err := dialer.DialContext(ctx, p.ep.Network, p.ep.Address)
		if err == nil || !errors.Is(err, syscall.EAGAIN) || time.Until(deadline) < pause {
			return nc, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// take returns the connection that was used last, or nil.
func (p *Pool) take() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put keeps a connection for later, or closes it when there is no room.
func (p *Pool) put(c *Conn) {
	c.idleSince = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.cfg.MaxIdle {
		c.Abort()
		return
	}
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.cfg.IdleTimeout, p.reap)
	}
}

// reap closes what has been idle for too long.
func (p *Pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	expired := 0
	for expired < len(p.idle) && time.Since(p.idle[expired].idleSince) >= p.cfg.IdleTimeout {
		p.idle[expired].Abort()
		expired++
	}
	p.idle = slices.Delete(p.idle, 0, expired)
	if len(p.idle) == 0 || p.closed {
		p.reaper = nil
		return
	}
	p.reaper.Reset(p.cfg.IdleTimeout - time.Since(p.idle[0].idleSince))
}

// Close closes the idle connections; those in use are closed as their exchanges end.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.Abort()
	}
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
	if p.h2 != nil {
		p.h2.CloseIdleConnections()
	}
	return nil
}

// HTTP2 returns a RoundTripper that speaks HTTP/2 with prior knowledge to the endpoint,
// whatever the host of a request's URL.
func (p *Pool) HTTP2() http.RoundTripper {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h2 == nil {
		var only http.Protocols
		only.SetUnencryptedHTTP2(true)
		p.h2 = &http.Transport{
			Protocols:          &only,
			DisableCompression: true,
			IdleConnTimeout:    p.cfg.IdleTimeout,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				nc, err := p.dial(ctx, time.Now().Add(p.cfg.IdleTimeout), true)
				if err != nil {
					return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
				}
				return nc, nil
			},
			MaxResponseHeaderBytes: maxHead,
		}
	}
	return p.h2
}

// Tidy closes the HTTP/2 connections of a closed pool as they become idle. It is called
// after each HTTP/2 exchange.
func (p *Pool) Tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && p.h2 != nil {
		p.h2.CloseIdleConnections()
	}
}
