package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// streamWriter is a ResponseWriter that may be read while it is written.
type streamWriter struct {
	header http.Header

	mu        sync.Mutex
	buf       strings.Builder
	code      int
	broken    error // of every write
	unflushed bool
}

func (w *streamWriter) Header() http.Header { return w.header }

func (w *streamWriter) WriteHeader(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code = code
}

func (w *streamWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return 0, w.broken
	}
	w.unflushed = true
	return w.buf.Write(p)
}

func (w *streamWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unflushed = false
}

func (w *streamWriter) breakDown() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = errors.New("broken pipe")
}

func (w *streamWriter) status() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code
}

// take returns what was written since the last take, and whether all of it was flushed.
func (w *streamWriter) take() (s string, flushed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s = w.buf.String()
	w.buf.Reset()
	return s, !w.unflushed
}

// open starts a stream in a bubble; ended is closed when its handler has returned.
func (f *fixture) open(r *http.Request) (w *streamWriter, ended <-chan struct{}) {
	w = &streamWriter{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ServeHTTP(w, r)
	}()
	synctest.Wait()
	return w, done
}

func expectSent(t *testing.T, w *streamWriter, want ...string) {
	t.Helper()
	synctest.Wait()
	got, flushed := w.take()
	var left []string
	for line := range strings.SplitSeq(got, "\n") {
		if line != "" {
			left = append(left, line)
		}
	}
	if len(left) != len(want) {
		t.Fatalf("got %q, want %d lines %q", left, len(want), want)
	}
	for i := range want {
		if !strings.HasPrefix(left[i], want[i]) {
			t.Errorf("line %d: got %q, want %q…", i, left[i], want[i])
		}
	}
	if !flushed {
		t.Error("not flushed")
	}
	if strings.Contains(got, "sha256") {
		t.Errorf("a token's hash is told: %s", got)
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(t.Context())
		w, ended := f.open(request("admin", "GET", "/api/events", "").WithContext(ctx))
		if w.status() != 200 || w.header.Get("Content-Type") != mediaSSE || w.header.Get(api.HeaderIndex) == "" {
			t.Fatalf("got %d %v", w.status(), w.header)
		}
		expectSent(t, w)

		f.admin(t, 201, "POST", "/api/tokens", `{"tenant":"x"}`, nil)
		at := f.cluster.View().Index()
		expectSent(t, w, fmt.Sprintf("id: %d", at), "event: token.updated", fmt.Sprintf(`data: {"index":%d,"type":"token.updated"`, at))

		f.admin(t, 204, "DELETE", "/api/services/notes", "", nil) // events that share an index
		at++
		expectSent(t, w, "event: instance.deleted", "data: ", "event: instance.deleted", "data: ",
			fmt.Sprintf("id: %d", at), "event: service.deleted", "data: ")

		time.Sleep(heartbeatEvery)
		expectSent(t, w, ": heartbeat")
		cancel()
		<-ended
		if f.streams.Load() != 0 {
			t.Error("its place is still taken")
		}
	})
}

func TestEventsResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.cluster.floor = 12
		last := f.cluster.View().Index()
		for name, tc := range map[string]struct {
			r     *http.Request
			first string
		}{
			"by parameter":    {request("admin", "GET", fmt.Sprintf("/api/events?index=%d", last-1), ""), fmt.Sprintf("id: %d\nevent: token.updated\n", last)},
			"by header":       {request("admin", "GET", "/api/events?index=1", "", "Last-Event-ID", uintText(last-1)), fmt.Sprintf("id: %d\nevent: token.updated\n", last)},
			"too old":         {request("admin", "GET", "/api/events?index=3", ""), fmt.Sprintf("id: %d\nevent: resync\ndata: {\"index\":%d,\"type\":\"resync\"", last, last)},
			"up to date":      {request("admin", "GET", fmt.Sprintf("/api/events?index=%d", last), ""), ""},
			"zero":            {request("admin", "GET", "/api/events?index=0", ""), ""},
			"from the future": {request("admin", "GET", "/api/events?index=9999", ""), ""},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			w, ended := f.open(tc.r.WithContext(ctx))
			if got, _ := w.take(); !strings.HasPrefix(got, tc.first) || tc.first == "" && got != "" {
				t.Errorf("%s: got %q, want %q…", name, got, tc.first)
			}
			cancel()
			<-ended
		}
	})
}

func TestResyncGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.cluster.floor = 1 << 30 // remembers nothing, whatever comes
		ctx, cancel := context.WithCancel(t.Context())
		w, ended := f.open(request("admin", "GET", "/api/events?index=3", "").WithContext(ctx))
		expectSent(t, w, "id: ", "event: resync", "data: ")
		f.cluster.report(bob, api.Observed{State: api.StateRunning})
		expectSent(t, w, "id: ", "event: resync", "data: ")
		cancel()
		<-ended
	})
}

// TestStreamsEnd has every reason for a stream to end, for both kinds.
func TestStreamsEnd(t *testing.T) {
	for _, path := range []string{"/api/events", "/api/logs/stream"} {
		for name, end := range map[string]func(t *testing.T, f *fixture, w *streamWriter){
			"server closes": func(_ *testing.T, f *fixture, _ *streamWriter) { f.Close() },
			"token revoked": func(t *testing.T, f *fixture, _ *streamWriter) {
				revokeAdmin(t, f)
				time.Sleep(time.Second)
			},
			"client gone": func(_ *testing.T, _ *fixture, w *streamWriter) {
				w.breakDown()
				time.Sleep(heartbeatEvery)
			},
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFixture(t)
					w, ended := f.open(request("admin", "GET", path, ""))
					select {
					case <-ended:
						t.Fatalf("ended already: %d", w.status())
					default:
					}
					end(t, f, w)
					synctest.Wait()
					select {
					case <-ended:
					default:
						t.Fatal("goes on")
					}
				})
			})
		}
	}
}

func TestStreamLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		w, ended := f.open(request("tenant alice", "GET", "/api/logs/stream?process=notes&after=4&search=x+y&level=stderr", "", "Last-Event-ID", "5"))
		want := api.LogQuery{Service: "notes", Instance: "alice", Level: api.Stderr, Search: "x y", After: 5}
		if got := f.logs.queries[0]; got != want {
			t.Errorf("asked %+v, want %+v", got, want)
		}
		for _, e := range []api.LogEntry{{Seq: 5, Message: "seen"}, {Seq: 6, Message: "one\x00\u2028"}, {Seq: 7, Message: "two"}} {
			f.logs.live <- e
		}
		expectSent(t, w, "id: 6", `data: {"seq":6,"time":"0001-01-01T00:00:00Z","service":"","id":"","level":"","message":"one\u0000\u2028"}`, "id: 7", `data: {"seq":7`)
		time.Sleep(heartbeatEvery)
		expectSent(t, w, ": heartbeat")
		f.logs.err = api.Errorf(api.CodeUnavailable, "store closed")
		close(f.logs.live)
		expectSent(t, w, "event: error", `data: {"type":"about:blank","title":"Unavailable","status":503,"code":"unavailable","detail":"store closed"}`)
		<-ended
	})
}

// TestStreamOverSockets goes through net/http: the first event arrives while the answer
// is still open, and leaving ends the handler.
func TestStreamOverSockets(t *testing.T) {
	f := newFixture(t)
	srv := httptest.NewServer(f)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/api/events?index=11", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secrets["admin"])
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, resp.Body)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || line != "id: 12\n" {
		t.Errorf("got %q, %v", line, err)
	}
}
