package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestSnapshot(t *testing.T) {
	var restored string
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "the state")
			return
		}
		b, _ := io.ReadAll(r.Body)
		restored = r.Header.Get("Content-Type") + " " + string(b) + " " + r.URL.RawQuery
		w.WriteHeader(http.StatusNoContent)
	})
	// The first server is gone: the body is still there for the second one.
	c, _ := newClient(t, Config{Endpoints: []string{refusing(t), u}})
	var b bytes.Buffer
	if n, err := c.SaveSnapshot(t.Context(), &b); err != nil || n != 9 || b.String() != "the state" {
		t.Errorf("got %d bytes %q, %v", n, b.String(), err)
	}
	if err := c.RestoreSnapshot(t.Context(), strings.NewReader("abc"), 3, true); err != nil || restored != "application/octet-stream abc force=true" {
		t.Errorf("restored %q, %v", restored, err)
	}
}

// TestRestoreIsSentOnce must not offer another server the rest of a body.
func TestRestoreIsSentOnce(t *testing.T) {
	var tries atomic.Int32
	busy := func(w http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		writeProblem(w, api.Errorf(api.CodeUnavailable, "no leader"))
	}
	c, _ := newClient(t, Config{Endpoints: []string{serve(t, busy), serve(t, busy)}})
	err := c.RestoreSnapshot(t.Context(), strings.NewReader("abc"), 3, false)
	if api.CodeOf(err) != api.CodeUnavailable || tries.Load() != 1 {
		t.Errorf("%d tries, %v", tries.Load(), err)
	}
}

func TestSnapshotCutOff(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<16))
		panic(http.ErrAbortHandler)
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	if _, err := c.SaveSnapshot(t.Context(), io.Discard); err == nil {
		t.Error("what was cut off looks whole")
	}
}

func TestWatchMemberAndSecret(t *testing.T) {
	var index atomic.Uint64
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderIndex, string('0'+rune(index.Add(1))))
		if r.URL.Path == "/api/secret" {
			writeJSON(w, 200, api.SecretStatus{Complete: index.Load() > 1})
			return
		}
		writeJSON(w, 200, api.Member{Instances: int(3 - index.Load())})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for m, err := range c.WatchMember(ctx, "n1") {
		if err != nil {
			t.Fatal(err)
		}
		if m.Instances == 0 {
			break
		}
	}
	index.Store(0)
	for s, err := range c.WatchSecret(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Complete {
			break
		}
	}
}
