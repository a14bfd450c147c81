package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Many who wait share one stream; each is told of its own, looks again after a gap, and
// what it waits for ends it. Close ends the stream.
func TestFollowShares(t *testing.T) {
	events, ended := make(chan string), make(chan struct{})
	var streams atomic.Int64
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		streams.Add(1)
		stream(w, ": hello\n\n")
		for {
			select {
			case e := <-events:
				stream(w, e)
			case <-r.Context().Done():
				close(ended)
				return
			}
		}
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	c.sawIndex(1)
	updated := func(index uint64, id string) string {
		i := &api.Instance{Service: "web", ID: id}
		return event(index, api.Event{Index: index, Type: api.EventInstanceUpdated, Key: i.Ref().String(), Instance: i})
	}
	const waiting = 3
	ready, done := make(chan struct{}), make(chan error)
	for n := range waiting {
		ref := api.Ref{Service: "web", ID: fmt.Sprint("i", n)}
		go func() {
			looks := 0
			done <- c.Follow(t.Context(), func(r api.Ref) bool { return r == ref },
				func(context.Context) (bool, error) {
					if looks++; looks == 1 {
						ready <- struct{}{}
					}
					return looks > 1 && n == 2, nil
				},
				func(e api.Event) (bool, error) {
					if e.Instance.Ref() != ref {
						t.Errorf("%s was told of %s", ref, e.Key)
					}
					if n == 1 {
						return false, errors.New("it has failed")
					}
					return true, nil
				})
		}()
		<-ready
	}
	events <- updated(2, "other")
	events <- updated(3, "i0")
	if err := <-done; err != nil {
		t.Error(err)
	}
	events <- updated(4, "i1")
	if err := <-done; err == nil || err.Error() != "it has failed" {
		t.Errorf("got %v", err)
	}
	events <- event(9, api.Event{Index: 9, Type: api.EventResync})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := streams.Load(); n != 1 {
		t.Errorf("%d streams for %d who wait", n, waiting)
	}
	c.Close()
	<-ended
}

// Who waits gives up with its context.
func TestFollowGivesUp(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) { stream(w, ": hello\n\n"); <-r.Context().Done() })
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := c.Follow(ctx, func(api.Ref) bool { return true },
		func(context.Context) (bool, error) { return false, nil },
		func(api.Event) (bool, error) { return false, nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c.Close()
}

// A persistent client goes on until its deadline once a server has answered anything, with
// conditional writes too, and gives up early on a cluster that is not there.
func TestPersistent(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) <= 20 {
			writeProblem(w, api.Errorf(api.CodeUnavailable, "no leader"))
			return
		}
		fmt.Fprint(w, `{"service":"web","id":"blue"}`)
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}, Persistent: true})
	revision := uint64(4)
	if _, err := c.PutInstance(t.Context(), &api.Instance{Service: "web", ID: "blue"}, &revision); err != nil {
		t.Error(err)
	}
	if len(rec.waits()) != 20 {
		t.Errorf("waited %d times, want 20", len(rec.waits()))
	}
	c, rec = newClient(t, Config{Endpoints: []string{"http://127.0.0.1:1"}, Persistent: true, Attempts: 3})
	if _, err := c.Services(t.Context()); err == nil || len(rec.waits()) != 2 {
		t.Errorf("a cluster that is not there: %v after %d waits, want an error after 2", err, len(rec.waits()))
	}
}

// A server that takes a request and never answers is passed over.
func TestTryTimeout(t *testing.T) {
	hung := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	fine := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"web"}`) })
	c, _ := newClient(t, Config{Endpoints: []string{hung, fine}, TryTimeout: 50 * time.Millisecond})
	if s, err := c.Service(t.Context(), "web"); err != nil || s.Name != "web" {
		t.Errorf("got %v, %v", s, err)
	}
	if c.Endpoint() != fine {
		t.Errorf("the client stays with %s", c.Endpoint())
	}
}

// After a fail-over to a node that has yet to catch up, what was written is still there.
func TestNothingIsForgotten(t *testing.T) {
	var gone atomic.Bool
	first := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			writeProblem(w, api.Errorf(api.CodeUnavailable, "shutting down"))
			return
		}
		w.Header().Set(api.HeaderIndex, "9")
		fmt.Fprint(w, `{"name":"web"}`)
	})
	var calls atomic.Int64
	behind := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.HeaderIndex, fmt.Sprint(6+calls.Add(1)))
		if calls.Load() < 3 {
			writeProblem(w, api.Errorf(api.CodeNotFound, "no service"))
			return
		}
		fmt.Fprint(w, `{"name":"web"}`)
	})
	c, _ := newClient(t, Config{Endpoints: []string{first, behind}})
	for range 2 {
		if _, err := c.Service(t.Context(), "web"); err != nil {
			t.Error(err)
		}
		gone.Store(true)
	}
	if calls.Load() != 3 {
		t.Errorf("asked %d times, want 3", calls.Load())
	}
}

func TestCA(t *testing.T) {
	if _, err := New(Config{Endpoints: []string{"https://a"}, CA: []byte("x")}); err == nil {
		t.Error("a CA without a certificate is taken")
	}
}
