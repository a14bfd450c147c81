package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// heads starts a backend that answers ok and hands out each request's head as it came.
func (g *rig) heads() (api.Endpoint, chan string) {
	out := make(chan string, 16)
	return g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		for {
			head, err := readHead(br)
			if err != nil {
				return
			}
			out <- head
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), out
}

// fields parses a head into lower-case name → values.
func fields(head string) map[string][]string {
	out := make(map[string][]string)
	for _, line := range strings.Split(head, "\r\n")[1:] {
		if name, value, ok := strings.Cut(line, ": "); ok {
			out[strings.ToLower(name)] = append(out[strings.ToLower(name)], value)
		}
	}
	return out
}

const get = "GET / HTTP/1.1\r\nHost: a.app.localhost\r\n"

func TestFieldsThatNeverPass(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	for _, name := range []string{
		"X-Real-IP", "x-real-ip", "X_Real_IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP",
		"X-Original-URL", "X-Rewrite-URL", "X_Forwarded_For", "X_FORWARDED-HOST", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Server", "Forwarded_For", "X-Forwarded", "Proxy", "Proxy-Connection", "Keep-Alive", "Proxy-Authorization",
		"HTTP2-Settings", "Transfer_Encoding", "Content_Length", "X_Request_Id", "Host_",
	} {
		res, _, _ := g.raw(get + name + ": spoof\r\n\r\n")
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", name, res.StatusCode)
		}
		if head := <-heads; strings.Contains(head, "spoof") && name != "Host_" {
			t.Errorf("%s reached the backend:\n%s", name, head)
		}
	}
}

func TestFieldsThatPassUntouched(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	g.raw(get + "Authorization: Bearer abc\r\nCookie: a=1; b=2\r\nCookie: c=3\r\nX-Custom: ä\r\nx_custom: u\r\nAccept-Encoding: br\r\nRange: bytes=0-1\r\n" +
		"Cache-Control: no-cache\r\nUser-Agent: me\r\nOrigin: http://x\r\nIf-None-Match: \"e\"\r\nVia: 1.1 other\r\nTE: trailers, gzip;q=0.5\r\n\r\n")
	got := fields(<-heads)
	for name, want := range map[string]string{
		"host": "a.app.localhost", "authorization": "Bearer abc", "cookie": "a=1; b=2|c=3", "x-custom": "ä", "x_custom": "u",
		"accept-encoding": "br", "range": "bytes=0-1", "cache-control": "no-cache", "user-agent": "me", "origin": "http://x",
		"if-none-match": `"e"`, "via": "1.1 other", "te": "trailers",
	} {
		if v := strings.Join(got[name], "|"); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	g.raw(get + "\r\n")
	if got := fields(<-heads); got["user-agent"] != nil || got["accept-encoding"] != nil || got["connection"] != nil {
		t.Errorf("invented: %v", got)
	}
}

func TestProvenance(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	g.raw(get + "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\r\n")
	want := map[string]string{
		"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-forwarded-host": "a.app.localhost",
		"forwarded": `for=127.0.0.1;host="a.app.localhost";proto=http`,
	}
	got := fields(<-heads)
	for name, v := range want {
		if strings.Join(got[name], "|") != v {
			t.Errorf("%s: %q, want %q", name, got[name], v)
		}
	}
	for remote, addr := range map[string]string{
		"1.2.3.4:5": "1.2.3.4", "[::1]:80": "::1", "[fe80::1%eth0]:80": "fe80::1", "@": "unknown", "": "unknown",
	} {
		if got := peerAddr(remote); got != addr {
			t.Errorf("peerAddr(%q) = %q, want %q", remote, got, addr)
		}
	}
	v6 := g.proxy.trace(&http.Request{RemoteAddr: "[2001:db8::1]:443", Host: "h"})
	if v6.elements() != `for="[2001:db8::1]";host="h";proto=http` || v6.forwardedFor != "2001:db8::1" {
		t.Errorf("IPv6: %+v", v6)
	}
}

func TestTrustedProxy(t *testing.T) {
	g := newRig(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	ep, heads := g.heads()
	g.open("app:a", ep)
	g.raw(get + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\r\n")
	got := fields(<-heads)
	for name, v := range map[string]string{
		"x-forwarded-for": "1.2.3.4, 127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "shop.example",
		"forwarded": `for=1.2.3.4, for=127.0.0.1;host="shop.example";proto=https`, "x-real-ip": "",
	} {
		if strings.Join(got[name], "|") != v {
			t.Errorf("%s: %q, want %q", name, got[name], v)
		}
	}
}

func TestRequestID(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	for _, tc := range []struct {
		given string
		kept  bool
	}{
		{"X-Request-Id: abc-123_4.5:6\r\n", true},
		{"", false},
		{"X-Request-Id: has space\r\n", false},
		{"X-Request-Id: <script>\r\n", false},
		{"X-Request-Id: " + strings.Repeat("x", 129) + "\r\n", false},
		{"X-Request-Id: one\r\nX-Request-Id: two\r\n", false},
	} {
		g.raw(get + tc.given + "\r\n")
		got := fields(<-heads)["x-request-id"]
		if len(got) != 1 || strings.Contains(tc.given, got[0]) != tc.kept {
			t.Errorf("%q became %q", tc.given, got)
		} else if !tc.kept && !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(got[0]) {
			t.Errorf("%q became %q", tc.given, got)
		}
	}
}

func TestConnectionCannotHideFields(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	g.raw(get + "Connection: Cookie, Authorization, X-Forwarded-For, X-Request-Id, X-Hop, close\r\nCookie: a=1\r\nAuthorization: b\r\nX-Hop: h\r\n\r\n")
	got := fields(<-heads)
	for _, name := range []string{"cookie", "authorization", "x-forwarded-for", "x-request-id"} {
		if len(got[name]) != 1 {
			t.Errorf("%s: %q", name, got[name])
		}
	}
	if got["x-hop"] != nil || got["connection"] != nil {
		t.Errorf("passed on: %q %q", got["x-hop"], got["connection"])
	}
}

func TestResponseFields(t *testing.T) {
	g := newRig(t)
	g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nConnection: X-Hop, Set-Cookie\r\nKeep-Alive: timeout=5\r\nX-Hop: h\r\nset-cookie: a=1\r\n"+
			"Set-Cookie: b=2\r\nServer: thin\r\nX-Custom: c\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok")
	}))
	res, body, closed := g.raw(get + "\r\n")
	if body != "ok" || closed {
		t.Errorf("%q, closed=%v", body, closed)
	}
	for name, want := range map[string]string{
		"Set-Cookie": "a=1|b=2", "Server": "thin", "X-Custom": "c", "X-Hop": "", "Keep-Alive": "", "Connection": "",
		"Proxy-Authenticate": "", "Content-Type": "", "Content-Length": "2",
	} {
		if v := strings.Join(res.Header[name], "|"); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

func TestMethodsAndUpgradesRefused(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	for name, request := range map[string]string{
		"CONNECT":   "CONNECT a.app.localhost:443 HTTP/1.1\r\nHost: a.app.localhost\r\n\r\n",
		"TRACE":     "TRACE / HTTP/1.1\r\nHost: a.app.localhost\r\n\r\n",
		"h2c":       get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"both":      get + "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
		"twice":     get + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
		"on local":  "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"unnamed":   get + "Upgrade: h2c\r\n\r\n",
		"TLS":       get + "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
		"on no one": "TRACE / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n",
	} {
		if res, _, _ := g.raw(request); res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d, want 405", name, res.StatusCode)
		}
	}
	if len(heads) != 0 {
		t.Errorf("reached the backend: %s", <-heads)
	}
}

func TestMalformedChunksAreTheClientsFault(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	res, body, closed := g.raw("POST / HTTP/1.1\r\nHost: a.app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nGET / HTTP/1.1\r\n\r\n")
	if res.StatusCode != http.StatusBadRequest || !closed {
		t.Errorf("%d %q closed=%v, want a 400 that closes", res.StatusCode, body, closed)
	}
	if n := g.metric("tenement_proxy_requests_total", "code=5xx", "service=app"); n != 0 {
		t.Errorf("counted %v times against the backend", n)
	}
	if n := g.metric("tenement_proxy_requests_total", "code=4xx", "service=app"); n != 1 {
		t.Errorf("counted %v times as the client's", n)
	}
	// The backend is none the worse for it.
	if status, _ := g.get("a.app.localhost/"); status != http.StatusOK {
		t.Errorf("next request: %d", status)
	}
}

func TestLengthAndChunksClose(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %d", b, r.ContentLength)
	})
	const chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nin\r\n0\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: a.app.localhost\r\n"
	for name, tc := range map[string]struct {
		request string
		closed  bool
	}{
		"both":        {post + "Content-Length: 5\r\n" + chunks, true},
		"both, odd":   {post + "cOnTeNt-LeNgTh: 5\r\n" + chunks, true},
		"chunks only": {post + chunks, false},
		"length only": {post + "Content-Length: 2\r\n\r\nin", false},
	} {
		res, body, closed := g.raw(tc.request)
		if res.StatusCode != http.StatusOK || !strings.HasPrefix(body, "in ") || closed != tc.closed {
			t.Errorf("%s: %d %q, closed=%v, want %v", name, res.StatusCode, body, closed, tc.closed)
		}
	}
	// The local handler is behind the same rule.
	if _, _, closed := g.raw("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n" + chunks); !closed {
		t.Error("local: the connection stays")
	}
}

func TestHeadLimits(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", hello)
	if res, _, _ := g.raw(get + "X: " + strings.Repeat("x", 30_000) + "\r\n\r\n"); res.StatusCode != http.StatusOK {
		t.Errorf("30 KB of fields: %d", res.StatusCode)
	}
	if res, _, closed := g.raw(get + "X: " + strings.Repeat("x", 40_000) + "\r\n\r\n"); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !closed {
		t.Errorf("40 KB of fields: %d", res.StatusCode)
	}
	for _, bad := range []string{
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.app.localhost\r\nHost: b\r\n\r\n",
		get + "X : y\r\n\r\n",
		get + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
		get + "Content-Length: -1\r\n\r\n",
	} {
		if res, _, _ := g.raw(bad); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d, want 400", bad, res.StatusCode)
		}
	}
}

func TestAbsoluteFormAndOptions(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	for request, line := range map[string]string{
		"GET http://a.app.localhost/p?q HTTP/1.1\r\nHost: other\r\n\r\n": "GET /p?q HTTP/1.1",
		"OPTIONS * HTTP/1.1\r\nHost: a.app.localhost\r\n\r\n":            "OPTIONS * HTTP/1.1",
		"GET //x/../y HTTP/1.1\r\nHost: a.app.localhost\r\n\r\n":         "GET //x/../y HTTP/1.1",
		"GET /?a=1;b HTTP/1.0\r\nHost: a.app.localhost\r\n\r\n":          "GET /?a=1;b HTTP/1.1",
	} {
		g.raw(request)
		if got, _, _ := strings.Cut(<-heads, "\r\n"); got != line {
			t.Errorf("%q reached the backend as %q, want %q", request, got, line)
		}
	}
}

func TestEmptyBodyHasALength(t *testing.T) {
	g := newRig(t)
	ep, heads := g.heads()
	g.open("app:a", ep)
	g.raw("POST / HTTP/1.1\r\nHost: a.app.localhost\r\nContent-Length: 0\r\n\r\n")
	if got := fields(<-heads)["content-length"]; len(got) != 1 || got[0] != "0" {
		t.Errorf("content length %q", got)
	}
}

func TestErrorPages(t *testing.T) {
	g := newRig(t)
	g.declare("app:broken", 100) // waking it fails
	for _, tc := range []struct {
		accept, contentType, want string
	}{
		{"*/*", "text/plain; charset=utf-8", "502 Bad Gateway\nThe program at this address could not be started.\nRequest: my-id\n"},
		{"text/html,*/*;q=0.8", "text/html; charset=utf-8", "<h1>502 Bad Gateway</h1>"},
	} {
		r := g.request(http.MethodGet, "broken.app.localhost/", nil)
		r.Header.Set("Accept", tc.accept)
		r.Header.Set("X-Request-Id", "my-id")
		res, body := g.do(r)
		if res.StatusCode != http.StatusBadGateway || res.Header.Get("Content-Type") != tc.contentType || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s\n%s", tc.accept, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
		if strings.Contains(body, "secret") || !strings.Contains(body, "my-id") || res.Header.Get("X-Request-Id") != "my-id" {
			t.Errorf("%s: the page tells too much or too little:\n%s", tc.accept, body)
		}
	}
	if log := g.log.String(); !strings.Contains(log, "secret cause") || !strings.Contains(log, "my-id") {
		t.Errorf("the log does not give the reason: %s", log)
	}
}
