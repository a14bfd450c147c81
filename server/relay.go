package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// relay is the handler behind a listener for as long as the listener lives. What is
// behind the relay changes: the node that serves, a hold while nobody does, and at the
// end the successor's process.
type relay struct{ current atomic.Pointer[http.Handler] }

// newRelay returns a relay that holds requests until serve is called.
func newRelay() *relay {
	r := &relay{}
	r.hold()
	return r
}

// ServeHTTP implements http.Handler.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	(*r.current.Load()).ServeHTTP(w, req)
}

// serve sends this and every later request, and those held so far, to h.
func (r *relay) serve(h http.Handler) {
	old := r.current.Swap(&h)
	if old == nil {
		return
	}
	if held, ok := (*old).(*hold); ok {
		close(held.released)
	}
}

// hold lets requests wait until serve is called.
func (r *relay) hold() { r.serve(&hold{relay: r, released: make(chan struct{})}) }

// hold waits and then asks the relay again.
type hold struct {
	relay    *relay
	released chan struct{}
}

// ServeHTTP implements http.Handler.
func (h *hold) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case <-h.released:
		h.relay.ServeHTTP(w, req)
	case <-req.Context().Done():
	}
}

// forwarder passes requests on to the process that listens on addr, the successor, and
// asks clients to open their next connection there.
func forwarder(network, addr string, log *slog.Logger) http.Handler {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	http1 := &http.Transport{DialContext: dial, DisableCompression: true}
	http2 := &http.Transport{DialContext: dial, DisableCompression: true, Protocols: &protocols}
	http2.Protocols.SetHTTP1(false)
	proxy := func(rt http.RoundTripper) *httputil.ReverseProxy {
		return &httputil.ReverseProxy{
			Transport:     rt,
			FlushInterval: -1,
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.SetURL(&url.URL{Scheme: "http", Host: "successor"})
				pr.Out.Host = pr.In.Host
			},
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
	}
	one, two := proxy(http1), proxy(http2)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ProtoMajor == 2 {
			two.ServeHTTP(w, req)
			return
		}
		if req.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		one.ServeHTTP(w, req)
	})
}
