package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func logQuery(q api.LogQuery) url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	set("process", q.Service)
	set("id", q.Instance)
	set("level", string(q.Level))
	set("search", q.Search)
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	return v
}

// Logs returns the newest entries that match, oldest first.
func (c *Client) Logs(ctx context.Context, q api.LogQuery) ([]api.LogEntry, error) {
	var out []api.LogEntry
	_, err := c.do(ctx, request{method: http.MethodGet, path: "/api/logs", query: logQuery(q), again: true}, &out)
	return out, err
}

// FollowLogs yields the entries that match and come after q.After, or from now on, until
// the context ends, each once: a connection that breaks is made again where it was cut.
// Its last yield is the error that ended it.
func (c *Client) FollowLogs(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error] {
	q.Limit = 0
	return follow(ctx, c, &logCursor{q: q})
}

// Events yields the changes of the cluster's state after an index (0: from now on) until
// the context ends, each once, over as many connections as it takes. An event of type
// [api.EventResync] says that the server does not remember so far back: read the objects
// again; what follows is what changed after the index of that event. The last yield is
// the error that ended it.
func (c *Client) Events(ctx context.Context, after uint64) iter.Seq2[api.Event, error] {
	return follow(ctx, c, &eventCursor{at: after})
}

// cursor is a position in a stream of T.
type cursor[T any] interface {
	// request asks for what comes after the position.
	request() request
	// opened tells the index at which a server began to answer.
	opened(index uint64)
	// admit moves the position past a value and reports whether it is new.
	admit(v T) bool
}

type logCursor struct{ q api.LogQuery }

func (l *logCursor) request() request {
	return request{method: http.MethodGet, path: "/api/logs/stream", query: logQuery(l.q)}
}

func (l *logCursor) opened(uint64) {}

func (l *logCursor) admit(e api.LogEntry) bool {
	if e.Seq <= l.q.After {
		return false
	}
	l.q.After = e.Seq
	return true
}

// eventCursor counts the events of one index: several may share it, and the connection
// may break between them. It then asks for that index again and passes over the first ones.
type eventCursor struct {
	at     uint64
	seen   int // of index at, over all connections
	passed int // of index at, over this connection
}

func (c *eventCursor) request() request {
	c.passed = 0
	query := url.Values{}
	switch {
	case c.seen > 0:
		query.Set("index", strconv.FormatUint(c.at-1, 10))
	case c.at > 0:
		query.Set("index", strconv.FormatUint(c.at, 10))
	}
	return request{method: http.MethodGet, path: "/api/events", query: query}
}

func (c *eventCursor) opened(index uint64) {
	if c.at == 0 {
		c.at = index
	}
}

func (c *eventCursor) admit(e api.Event) bool {
	if e.Index > c.at {
		c.at, c.seen, c.passed = e.Index, 0, 0
	}
	if e.Index < c.at {
		return false
	}
	c.passed++
	if c.passed <= c.seen {
		return false
	}
	c.seen = c.passed
	return true
}

// follow yields the values of a stream, over as many connections as it takes.
func follow[T any](ctx context.Context, c *Client, at cursor[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		failures := 0 // connections in a row that brought nothing
		for patient := false; ; patient = true {
			r := at.request()
			r.again, r.accept, r.patient = true, "text/event-stream", patient
			resp, closeBody, err := c.open(ctx, r)
			if err != nil {
				yield(zero, err)
				return
			}
			at.opened(indexOf(resp))
			failures++
			goOn := true
			err = readStream(resp.Body, func(v T) bool {
				failures = 0
				if at.admit(v) {
					goOn = yield(v, nil)
				}
				return goOn
			})
			closeBody()
			if !goOn {
				return
			}
			if err = c.pause(ctx, failures, err); err != nil {
				yield(zero, err)
				return
			}
		}
	}
}

// pause waits before a cut stream is opened again. It returns the error that opening it
// again would not mend.
func (c *Client) pause(ctx context.Context, failures int, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, malformed := errors.AsType[*streamError](err); malformed {
		return err
	}
	if _, refused := errors.AsType[*api.Error](err); refused && !temporary(err) {
		return err
	}
	wait := c.backoff(max(failures, 1), err)
	c.cfg.Notify(fmt.Errorf("read event stream: %w", err), wait)
	return c.sleep(ctx, wait)
}

// open sends the request of a stream, bounding the time to the answer's headers and then
// the silence between two reads.
func (c *Client) open(ctx context.Context, r request) (*http.Response, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	limit := c.cfg.Timeout
	if r.patient {
		limit = forever // it may be a while until the server is back
	}
	watchdog := time.AfterFunc(limit, cancel)
	resp, err := c.send(ctx, r)
	if err != nil {
		watchdog.Stop()
		cancel()
		return nil, nil, err
	}
	body := resp.Body
	watchdog.Reset(maxSilence)
	resp.Body = &watchedBody{ReadCloser: body, watchdog: watchdog}
	return resp, func() {
		watchdog.Stop()
		cancel()
		_ = body.Close()
	}, nil
}

const (
	// maxSilence is how long a stream may be silent; servers send a heartbeat every 15 s.
	maxSilence = time.Minute
	forever    = time.Duration(1<<63 - 1)
)

// watchedBody puts the watchdog off at every read.
type watchedBody struct {
	io.ReadCloser
	watchdog *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watchdog.Reset(maxSilence)
	}
	return n, err
}

// streamError says that a server sent something that is no event of the kind asked for.
type streamError struct{ err error }

func (e *streamError) Error() string { return fmt.Sprintf("read event stream: %v", e.err) }
func (e *streamError) Unwrap() error { return e.err }

// readStream calls each for every value until it returns false, the stream breaks or the
// server reports an error in it.
func readStream[T any](body io.Reader, each func(v T) bool) error {
	r := newSSEReader(body)
	for {
		ev, err := r.next()
		if errors.Is(err, errEventTooLarge) {
			return &streamError{err: err}
		}
		if err != nil {
			return err
		}
		if ev.Name == "error" {
			var p api.Problem
			if err := json.Unmarshal(ev.Data, &p); err != nil {
				return &streamError{err: err}
			}
			return p.Err()
		}
		var v T
		if err := json.Unmarshal(ev.Data, &v); err != nil {
			return &streamError{err: err}
		}
		if !each(v) {
			return nil
		}
	}
}
