package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestForwardsToTheNamedInstance(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Method+" "+r.Host+" "+r.RequestURI)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "got %q", b)
	})
	res, body := g.do(g.request(http.MethodPost, "A.app.localhost:8080/x%2Fy/?q=1;2&q=%zz", strings.NewReader("in")))
	if res.StatusCode != http.StatusTeapot || body != `got "in"` {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if got := res.Header.Get("X-Seen"); got != "POST A.app.localhost:8080 /x%2Fy/?q=1;2&q=%zz" {
		t.Errorf("the backend saw %s", got)
	}
	if got := res.Header["Set-Cookie"]; len(got) != 2 {
		t.Errorf("cookies %q", got)
	}
	if ct, ok := res.Header["Content-Type"]; !ok || ct[0] != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", ct)
	}
	if status, body := g.get("localhost/anything"); status != http.StatusOK || body != "local" {
		t.Errorf("local: %d %s", status, body)
	}
}

func TestUnknownHostsAre404AndWakeNothing(t *testing.T) {
	g := newRig(t)
	g.declare("app:a", 100)
	for _, host := range []string{"nothing.localhost", "a.nothing.localhost", "b.app.localhost", "example.com", "x.a.app.localhost", "a.app.localhost.evil.com"} {
		if status, _ := g.get(host + "/"); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", host, status)
		}
	}
	if len(g.waker.wakes) != 0 || len(g.creator.created) != 0 {
		t.Errorf("woken: %v, created: %v", g.waker.wakes, g.creator.created)
	}
	if n := g.metric("tenement_proxy_requests_total", "code=4xx", "service="); n != 5 {
		t.Errorf("%v requests without a service, want 5", n)
	}
}

func TestBodiesBothWays(t *testing.T) {
	g := newRig(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // 4.8 MB
	handler := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Query().Get("length") != "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		_, _ = w.Write(b)
	}
	g.serve("app:tcp", handler)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(handler)}} //nolint:gosec // a test
	srv.Start()
	t.Cleanup(srv.Close)
	g.open("app:unix", api.Endpoint{Network: "unix", Address: path})
	for _, id := range []string{"tcp", "unix"} {
		for _, size := range []int{0, 1, 4095, 4096, 4097, 40_000, len(big)} {
			for _, query := range []string{"", "?length=1"} {
				for _, chunked := range []bool{false, true} {
					var body io.Reader = bytes.NewReader(big[:size])
					if chunked {
						body = io.MultiReader(body) // hides the length
					}
					res, got := g.do(g.request(http.MethodPut, id+".app.localhost/"+query, body))
					if res.StatusCode != http.StatusOK || sha256.Sum256([]byte(got)) != sha256.Sum256(big[:size]) {
						t.Errorf("%s %d%s chunked=%v: %d, %d bytes back", id, size, query, chunked, res.StatusCode, len(got))
					}
				}
			}
		}
	}
}

func TestConnectionsAreKeptAndShared(t *testing.T) {
	g := newRig(t)
	var conns atomic.Int32
	ep := g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	ref := g.open("app:a", ep)
	for range 20 {
		if status, body := g.get("a.app.localhost/"); status != http.StatusOK || body != "ok" {
			t.Fatalf("%d %s", status, body)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 requests in a row", n)
	}
	// Another run of the instance, even at the same address, gets new connections.
	g.router.Down(ref)
	g.router.Open(ref, ep)
	g.get("a.app.localhost/")
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections after the gate closed and opened, want 2", n)
	}
}

func TestStalePooledConnection(t *testing.T) {
	g := newRig(t)
	var conns atomic.Int32
	g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		conns.Add(1)
		head, err := readHead(br)
		if err != nil {
			return
		}
		if strings.HasPrefix(head, "POST") {
			_, _ = io.ReadFull(br, make([]byte, 2))
		}
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		// Says keep-alive and closes: the meanest of backends.
	}))
	for i := range 30 {
		method, body := http.MethodGet, io.Reader(nil)
		if i%3 == 2 {
			// A POST must not be sent twice; its connection is looked at before. The look
			// can be too early only if the backend closes in that very moment.
			time.Sleep(2 * time.Millisecond)
			method, body = http.MethodPost, strings.NewReader("in")
		}
		if res, got := g.do(g.request(method, "a.app.localhost/", body)); res.StatusCode != http.StatusOK || got != "ok" {
			t.Fatalf("request %d: %d %s", i, res.StatusCode, got)
		}
	}
	if n := conns.Load(); n != 30 {
		t.Errorf("%d connections, want one for each of 30 requests", n)
	}
}

func TestTrailers(t *testing.T) {
	g := newRig(t)
	seen := make(chan http.Header, 1)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r.Trailer
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"X-Late", "too")
	})
	r := g.request(http.MethodPost, "a.app.localhost/", io.MultiReader(strings.NewReader("in")))
	r.Trailer = http.Header{"X-Checksum": {"42"}, "X-Forwarded-For": {"1.2.3.4"}}
	res, body := g.do(r)
	if body != "body" || res.Trailer.Get("X-Announced") != "yes" || res.Trailer.Get("X-Late") != "too" {
		t.Errorf("%q, trailer %v", body, res.Trailer)
	}
	if got := <-seen; len(got) != 1 || got.Get("X-Checksum") != "42" {
		t.Errorf("the backend saw trailer %v", got)
	}
}

func TestUnannouncedTrailerOfASmallResponse(t *testing.T) {
	g := newRig(t)
	g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Late: too\r\nContent-Length: 5\r\n\r\n")
	}))
	res, body := g.do(g.request(http.MethodGet, "a.app.localhost/", nil))
	if body != "ok" || len(res.Trailer) != 1 || res.Trailer.Get("X-Late") != "too" {
		t.Errorf("%q, trailer %v", body, res.Trailer)
	}
}

func TestStreamsFlushAtOnce(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "application/json"} {
		t.Run(contentType, func(t *testing.T) {
			g := newRig(t)
			next := make(chan string)
			g.serve("app:a", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.(http.Flusher).Flush()
				for s := range next {
					_, _ = io.WriteString(w, s)
					w.(http.Flusher).Flush()
				}
			})
			res, err := g.client.Do(g.request(http.MethodGet, "a.app.localhost/", nil)) // returns on the head alone
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			br := bufio.NewReader(res.Body)
			for i := range 3 {
				want := fmt.Sprintf("data: %d\n", i)
				next <- want
				if got, err := br.ReadString('\n'); got != want || err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			close(next)
			if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

// TestBidirectional has each side wait for the other's piece, over HTTP/1.1 and HTTP/2.
func TestBidirectional(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		br := bufio.NewReader(r.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "echo "+line)
			w.(http.Flusher).Flush()
		}
	})
	h2 := g.transport()
	h2.Protocols = new(http.Protocols)
	h2.Protocols.SetUnencryptedHTTP2(true)
	for name, client := range map[string]*http.Client{"HTTP/1.1": g.client, "HTTP/2.0": {Transport: h2}} {
		t.Run(name, func(t *testing.T) {
			pr, pw := io.Pipe()
			go func() { _, _ = io.WriteString(pw, "0\n") }()
			res, err := client.Do(g.request(http.MethodPost, "a.app.localhost/", pr))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if res.Proto != name {
				t.Errorf("spoke %s", res.Proto)
			}
			br := bufio.NewReader(res.Body)
			for i := range 5 {
				if got, err := br.ReadString('\n'); got != fmt.Sprintf("echo %d\n", i) || err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
				if i < 4 {
					_, _ = fmt.Fprintf(pw, "%d\n", i+1)
				}
			}
			_ = pw.Close()
			if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

// TestEarlyResponse has the backend answer without reading a body that never ends.
func TestEarlyResponse(t *testing.T) {
	g := newRig(t)
	g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		_, _ = readHead(br)
		_, _ = io.WriteString(nc, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		_, _ = br.WriteTo(io.Discard)
	}))
	nc := g.dial()
	_, _ = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a.app.localhost\r\nContent-Length: 1000000\r\n\r\nonly a part")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusForbidden || string(body) != "no" || !res.Close {
		t.Errorf("%d %q close=%v %v", res.StatusCode, body, res.Close, err)
	}
	eventually(t, "no request in flight", func() bool { return g.router.InFlight(api.Ref{Service: "app", ID: "a"}) == 0 })
}

func TestExpectContinue(t *testing.T) {
	g := newRig(t)
	g.serve("app:yes", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "got %s", b)
	})
	g.serve("app:no", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	for _, tc := range []struct {
		id     string
		status int
		asked  bool
	}{{"yes", 200, true}, {"no", 403, false}} {
		nc := g.dial()
		br := bufio.NewReader(nc)
		_, _ = fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: %s.app.localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", tc.id)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if asked := res.StatusCode == http.StatusContinue; asked != tc.asked {
			t.Errorf("%s: first response %d", tc.id, res.StatusCode)
		} else if asked {
			_, _ = io.WriteString(nc, "in")
			if res, err = http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
		}
		if res.StatusCode != tc.status {
			t.Errorf("%s: %d, want %d", tc.id, res.StatusCode, tc.status)
		}
	}
}

func TestEarlyHints(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "ok")
	})
	nc := g.dial()
	br := bufio.NewReader(nc)
	_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a.app.localhost\r\n\r\n")
	hints, err := http.ReadResponse(br, nil)
	if err != nil || hints.StatusCode != http.StatusEarlyHints || hints.Header.Get("Link") == "" {
		t.Fatalf("%+v, %v", hints, err)
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Link") != "" {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestRequestTimeout(t *testing.T) {
	g := newRig(t)
	g.service("app", func(s *api.Service) { s.RequestTimeout = api.Duration(150 * time.Millisecond) })
	release := make(chan struct{})
	defer close(release)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/never":
			<-release
		case "/slow-body": // the first byte is in time; the rest may take what it takes
			w.(http.Flusher).Flush()
			time.Sleep(400 * time.Millisecond)
			_, _ = io.WriteString(w, "done")
		case "/slow-upload": // so may a body that keeps coming
			b, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %v", b, err)
		}
	})
	if status, body := g.get("a.app.localhost/never"); status != http.StatusGatewayTimeout {
		t.Errorf("never: %d %s", status, body)
	}
	if status, body := g.get("a.app.localhost/slow-body"); status != http.StatusOK || body != "done" {
		t.Errorf("slow body: %d %s", status, body)
	}
	pr, pw := io.Pipe()
	go func() {
		for range 8 {
			_, _ = io.WriteString(pw, "x")
			time.Sleep(50 * time.Millisecond)
		}
		_ = pw.Close()
	}()
	if res, body := g.do(g.request(http.MethodPost, "a.app.localhost/slow-upload", pr)); res.StatusCode != http.StatusOK || body != "xxxxxxxx <nil>" {
		t.Errorf("slow upload: %d %s", res.StatusCode, body)
	}
	// A body that stops coming is the client's fault.
	res, _, closed := g.raw("POST /slow-upload HTTP/1.1\r\nHost: a.app.localhost\r\nContent-Length: 10\r\n\r\nx")
	if res.StatusCode != http.StatusRequestTimeout || !closed {
		t.Errorf("stalled upload: %d, closed=%v", res.StatusCode, closed)
	}
}

func TestClientGoneFreesTheBackend(t *testing.T) {
	g := newRig(t)
	entered, left := make(chan struct{}), make(chan struct{})
	ref := g.serve("app:a", func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r := g.request(http.MethodGet, "a.app.localhost/", nil).WithContext(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := g.client.Do(r)
		done <- err
	}()
	<-entered
	if n := g.router.InFlight(ref); n != 1 {
		t.Errorf("%d in flight", n)
	}
	cancel()
	<-left
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "request no longer in flight", func() bool { return g.router.InFlight(ref) == 0 })
	eventually(t, "counted as aborted", func() bool {
		return g.metric("tenement_proxy_requests_total", "code=aborted", "service=app") == 1
	})
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	g := newRig(t)
	g.proxy.stall = 50 * time.Millisecond
	ref := g.serve("app:a", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	nc := g.dial()
	_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = io.WriteString(nc, get+"\r\n")
	eventually(t, "request open", func() bool { return g.router.InFlight(ref) == 1 })
	eventually(t, "request cut off", func() bool { return g.router.InFlight(ref) == 0 })
}
