package client

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestRetries(t *testing.T) {
	busy := api.Errorf(api.CodeUnavailable, "no leader")
	limited := &api.Error{Code: api.CodeTooManyRequests, Message: "slow down", RetryAfter: api.Seconds(2)}
	for _, tc := range []struct {
		name  string
		err   *api.Error
		post  bool // a call that must not be done twice
		calls int64
		waits []time.Duration // nil: don't look
	}{
		{name: "503", err: busy, calls: 3},
		{name: "429", err: limited, calls: 3, waits: []time.Duration{2 * time.Second, 2 * time.Second}},
		{name: "404", err: api.Errorf(api.CodeNotFound, "no such service"), calls: 1},
		{name: "disk full", err: api.Errorf(api.CodeDiskFull, "no space"), calls: 1},
		{name: "504", err: api.Errorf(api.CodeTimeout, "the write may have happened"), calls: 3},
		{name: "not idempotent", err: busy, post: true, calls: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var calls, notices atomic.Int64
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				writeProblem(w, tc.err)
			})
			c, rec := newClient(t, Config{Endpoints: []string{u}, Attempts: 3, Notify: func(error, time.Duration) { notices.Add(1) }})
			var err error
			if tc.post {
				_, err = c.CreateToken(t.Context(), api.TokenRequest{})
			} else {
				_, err = c.Node(t.Context())
			}
			if !errors.Is(err, &api.Error{Code: tc.err.Code}) || calls.Load() != tc.calls || notices.Load() != tc.calls-1 {
				t.Errorf("got %v after %d calls, %d notices; want %s after %d", err, calls.Load(), notices.Load(), tc.err.Code, tc.calls)
			}
			if tc.waits != nil && !reflect.DeepEqual(rec.waits(), tc.waits) {
				t.Errorf("slept %v, want %v", rec.waits(), tc.waits)
			}
		})
	}
}

func TestRetrySucceeds(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(503) // a proxy in front, without a problem document
			return
		}
		writeJSON(w, 200, api.Node{Name: "n1"})
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}, Backoff: time.Second, MaxBackoff: 2 * time.Second})
	n, err := c.Node(t.Context())
	if err != nil || n.Name != "n1" {
		t.Fatalf("got %+v, %v", n, err)
	}
	for i, w := range rec.waits() {
		if most := time.Second << i; w < most/2 || w > most {
			t.Errorf("wait %d is %s, want %s to %s", i, w, most/2, most)
		}
	}
}

func TestNoRetryBeyondTheDeadline(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := c.Node(ctx)
	if api.CodeOf(err) != api.CodeUnavailable || len(rec.waits()) != 0 {
		t.Fatalf("got %v after waits %v, want the 503 at once", err, rec.waits())
	}
}

func TestRetryAfterDate(t *testing.T) {
	h := http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Retry-After": {"Mon, 02 Jan 2006 15:04:35 GMT"}}
	if got := retryAfter(h); got != api.Seconds(30) {
		t.Errorf("got %s, want 30s", got)
	}
	for _, bad := range []string{"", "-1", "soon", "99999999999999999999"} {
		if got := retryAfter(http.Header{"Retry-After": {bad}}); got != 0 {
			t.Errorf("%q: got %s, want 0", bad, got)
		}
	}
}

func TestFailOver(t *testing.T) {
	var calls atomic.Int64
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		writeJSON(w, 200, api.CreatedToken{})
	})
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	c, rec := newClient(t, Config{Endpoints: []string{refusing(t), busy, up}})
	if _, err := c.Node(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Endpoint() != up || len(rec.waits()) != 0 {
		t.Errorf("settled on %s after waits %v, want %s at once", c.Endpoint(), rec.waits(), up)
	}

	// A dial error is safe to fail over from whatever the call, an answer is not.
	c, _ = newClient(t, Config{Endpoints: []string{refusing(t), up}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); err != nil {
		t.Errorf("behind a dial error: %v", err)
	}
	c, _ = newClient(t, Config{Endpoints: []string{busy, up}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("behind a 503: got %v, want unavailable", err)
	}
}

func TestUnreachable(t *testing.T) {
	url := refusing(t)
	c, rec := newClient(t, Config{Endpoints: []string{url}, Attempts: 3})
	_, err := c.Node(t.Context())
	un, ok := errors.AsType[*UnreachableError](err)
	if !ok || un.Endpoint != url || len(rec.waits()) != 2 {
		t.Fatalf("got %v after waits %v, want unreachable after 2", err, rec.waits())
	}
	_, err = c.CreateToken(t.Context(), api.TokenRequest{})
	if _, ok := errors.AsType[*UnreachableError](err); !ok || len(rec.waits()) != 2 {
		t.Fatalf("not idempotent: got %v after waits %v", err, rec.waits())
	}
}

func TestBrokenConnection(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, 200, api.CreatedToken{})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); err == nil || calls.Load() != 1 {
		t.Errorf("got %v after %d calls, want one call and its error", err, calls.Load())
	}
	calls.Store(0)
	if _, err := c.Spawn(t.Context(), api.Ref{Service: "a", ID: "b"}); err != nil {
		t.Errorf("idempotent: %v", err)
	}
}

// TestBrokenAnswer: an answer that breaks off is none.
func TestBrokenAnswer(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"service":`))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, 200, api.Instance{Service: "a", ID: "b"})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); err == nil || !strings.Contains(err.Error(), "read answer") || calls.Load() != 1 {
		t.Errorf("got %v after %d calls, want one call and its error", err, calls.Load())
	}
	calls.Store(0)
	if i, err := c.Spawn(t.Context(), api.Ref{Service: "a", ID: "b"}); err != nil || i.ID != "b" || calls.Load() != 2 {
		t.Errorf("idempotent: got %+v, %v after %d calls", i, err, calls.Load())
	}
}

// TestBehind: what a node that is behind tells is asked for again until it has caught up;
// that it can't answer is told at once.
func TestBehind(t *testing.T) {
	var calls atomic.Int64
	answers := map[int64]func(http.ResponseWriter){
		1: func(w http.ResponseWriter) {
			w.Header().Set(api.HeaderIndex, "7")
			writeJSON(w, 200, api.Instance{ID: "new"})
		},
		2: func(w http.ResponseWriter) {
			w.Header().Set(api.HeaderIndex, "5")
			writeJSON(w, 200, api.Instance{ID: "old"})
		},
		3: func(w http.ResponseWriter) {
			w.Header().Set(api.HeaderIndex, "6")
			writeProblem(w, api.Errorf(api.CodeNotFound, "none yet"))
		},
		4: func(w http.ResponseWriter) {
			w.Header().Set(api.HeaderIndex, "7")
			writeJSON(w, 200, api.Instance{ID: "new"})
		},
	}
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if answer := answers[calls.Add(1)]; answer != nil {
			answer(w)
			return
		}
		w.Header().Set(api.HeaderIndex, "6")
		writeProblem(w, api.Errorf(api.CodeUnavailable, "no leader"))
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}, Attempts: 3})
	for range 2 {
		if i, err := c.Instance(t.Context(), api.Ref{Service: "a", ID: "b"}); err != nil || i.ID != "new" {
			t.Fatalf("got %+v, %v", i, err)
		}
	}
	if calls.Load() != 4 {
		t.Errorf("%d calls, want 4", calls.Load())
	}
	if _, err := c.Instance(t.Context(), api.Ref{Service: "a", ID: "b"}); api.CodeOf(err) != api.CodeUnavailable || calls.Load() != 7 {
		t.Errorf("got %v after %d calls, want unavailable after 3 attempts", err, calls.Load()-4)
	}
}

// TestUnsettled: what a call waits for may take longer than its server waits. A caller that
// persists asks again; it compares afterwards.
func TestUnsettled(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		var calls atomic.Int64
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				writeProblem(w, api.Errorf(api.CodeTimeout, "not up in time"))
				return
			}
			writeJSON(w, 200, api.Instance{})
		})
		c, _ := newClient(t, Config{Endpoints: []string{u}, Persistent: persistent})
		_, err := c.Spawn(t.Context(), api.Ref{Service: "a", ID: "b"})
		if (err == nil) != persistent || (calls.Load() == 2) != persistent {
			t.Errorf("persistent %t: got %v after %d calls", persistent, err, calls.Load())
		}
	}
}
