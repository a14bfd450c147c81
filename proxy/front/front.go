// Package front is the node's public port: it accepts connections and serves HTTP/1.1
// and HTTP/2 on them within limits, and it hands the port over to a successor without
// failing a request.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The limits that are no choice.
const (
	maxHeaderBytes = 32 << 10
	maxStreams     = 100
	maxFrameSize   = 16384
	// pingAfter is how long an HTTP/2 client may be silent before it is asked for life.
	pingAfter = 30 * time.Second
)

// Defaults of a Config.
const (
	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultIdleTimeout       = 2 * time.Minute
	DefaultGrace             = 2 * time.Second
)

// Config is what a Server needs; only Handler must be set.
type Config struct {
	Handler http.Handler
	// TLS, when set, makes the port speak TLS with it.
	TLS    *tls.Config
	Logger *slog.Logger // slog.Default when nil

	// ReadHeaderTimeout bounds a request's head, IdleTimeout the wait for the next
	// request on a connection.
	ReadHeaderTimeout time.Duration
	IdleTimeout       time.Duration
	// Grace is how long a drain lets connections tell their clients, with the next
	// response, that they close.
	Grace time.Duration
}

// Server serves a port. Its methods may be called from several goroutines.
type Server struct {
	http  *http.Server
	tls   bool
	grace time.Duration
	inner http.Handler

	draining atomic.Bool
	active   atomic.Int64  // handlers running, those of upgraded connections included
	quiet    chan struct{} // holds a value when active may have come to zero
	conns    atomic.Int64  // connections open, upgraded ones not included
	gone     chan struct{} // holds a value when conns may have come to zero

	mu        sync.Mutex
	listeners map[*listener]struct{}
	closed    bool
}

// New returns a Server that serves nothing yet.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{
		tls: cfg.TLS != nil, inner: cfg.Handler, grace: orDefault(cfg.Grace, DefaultGrace),
		quiet: make(chan struct{}, 1), gone: make(chan struct{}, 1), listeners: make(map[*listener]struct{}),
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.tls)
	protocols.SetUnencryptedHTTP2(!s.tls)
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         cfg.TLS,
		Protocols:         &protocols,
		ReadHeaderTimeout: orDefault(cfg.ReadHeaderTimeout, DefaultReadHeaderTimeout),
		IdleTimeout:       orDefault(cfg.IdleTimeout, DefaultIdleTimeout),
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrameSize, SendPingTimeout: pingAfter,
		},
		ErrorLog:    slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ConnContext: connContext,
		ConnState:   s.track,
		// OPTIONS * is the program's to answer, like any request.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// Serve accepts connections from ln until Drain or Close, and returns nil then. It
// never closes ln before Close, so that connections that arrive after a drain wait in
// its backlog for a successor that shares it.
func (s *Server) Serve(ln net.Listener) error {
	l := &listener{Listener: ln}
	l.setDeadline(time.Time{}) // a server before this one may have stopped accepting here
	if !s.add(l) {
		return nil
	}
	var err error
	if s.tls {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, errStopped) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", ln.Addr(), err)
}

func (s *Server) add(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() || s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

// ServeHTTP implements http.Handler around the one of the Config.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	defer func() {
		if s.active.Add(-1) == 0 && s.draining.Load() {
			signal(s.quiet)
		}
	}()
	if s.draining.Load() {
		w.Header().Set("Connection", "close") // HTTP/2 says GOAWAY for it
	}
	s.inner.ServeHTTP(w, r)
}

// track counts connections.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		if s.conns.Add(-1) == 0 && s.draining.Load() {
			signal(s.gone)
		}
	case http.StateActive, http.StateIdle:
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Drain hands the port over: it stops accepting, lets every request that was accepted
// finish, tells clients on their next response that the connection closes, and then
// closes the connections on which nothing happens. It returns when nothing is left, or
// with an error when ctx ends before; Close cuts off what is left then.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	for l := range s.listeners {
		l.stop()
	}
	s.mu.Unlock()
	grace := time.NewTimer(s.grace)
	defer grace.Stop()
	for waiting := true; waiting && s.conns.Load() > 0; {
		select {
		case <-s.gone:
		case <-grace.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("drain connections: %d open: %w", s.conns.Load(), err)
	}
	for s.active.Load() > 0 {
		select {
		case <-s.quiet:
		case <-ctx.Done():
			return fmt.Errorf("drain upgraded connections: %d open: %w", s.active.Load(), context.Cause(ctx))
		}
	}
	return nil
}

// Close cuts off every connection but upgraded ones, which belong to the handler, and
// closes the listeners.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.listeners {
		l.stop() // http.Server waits for its accept loops
	}
	err := s.http.Close()
	for l := range s.listeners {
		err = errors.Join(err, l.Listener.Close())
	}
	clear(s.listeners)
	if err != nil {
		return fmt.Errorf("close server: %w", err)
	}
	return nil
}
