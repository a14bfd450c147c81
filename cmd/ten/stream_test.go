package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// interruptAt returns a context that ends as by Ctrl-C, and a function that ends it.
func interruptAt(t *testing.T) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, func() { cancel(&signalError{os.Interrupt}) }
}

func TestFollowUntilInterrupted(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"logs", "-f", "notes:alice"}, []string{
			"2026-01-02 12:00:01.000  notes:alice  stdout  listening on 30242",
			"2026-01-02 12:00:03.000  notes:alice  stdout  GET / 200",
			"2026-01-02 12:00:00.000  notes:alice  stdout  one more",
		}},
		{[]string{"logs", "-f", "--search", "nothing yet", "--json"}, []string{
			`{"seq":4,"time":"2026-01-02T12:00:00Z","service":"notes","id":"alice","level":"stdout","message":"one more"}`,
		}},
		{[]string{"events"}, []string{"21  instance.updated  notes:alice  running", "22  service.deleted  old"}},
		{[]string{"events", "--after", "20", "--json"}, []string{`{"index":21,"type":"instance.updated","key":"notes:alice",`, `{"index":22,"type":"service.deleted","key":"old"}`}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			w := newWorld(t)
			ctx, interrupt := interruptAt(t)
			out := &lines{after: len(tc.wants), then: interrupt}
			a := w.app(nil, nil)
			a.stdout, a.stderr = out, io.Discard
			if code := a.execute(ctx, tc.args); code != exitInterrupted {
				t.Errorf("exit %d, want 130", code)
			}
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			for i, want := range tc.wants {
				if i >= len(got) || !strings.HasPrefix(got[i], want) {
					t.Fatalf("line %d of %q, want %q", i, got, want)
				}
			}
		})
	}
}

// lines is a writer that calls then after so many lines.
type lines struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	after int
	then  func()
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if bytes.Count(l.buf.Bytes(), []byte("\n")) >= l.after {
		l.then()
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestWatchShowsChanges(t *testing.T) {
	for name, tc := range map[string]struct {
		args  []string
		width int
		check func(string) bool
	}{
		"json": {[]string{"ps", "--watch", "--json"}, 0, func(s string) bool {
			dec := json.NewDecoder(strings.NewReader(s))
			var before, after []api.Instance
			return dec.Decode(&before) == nil && dec.Decode(&after) == nil && len(before) == 3 && len(after) == 2 && !dec.More()
		}},
		"file":     {[]string{"ps", "--watch"}, 0, func(s string) bool { return strings.Count(s, "INSTANCE") == 2 && strings.Contains(s, "\n\n") }},
		"terminal": {[]string{"ps", "-w"}, 80, func(s string) bool { return strings.Count(s, "\x1b[H\x1b[2JINSTANCE") == 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.width = tc.width
			ctx, interrupt := interruptAt(t)
			polls := 0
			w.server.hangUp = func(r *http.Request) { // the server holds its lock here
				switch polls++; polls {
				case 1: // a change elsewhere in the cluster: nothing new to show
				case 2:
					w.server.instances = w.server.instances[1:]
				default:
					interrupt()
					<-r.Context().Done()
					return
				}
				w.server.index++
			}
			var out, errOut bytes.Buffer
			a := w.app(&out, &errOut)
			if code := a.execute(ctx, tc.args); code != exitInterrupted {
				t.Errorf("exit %d: %s", code, errOut.String())
			}
			if !tc.check(out.String()) {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

func TestInterruptedWait(t *testing.T) {
	w := newWorld(t)
	ctx, interrupt := interruptAt(t)
	interrupt()
	_, stderr, code := w.run(ctx, "spawn", "notes:a", "notes:b")
	if code != exitInterrupted || stderr != "interrupted; the server may go on with notes:a\n" {
		t.Errorf("exit %d, %q; want 130 and nothing tried for notes:b", code, stderr)
	}
}

func TestSignalContext(t *testing.T) {
	ctx, stop := signalContext(t.Context())
	defer stop()
	if signalOf(ctx) != nil {
		t.Error("a signal before there was one")
	}
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Skip("this system sends no SIGTERM:", err)
	}
	<-ctx.Done()
	if signalOf(ctx) != syscall.SIGTERM {
		t.Errorf("got %v (%v), want SIGTERM", signalOf(ctx), context.Cause(ctx))
	}
	if other, end := signalContext(t.Context()); true {
		end()
		if signalOf(other) != nil {
			t.Error("stopping counts as a signal")
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	a := newWorld(t).app(nil, nil)
	ticks := make(chan time.Time)
	a.stderr = &out
	a.screen = screen{err: true, width: func() int { return 30 }}
	a.tick = func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} }
	err := a.wait("waiting for notes:alice\x1b[2J", func() error {
		ticks <- noon // too early to draw
		ticks <- noon.Add(3 * time.Second)
		a.waiting.Load().say("no connection; trying again in 1s")
		ticks <- noon.Add(4 * time.Second)
		return io.EOF
	})
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the error of what was waited for", err)
	}
	draws := strings.Split(out.String(), "\r")
	if len(draws) != 4 || draws[0] != "" || draws[3] != "\x1b[K" {
		t.Fatalf("drew %q", out.String())
	}
	for _, d := range draws[1:3] {
		text := strings.TrimSuffix(d, "\x1b[K")
		if strings.Contains(text, "\x1b") || cells(text) > 29 {
			t.Errorf("drew %q", d)
		}
	}

	out.Reset()
	a.screen.err = false
	if err := a.wait("waiting", func() error { return nil }); err != nil || out.Len() > 0 {
		t.Errorf("without a terminal: %v, %q", err, out.String())
	}
}
