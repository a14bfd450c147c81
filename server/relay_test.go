package server

import (
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
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/proxy/front"
)

func text(s string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
}

// ask sends a request to h and returns the answer's body.
func ask(h http.Handler, r *http.Request) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Body.String()
}

func TestRelay(t *testing.T) {
	r := newRelay()
	get := func() string { return ask(r, httptest.NewRequest("GET", "/", nil)) }
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := get(); got != "first" {
				t.Errorf("held request: %q", got)
			}
		})
	}
	r.hold() // a hold after a hold goes on holding
	r.serve(text("first"))
	wg.Wait()
	if got := get(); got != "first" {
		t.Errorf("got %q", got)
	}
	r.hold()
	wg.Go(func() {
		if got := get(); got != "second" {
			t.Errorf("held again: %q", got)
		}
	})
	r.serve(text("second"))
	wg.Wait()
}

func TestRelayClientGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // what net/http compares
			t.Errorf("recovered %v", v)
		}
	}()
	ask(newRelay(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
}

// pair returns the two ends of a control connection.
func pair(t *testing.T) (before, after *control) {
	t.Helper()
	a, b, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	if before, err = newControl(a); err != nil {
		t.Fatal(err)
	}
	if after, err = newControl(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = before.conn.Close(); _ = after.conn.Close() })
	return before, after
}

func TestControl(t *testing.T) {
	a, b := pair(t)
	if err := a.say(wordReady, "v1.2 (dirty)"); err != nil {
		t.Fatal(err)
	}
	if rest, err := b.await(t.Context(), wordReady); err != nil || rest != "v1.2 (dirty)" {
		t.Errorf("ready: %q, %v", rest, err)
	}
	_ = a.say("hello", "you")
	if _, err := b.await(t.Context(), wordGo); err == nil || !strings.Contains(err.Error(), "hello you") {
		t.Errorf("another word: %v", err)
	}
	_ = a.say(wordFailed, `"line 1\nline 2"`)
	if _, err := b.await(t.Context(), wordGo); err == nil || err.Error() != "line 1\nline 2" {
		t.Errorf("a reason: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no patience"))
	if _, err := b.await(ctx, wordGo); err == nil || !strings.Contains(err.Error(), "no patience") {
		t.Errorf("ended context: %v", err)
	}
	_, c := pair(t)
	a, b = pair(t)
	_ = a.conn.Close()
	if _, err := b.await(t.Context(), wordGo); !errors.Is(err, errHungUp) {
		t.Errorf("hung up: %v", err)
	}
	if err := b.say(wordServing, ""); !errors.Is(err, errHungUp) {
		t.Errorf("say to nobody: %v", err)
	}
	if _, err := b.receive(); !errors.Is(err, errHungUp) {
		t.Errorf("receive from nobody: %v", err)
	}
	_ = c
}

// TestForwarder passes requests on to a server behind a predecessor's door: nothing about
// them is lost, and all of them come at once.
func TestForwarder(t *testing.T) {
	a, b := pair(t)
	before := &predecessor{conn: b, left: make(chan struct{})}
	srv := front.New(front.Config{Logger: slog.New(slog.DiscardHandler), Handler: restoreClient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %s xff=%q inner=%q agent=%q %s", r.Proto, r.Method, r.Host, r.RequestURI, r.RemoteAddr,
			r.Header.Get("X-Forwarded-For"), r.Header.Get(headerClient), r.Header.Get("User-Agent"), body)
	}))})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(before); !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	f := newForwarder(a.dial, slog.New(slog.DiscardHandler))
	request := func(i int) (*http.Request, string) {
		r := httptest.NewRequest("POST", fmt.Sprintf("/a%%2Fb?q=%d;x&y", i), strings.NewReader("body"))
		r.Host, r.RemoteAddr = "One.App.localhost", fmt.Sprintf("192.0.2.%d:4321", i)
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		proto := "HTTP/1.1"
		if i%2 == 1 {
			proto, r.ProtoMajor = "HTTP/2.0", 2
		}
		return r, fmt.Sprintf(`%s POST One.App.localhost /a%%2Fb?q=%d;x&y 192.0.2.%d:4321 xff="198.51.100.7" inner="" agent="" body`, proto, i, i)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			r, want := request(i)
			if got := ask(f, r); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	wg.Wait()
	if !before.lingers(refOne) {
		t.Error("the predecessor is there, but does not count")
	}
	f.close()
	_ = a.conn.Close()
	serving.Wait()
	if before.lingers(refOne) {
		t.Error("the predecessor is gone, but counts")
	}
	if err := srv.Close(); err != nil {
		t.Log(err) // the control connection was closed already
	}
}

// TestDuplicate: a listener whose descriptor went to another process stops when told.
func TestDuplicate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	f.Fd() // what os/exec does with it
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	_ = ln.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
	if err := <-accepted; err == nil {
		t.Error("accepted a connection that nobody made")
	}
	if err := errors.Join(ln.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := duplicate(&predecessor{}); err == nil {
		t.Error("duplicated what has no descriptor")
	}
}
