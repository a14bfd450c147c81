package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
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
		panic(http.ErrAbortHandler) // nobody reads an answer, and net/http would make one up
	}
}

// What a request that is passed on carries of the connection that it came on: the address
// of the client, and "https" if that was TLS.
const (
	headerClient = "X-Tenement-Client"
	headerScheme = "X-Tenement-Scheme"
)

// restoreClient gives requests that a predecessor passes on what they lost by that.
func restoreClient(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.RemoteAddr = req.Header.Get(headerClient)
		if req.Header.Get(headerScheme) == "https" {
			req.TLS = &tls.ConnectionState{}
		}
		req.Header.Del(headerClient)
		req.Header.Del(headerScheme)
		h.ServeHTTP(w, req)
	})
}

// forwarder passes requests on to the successor, and asks clients to open their next
// connection there.
type forwarder struct {
	http1, http2 *http.Transport
	one, two     *httputil.ReverseProxy
}

func newForwarder(dial func(context.Context) (net.Conn, error), log *slog.Logger) *forwarder {
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			DisableCompression: true,
		}
	}
	proxy := func(rt http.RoundTripper) *httputil.ReverseProxy {
		return &httputil.ReverseProxy{
			Transport: rt, Rewrite: passOn, FlushInterval: -1,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
	}
	f := &forwarder{http1: transport(), http2: transport()}
	f.http2.Protocols = new(http.Protocols)
	f.http2.Protocols.SetUnencryptedHTTP2(true)
	f.one, f.two = proxy(f.http1), proxy(f.http2)
	return f
}

// passOn leaves a request as it came, but for what httputil takes out of it.
func passOn(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = "http", "successor"
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.Out.Host = r.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = v
		}
	}
	r.Out.Header.Set(headerClient, r.In.RemoteAddr)
	r.Out.Header.Del(headerScheme)
	if r.In.TLS != nil {
		r.Out.Header.Set(headerScheme, "https")
	}
}

// ServeHTTP implements http.Handler.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.ProtoMajor == 2 {
		f.two.ServeHTTP(w, req)
		return
	}
	if req.Header.Get("Upgrade") == "" {
		w.Header().Set("Connection", "close")
	}
	f.one.ServeHTTP(w, req)
}

// close frees the connections that no request uses.
func (f *forwarder) close() {
	f.http1.CloseIdleConnections()
	f.http2.CloseIdleConnections()
}
