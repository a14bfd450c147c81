package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

const (
	heartbeatEvery = 15 * time.Second
	revokeEvery    = 500 * time.Millisecond // revoked tokens are cut off within a second
)

// sse is an answer of server-sent events.
type sse struct {
	s         *Server
	c         *call
	out       *deadlineWriter
	buf       bytes.Buffer
	heartbeat *time.Ticker
	revoked   *time.Ticker
	release   func()
}

// openSSE begins the answer. The caller closes it.
func (s *Server) openSSE(c *call) (*sse, error) {
	release, err := s.openStream()
	if err != nil {
		return nil, err
	}
	h := c.w.Header()
	h.Set("Content-Type", mediaSSE)
	h.Set("X-Accel-Buffering", "no") // for an nginx in front
	c.w.WriteHeader(http.StatusOK)
	e := &sse{
		s: s, c: c, out: newDeadlineWriter(c.w), release: release,
		heartbeat: time.NewTicker(heartbeatEvery), revoked: time.NewTicker(revokeEvery),
	}
	if err := e.flush(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *sse) close() {
	e.heartbeat.Stop()
	e.revoked.Stop()
	e.release()
	e.out.done()
}

// send writes one event; id and name may be empty.
func (e *sse) send(id, name string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	e.buf.Reset()
	if id != "" {
		fmt.Fprintf(&e.buf, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&e.buf, "event: %s\n", name)
	}
	e.buf.WriteString("data: ")
	e.buf.Write(body) // one line: JSON escapes line ends
	e.buf.WriteString("\n\n")
	return e.write(e.buf.Bytes())
}

func (e *sse) write(b []byte) error {
	_, err := e.out.Write(b)
	return err
}

func (e *sse) flush() error { return e.out.flush() }

// next flushes what was sent and waits for something from ch; ok is false when ch was
// closed. It keeps the connection alive meanwhile, and returns an error when the stream
// is over: the client left, its token was revoked, or the server closes.
func next[T any](e *sse, ch <-chan T) (v T, ok bool, err error) {
	if err := e.flush(); err != nil {
		return v, false, err
	}
	for {
		select {
		case v, ok = <-ch:
			return v, ok, nil
		case <-e.heartbeat.C:
			if err := e.write([]byte(": heartbeat\n\n")); err != nil {
				return v, false, err
			}
			if err := e.flush(); err != nil {
				return v, false, err
			}
		case <-e.revoked.C:
			if err := e.s.stillValid(e.c); err != nil {
				return v, false, err
			}
		case <-e.c.ctx.Done():
			return v, false, e.c.ctx.Err()
		case <-e.s.closing.Done():
			return v, false, errClosing
		}
	}
}

// streamEvents sends the changes of the state after ?index. A client that asks for more
// than the node remembers is sent a resync event: it is to read the state again, and what
// follows is what changed after the index that the event names.
func (s *Server) streamEvents(c *call) error {
	after := c.view.Index()
	for _, name := range []string{"index", "Last-Event-ID"} {
		if n := c.args.uint(name); n > 0 {
			after = n
		}
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", mediaSSE)
		return nil
	}
	e, err := s.openSSE(c)
	if err != nil {
		return err
	}
	defer e.close()
	for {
		events, changed, ok := s.cfg.Cluster.Events(after)
		if !ok {
			view := s.cfg.Cluster.View()
			after, changed = view.Index(), view.Changed()
			if err := e.sendEvent(&api.Event{Index: after, Type: api.EventResync}, true); err != nil {
				return ended(err)
			}
		}
		for i := range events {
			if err := e.sendEvent(&events[i], i+1 == len(events) || events[i+1].Index > events[i].Index); err != nil {
				return ended(err)
			}
			after = events[i].Index
		}
		if _, _, err := next(e, changed); err != nil {
			return ended(err)
		}
	}
}

// sendEvent sends one event. Only the last of those that share an index carries it as
// its id, so that a client that reconnects between two of them is sent both again.
func (e *sse) sendEvent(ev *api.Event, last bool) error {
	id := ""
	if last {
		id = uintText(ev.Index)
	}
	shown := *ev
	if ev.Token != nil {
		shown.Token = ev.Token.Redacted()
	}
	if ev.Service != nil {
		shown.Service = ev.Service.Redacted()
	}
	return e.send(id, string(ev.Type), &shown)
}

// ended drops the error that a stream ended with: its answer was begun long ago, and that
// streams end is how they are.
func ended(error) error { return nil }
