package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

// stream answers with the events and then cuts the connection.
func stream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		_, _ = io.WriteString(w, e)
	}
	_ = http.NewResponseController(w).Flush()
}

func event(id uint64, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("id: %d\ndata: %s\n\n", id, b)
}

func entry(seq uint64) string { return event(seq, api.LogEntry{Seq: seq, Message: "line"}) }

func TestFollowLogsResumesWhereItWasCut(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.RawQuery)
		n := len(asked)
		mu.Unlock()
		if r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("Accept: %q", r.Header.Get("Accept"))
		}
		switch n {
		case 1:
			stream(w, ": hello\n\n", entry(4), entry(5), "id: 6\ndata: {\"seq\":6,\"mess") // cut in the middle
		case 2:
			w.WriteHeader(503)
		case 3:
			stream(w) // nothing new
		default:
			stream(w, entry(5), entry(6), entry(7))
		}
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}})
	var got []uint64
	for e, err := range c.FollowLogs(t.Context(), api.LogQuery{Service: "notes", After: 3, Limit: 9}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Seq); e.Seq == 7 {
			break
		}
	}
	if fmt.Sprint(got) != "[4 5 6 7]" {
		t.Errorf("got %v, want [4 5 6 7]", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := "[after=3&process=notes after=5&process=notes after=5&process=notes after=5&process=notes]"; fmt.Sprint(asked) != want {
		t.Errorf("asked %v, want %s", asked, want)
	}
	if len(rec.waits()) != 3 {
		t.Errorf("slept %v, want 3 waits", rec.waits())
	}
}

func TestFollowEnds(t *testing.T) {
	gone := event(1, nil) // never reached
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		ok     func(error) bool
	}{
		"refused": {
			func(w http.ResponseWriter) { writeProblem(w, api.Errorf(api.CodeForbidden, "not yours")) },
			func(err error) bool { return api.CodeOf(err) == api.CodeForbidden },
		},
		"error in the stream": {
			func(w http.ResponseWriter) {
				stream(w, "event: error\ndata: {\"code\":\"conflict\",\"detail\":\"too old\"}\n\n", gone)
			},
			func(err error) bool { return api.CodeOf(err) == api.CodeConflict && err.Error() == "too old" },
		},
		"nonsense": {
			func(w http.ResponseWriter) { stream(w, "data: [1]\n\n", gone) },
			func(err error) bool { _, ok := errors.AsType[*streamError](err); return ok },
		},
		"nonsense error": {
			func(w http.ResponseWriter) { stream(w, "event: error\ndata: x\n\n", gone) },
			func(err error) bool { _, ok := errors.AsType[*streamError](err); return ok },
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				tc.answer(w)
			})
			c, _ := newClient(t, Config{Endpoints: []string{u}})
			var last error
			for _, err := range c.Events(t.Context(), 1) {
				last = err
			}
			if !tc.ok(last) || calls.Load() != 1 {
				t.Errorf("got %v after %d calls", last, calls.Load())
			}
		})
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(w, entry(1))
		<-r.Context().Done()
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.FollowLogs(ctx, api.LogQuery{}) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v, want canceled", last)
	}
}

func TestStreamOpeningIsBounded(t *testing.T) {
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c, _ := newClient(t, Config{Endpoints: []string{u}, Timeout: time.Millisecond})
	for _, err := range c.FollowLogs(t.Context(), api.LogQuery{}) {
		if err == nil {
			t.Fatal("got an entry")
		}
	}
}

// TestEventsComeOnce cuts the connection at random places; several events share an index.
func TestEventsComeOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all []api.Event
		index := uint64(10)
		for i := range rapid.IntRange(1, 20).Draw(rt, "events") {
			if rapid.Bool().Draw(rt, "next index") {
				index++
			}
			all = append(all, api.Event{Index: index, Key: strconv.Itoa(i)})
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(all)), 8, 8).Draw(rt, "cuts")
		at := &eventCursor{at: 9}
		var got []string
		for conn := 0; len(got) < len(all); conn++ {
			from, err := strconv.ParseUint(at.request().query.Get("index"), 10, 64)
			if err != nil {
				rt.Fatal(err)
			}
			sent, most := 0, len(all)
			if conn < len(cuts) {
				most = cuts[conn]
			}
			for _, e := range all {
				if e.Index > from && sent < most {
					sent++
					if at.admit(e) {
						got = append(got, e.Key)
					}
				}
			}
			if conn > len(cuts)+1 {
				rt.Fatalf("only %v of %d events came", got, len(all))
			}
		}
		for i, key := range got {
			if key != strconv.Itoa(i) {
				rt.Fatalf("got %v", got)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		index, state := "5", api.StateStarting
		switch n {
		case 1:
			if r.URL.RawQuery != "" {
				t.Errorf("first query %q, want none", r.URL.RawQuery)
			}
		case 2: // the wait ran out, nothing changed
		case 3:
			w.WriteHeader(503)
			return
		default:
			index, state = "8", api.StateRunning
		}
		if n > 1 && r.URL.RawQuery != "index=5&wait=30s" {
			t.Errorf("query %d is %q", n, r.URL.RawQuery)
		}
		w.Header().Set(api.HeaderIndex, index)
		writeJSON(w, 200, api.Instance{Service: "a", ID: "b", Observed: &api.Observed{State: state}})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}, Attempts: 1})
	var states []api.State
	in, err := c.WaitInstance(t.Context(), api.Ref{Service: "a", ID: "b"}, func(in *api.Instance) (bool, error) {
		states = append(states, in.State())
		return in.State() == api.StateRunning, nil
	})
	if err != nil || in.State() != api.StateRunning || fmt.Sprint(states) != "[starting running]" {
		t.Fatalf("got %v, %v; saw %v", in, err, states)
	}
}

func TestWatchEnds(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "a:b") {
			writeProblem(w, api.Errorf(api.CodeNotFound, "no such instance"))
			return
		}
		writeJSON(w, 200, []any{}) // no index
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	_, err := c.WaitInstance(t.Context(), api.Ref{Service: "a", ID: "b"}, nil)
	if api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("got %v, want not found", err)
	}
	n := 0
	for _, err := range c.WatchInstances(t.Context(), InstanceQuery{Live: true}) {
		if n++; err == nil {
			t.Error("an answer without an index must end the watch")
		}
	}
	if n != 1 {
		t.Errorf("%d yields, want 1", n)
	}
}

func TestSSEReader(t *testing.T) {
	in := "\n: comment\nretry: 5\nid: 1\n\nevent: a\ndata: x\ndata:y\ndata\n\nid\ndata:  two blanks\r\n\r\nid: z\x00\ndata:\n\nevent: lost\n\ndata: 2\n\ndata: cut"
	r := newSSEReader(strings.NewReader(in))
	for i, want := range []sseEvent{
		{ID: "1", Name: "a", Data: []byte("x\ny\n")},
		{Name: "message", Data: []byte(" two blanks")},
		{Name: "message"},
		{Name: "message", Data: []byte("2")},
	} {
		got, err := r.next()
		if err != nil || got.ID != want.ID || got.Name != want.Name || string(got.Data) != string(want.Data) {
			t.Fatalf("event %d: got %+q, %v; want %+q", i, got, err, want)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

// endless is a line that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func TestSSEReaderIsBounded(t *testing.T) {
	src := &endless{}
	if _, err := newSSEReader(src).next(); !errors.Is(err, errEventTooLarge) {
		t.Errorf("one line: got %v", err)
	}
	if src.read > 2*maxEvent {
		t.Errorf("read %d bytes", src.read)
	}
	lines := strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1<<16)+"\n", 100))
	if _, err := newSSEReader(lines).next(); !errors.Is(err, errEventTooLarge) {
		t.Errorf("many lines: got %v", err)
	}
}

func FuzzSSEReader(f *testing.F) {
	f.Add([]byte("id: 1\nevent: a\ndata: x\n\n"))
	f.Add([]byte(": c\r\ndata\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newSSEReader(strings.NewReader(string(b)))
		for range len(b) + 1 {
			ev, err := r.next()
			if err != nil {
				return
			}
			if ev.Name == "" || strings.ContainsAny(ev.ID, "\n\x00") {
				t.Fatalf("event %+q", ev)
			}
		}
		t.Fatal("more events than bytes")
	})
}

func TestEventsFromNowOnLeaveNoGap(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderIndex, "40")
		if calls.Add(1) == 1 {
			if r.URL.RawQuery != "" {
				t.Errorf("first query %q, want none", r.URL.RawQuery)
			}
			stream(w) // cut before anything happened
			return
		}
		if r.URL.RawQuery != "index=40" {
			t.Errorf("query after the cut %q, want index=40", r.URL.RawQuery)
		}
		stream(w, event(41, api.Event{Index: 41, Type: api.EventNodeUpdated}))
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	for e, err := range c.Events(t.Context(), 0) {
		if err != nil || e.Index != 41 {
			t.Fatalf("got %+v, %v", e, err)
		}
		break
	}
}
