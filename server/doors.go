package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/tenement-fleet/tenement/proxy/front"
	"github.com/tenement-fleet/tenement/server/auth"
)

// The names of the doors. A successor inherits all but the last.
const (
	listenerHTTP   = "http"
	listenerAdmin  = "admin"
	listenerTLS    = "tls"       // if there is one
	listenerPassed = "passed on" // what a predecessor still gets
)

// door is one listener with what answers behind it.
type door struct {
	name string
	net.Listener
	relay *relay // nil at the door for what is passed on: it shares that of the network
	http  httpServer
}

// httpServer is a front, or what is enough for the admin socket.
type httpServer interface {
	Serve(net.Listener) error
	Drain(context.Context) error
	Close() error
}

func (s *server) door(name string) *door {
	for _, d := range s.doors {
		if d.name == name {
			return d
		}
	}
	return nil
}

// relays calls f with the relay of every door that has one.
func (s *server) relays(f func(*door)) {
	for _, d := range s.doors {
		if d.relay != nil {
			f(d)
		}
	}
}

func (s *server) adminSocket() string { return filepath.Join(s.cfg.DataDir, "ten.sock") }

// inherit takes a predecessor's listeners. What can't change while a server is replaced
// is refused, or said.
func (s *server) inherit(before *predecessor) error {
	if before == nil {
		return nil
	}
	for name, ln := range before.listeners {
		s.doors = append(s.doors, &door{name: name, Listener: ln, relay: newRelay()})
	}
	web, admin := s.door(listenerHTTP), s.door(listenerAdmin)
	if web == nil || admin == nil {
		return errors.New("inherit listeners: the running server hands over other ones than this version needs")
	}
	if was, is := admin.Addr().String(), s.adminSocket(); was != is {
		return fmt.Errorf("inherit listeners: the data directory was %s and would be %s: that takes a restart", filepath.Dir(was), s.cfg.DataDir)
	}
	if tcp, ok := web.Addr().(*net.TCPAddr); ok && s.cfg.Port != 0 && tcp.Port != s.cfg.Port {
		s.opts.Logger.Warn("the port stays as it is until a restart", "port", tcp.Port, "configured", s.cfg.Port)
	}
	return s.inheritTLS()
}

// inheritTLS keeps the listener of the TLS port unless it is not wanted any more.
func (s *server) inheritTLS() error {
	d := s.door(listenerTLS)
	if d == nil {
		return nil
	}
	tcp, ok := d.Addr().(*net.TCPAddr)
	switch {
	case s.cfg.TLSPort == 0:
		s.doors = slices.DeleteFunc(s.doors, func(other *door) bool { return other == d })
		if err := d.Close(); err != nil {
			return fmt.Errorf("close the TLS port: %w", err)
		}
	case ok && tcp.Port != s.cfg.TLSPort:
		s.opts.Logger.Warn("the TLS port stays as it is until a restart", "port", tcp.Port, "configured", s.cfg.TLSPort)
	}
	return nil
}

// listen opens the listeners that were not inherited.
func (s *server) listen(ctx context.Context) error {
	if s.door(listenerHTTP) == nil {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(s.cfg.Bind, strconv.Itoa(s.cfg.Port)))
		if err != nil {
			return fmt.Errorf("listen for requests: %w", explainListen(err, s.cfg.Port, "port"))
		}
		s.doors = append(s.doors, &door{name: listenerHTTP, Listener: ln, relay: newRelay()})
	}
	if s.door(listenerTLS) == nil && s.cfg.TLSPort != 0 {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(s.cfg.Bind, strconv.Itoa(s.cfg.TLSPort)))
		if err != nil {
			return fmt.Errorf("listen for requests over TLS: %w", explainListen(err, s.cfg.TLSPort, "tls_port"))
		}
		s.doors = append(s.doors, &door{name: listenerTLS, Listener: ln, relay: newRelay()})
	}
	if s.door(listenerAdmin) == nil {
		ln, err := auth.Listen(ctx, s.adminSocket())
		if err != nil {
			return err
		}
		s.doors = append(s.doors, &door{name: listenerAdmin, Listener: ln, relay: newRelay()})
	}
	return nil
}

// open begins to accept connections; their requests wait until serve is called.
func (s *server) open(before *predecessor) {
	s.web.Store(s.node.web)
	if before != nil {
		s.doors = append(s.doors, &door{name: listenerPassed, Listener: before})
	}
	for _, d := range s.doors {
		switch d.name {
		case listenerAdmin:
			d.http = newAdminServer(d.relay, s.opts.Logger)
			d.Listener.(*net.UnixListener).SetUnlinkOnClose(true) // who serves last removes it
		case listenerPassed:
			d.http = front.New(front.Config{Handler: restoreClient(s.door(listenerHTTP).relay), Logger: s.opts.Logger})
		case listenerTLS:
			d.http = front.New(front.Config{Handler: d.relay, TLS: s.webTLS(), Logger: s.opts.Logger})
		default:
			d.http = front.New(front.Config{Handler: d.relay, Logger: s.opts.Logger})
		}
		s.serving.Go(func() {
			if err := d.http.Serve(d.Listener); err != nil && !errors.Is(err, net.ErrClosed) {
				s.opts.Logger.Error("no more requests are taken", "listener", d.name, "error", err)
			}
		})
	}
}

// serve lets the node answer: on the network by host name, on the admin socket the API.
func (s *server) serve() {
	s.web.Store(s.node.web)
	s.relays(func(d *door) {
		var h http.Handler = s.node.proxy
		if d.name == listenerAdmin {
			h = s.node.api
		}
		d.relay.serve(h)
	})
}

// drain waits for the requests under way. No new connection is accepted.
func (s *server) drain(ctx context.Context) error {
	errs := make([]error, len(s.doors))
	var wg sync.WaitGroup
	for i, d := range s.doors {
		wg.Go(func() { errs[i] = d.http.Drain(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// explainListen says what to do about the usual reasons. The setting chooses the port.
func explainListen(err error, port int, setting string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d is in use by another program: stop that, or choose a port with --%s, TENEMENT_%s or settings.%s: %w",
			port, strings.ReplaceAll(setting, "_", "-"), strings.ToUpper(setting), setting, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d needs a privilege that this user lacks: choose one from 1024 on, or give the binary CAP_NET_BIND_SERVICE: %w", port, err)
	}
	return err
}
