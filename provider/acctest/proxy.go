package acctest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// Fault decides what becomes of a request on its way to a node: it answers by itself and
// returns true, or returns false and next does it.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler) bool

// Proxy is a server in front of a node, on which requests can be made to go wrong.
type Proxy struct {
	URL   string
	fault atomic.Pointer[Fault]
}

// Front starts a proxy for an endpoint until the test ends.
func Front(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	p := &Proxy{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := p.fault.Load(); f == nil || !(*f)(w, r, next) {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// Break makes requests go wrong from now on; nil ends it.
func (p *Proxy) Break(f Fault) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}
