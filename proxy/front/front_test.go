package front

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a handler on ln and returns the server and a function that waits for
// Serve to return.
func start(t testing.TB, ln net.Listener, cfg Config) (*Server, func()) {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s := New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	wait := sync.OnceFunc(func() {
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		wait()
	})
	return s, wait
}

func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*net.TCPListener)
}

// dup returns a second listener on the same kernel socket, as a successor process has it.
func dup(t testing.TB, ln *net.TCPListener) net.Listener {
	t.Helper()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	second, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return second
}

// TestHandover sends requests without a pause while the port goes from one server to
// the next, twice. None may fail, on fresh or on kept connections.
func TestHandover(t *testing.T) {
	name := func(n int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, n) })
	}
	ln := listen(t)
	addr := ln.Addr().String()
	inherited := []net.Listener{ln, dup(t, ln), dup(t, ln)}
	current, wait := start(t, inherited[0], Config{Handler: name(0), Grace: 300 * time.Millisecond})
	var (
		stop   atomic.Bool
		wg     sync.WaitGroup
		counts [3]atomic.Int64
	)
	for i := range 8 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			for !stop.Load() {
				// A POST is never sent again by net/http, so that a failure would show.
				res, err := (&http.Client{Transport: tr}).Post("http://"+addr+"/", "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Errorf("request failed: %v", err)
					return
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || len(b) != 1 {
					t.Errorf("response %q, %v", b, err)
					return
				}
				counts[b[0]-'0'].Add(1)
			}
		})
	}
	reached := func(n int) {
		for counts[n].Load() < 200 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	reached(0)
	for n := 1; n < len(inherited); n++ {
		// The predecessor stops before the successor starts: what arrives in between
		// waits in the backlog.
		if err := current.Drain(t.Context()); err != nil {
			t.Errorf("drain %d: %v", n-1, err)
		}
		wait()
		if err := current.Close(); err != nil {
			t.Errorf("close %d: %v", n-1, err)
		}
		current, wait = start(t, inherited[n], Config{Handler: name(n), Grace: 300 * time.Millisecond})
		reached(n)
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("answered: %d, %d, %d", counts[0].Load(), counts[1].Load(), counts[2].Load())
}

func TestDrainFinishesWhatIsOpen(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, _ := start(t, listen(t), Config{Grace: 10 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	})})
	addr := s.address()
	got := make(chan string)
	go func() {
		res, err := http.Get("http://" + addr)
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		got <- fmt.Sprintf("%s close=%v", b, res.Close)
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain with a request open: %v", err)
	}
	close(release)
	if g := <-got; g != "done close=true" {
		t.Errorf("the open request got %q", g)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("drain again: %v", err)
	}
}

func TestDrainWaitsForUpgraded(t *testing.T) {
	release := make(chan struct{})
	upgraded := make(chan net.Conn, 1)
	s, _ := start(t, listen(t), Config{Grace: 10 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		upgraded <- nc
		<-release
	})})
	nc, err := net.Dial("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-upgraded
	drained := make(chan error)
	go func() { drained <- s.Drain(t.Context()) }()
	select {
	case err := <-drained:
		t.Errorf("drained under an upgraded connection: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainTellsKeptConnections(t *testing.T) {
	s, _ := start(t, listen(t), Config{Grace: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	nc, err := net.Dial("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	br := bufio.NewReader(nc)
	ask := func() *http.Response {
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if ask().Close {
		t.Error("closes without need")
	}
	drained := make(chan error)
	go func() { drained <- s.Drain(t.Context()) }()
	for !s.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	if !ask().Close {
		t.Error("draining, but the response does not say so")
	}
	if err := <-drained; err != nil { // well before the grace of a minute
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	s, _ := start(t, listen(t), Config{
		ReadHeaderTimeout: 50 * time.Millisecond, IdleTimeout: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
	})
	for name, text := range map[string]string{"slow head": "GET / HTTP/1.1\r\nHost:", "nothing": "", "idle": "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		nc, err := net.Dial("tcp", s.address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(nc, text)
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Errorf("%s: not closed: %v", name, err)
		}
		_ = nc.Close()
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	res, err := (&http.Client{Transport: h2}).Get("http://" + s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if b, _ := io.ReadAll(res.Body); string(b) != "HTTP/2.0" {
		t.Errorf("prior knowledge: %s", b)
	}
}

func TestTLS(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	conf := cert.TLS.Clone()
	conf.NextProtos = nil
	s, _ := start(t, listen(t), Config{
		TLS:     conf,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.TLS != nil, r.ProtoMajor) }),
	})
	client := cert.Client()
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	res, err := client.Get("https://" + s.address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if b, _ := io.ReadAll(res.Body); string(b) != "true 2" {
		t.Errorf("got %s", b)
	}
	client.CloseIdleConnections()
}

// address returns where the server listens, once it does.
func (s *Server) address() string {
	for {
		s.mu.Lock()
		for l := range s.listeners {
			defer s.mu.Unlock()
			return l.Addr().String()
		}
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// TestLengthWatch cuts text into reads at random places: the watch must see what a
// search of the whole text sees.
func TestLengthWatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"content-length", "Content-Length: 5\r\n", "CONTENT-", "length", "-", "content", "x-content-length", "\r\n", "abc", "content_length"})
		text := strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "text"), "")
		want := strings.Contains(strings.ToLower(text), "content-length")
		var w lengthWatch
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			w.see([]byte(rest[:n]))
			rest = rest[n:]
		}
		if w.seen.Load() != want {
			t.Fatalf("%q: seen=%v, want %v", text, w.seen.Load(), want)
		}
	})
}

func BenchmarkLengthWatch(b *testing.B) {
	head := []byte("GET /some/path?with=query HTTP/1.1\r\nHost: a.app.localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nCookie: a-b=c-d\r\nSec-Fetch-Mode: navigate\r\n\r\n")
	var w lengthWatch
	for b.Loop() {
		w.see(head)
	}
}
