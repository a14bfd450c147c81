package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tenement-fleet/tenement/api"
)

const (
	mediaJSON = "application/json"
	mediaSSE  = "text/event-stream"
)

// list is an answer that is a JSON array, written element by element: the array of
// 100,000 instances never exists in memory.
type list[T any] iter.Seq[T]

// lister is a list of whatever element.
type lister interface {
	elem() reflect.Type
	writeJSON(w io.Writer) error
}

func (list[T]) elem() reflect.Type { return reflect.TypeFor[T]() }

func (l list[T]) writeJSON(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 32<<10)
	if err := buf.WriteByte('['); err != nil {
		return err
	}
	first := true
	for item := range l {
		b, err := json.Marshal(item)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		if !first {
			_ = buf.WriteByte(',') // bufio repeats its error at Flush
		}
		first = false
		if _, err := buf.Write(b); err != nil {
			return err
		}
	}
	_, _ = buf.WriteString("]\n")
	return buf.Flush()
}

// takeTimeout is how long a client may take for a part of an answer.
const takeTimeout = 30 * time.Second

// deadlineWriter gives every write a deadline, so that a client that stops reading holds
// nothing for ever. The deadline is the connection's, so it is the real clock's; a writer
// that has none does without.
type deadlineWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func newDeadlineWriter(w *echo.Response) *deadlineWriter {
	// Not the echo.Response: its Flush panics where there is none.
	return &deadlineWriter{w: w, rc: http.NewResponseController(w.Writer)}
}

// Write implements io.Writer.
func (d *deadlineWriter) Write(p []byte) (int, error) {
	_ = d.rc.SetWriteDeadline(time.Now().Add(takeTimeout))
	return d.w.Write(p)
}

func (d *deadlineWriter) flush() error { return d.rc.Flush() }

// done lifts the deadline from a connection that works: it may serve more requests.
func (d *deadlineWriter) done() {
	if d.flush() == nil {
		_ = d.rc.SetWriteDeadline(time.Time{})
	}
}

// writeAnswer sends what a handler returned.
func writeAnswer(w *echo.Response, status int, answer any) error {
	switch v := answer.(type) {
	case none:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case lister:
		w.Header().Set("Content-Type", mediaJSON)
		w.WriteHeader(http.StatusOK)
		dw := newDeadlineWriter(w)
		_ = v.writeJSON(dw) // begun already: a client that left can't be told
		dw.done()
		return nil
	}
	if r := revisionOf(answer); r > 0 {
		w.Header().Set("ETag", strconv.Quote(uintText(r)))
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(max(status, http.StatusOK))
	_, _ = w.Write(append(body, '\n')) // a client that left can't be told
	return nil
}

// revisionOf returns the revision that a single object's ETag names.
func revisionOf(answer any) uint64 {
	switch v := answer.(type) {
	case *api.Service:
		return v.Revision
	case *api.Instance:
		return v.Revision
	case *api.Fleet:
		return v.Revision
	case *api.Route:
		return v.Revision
	case *api.RouteStatus:
		return v.Revision
	case *api.Node:
		return v.Revision
	case *api.Member:
		return v.Revision
	default:
		return 0
	}
}

// toError gives any error its code and its text for the client. What is not meant for
// clients, such as a broken disk, is CodeInternal and says nothing else.
func toError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code != api.CodeInternal {
		return &api.Error{Code: e.Code, Message: err.Error(), Fields: e.Fields, RetryAfter: e.RetryAfter}
	}
	if fields, ok := errors.AsType[api.FieldErrors](err); ok {
		return &api.Error{Code: api.CodeInvalid, Message: err.Error(), Fields: fields}
	}
	if field, ok := errors.AsType[*api.FieldError](err); ok {
		return &api.Error{Code: api.CodeInvalid, Message: err.Error(), Fields: api.FieldErrors{*field}}
	}
	switch {
	case errors.Is(err, echo.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "no such endpoint; /api/openapi.json lists them")
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return api.Errorf(api.CodeNotAllowed, "no such method here; the Allow header lists them")
	case errors.Is(err, context.DeadlineExceeded):
		return api.Errorf(api.CodeTimeout, "timed out")
	case errors.Is(err, context.Canceled):
		return api.Errorf(api.CodeUnavailable, "request was given up")
	default:
		return api.Errorf(api.CodeInternal, "internal error; the server's log says which")
	}
}

var titles = map[api.Code]string{
	api.CodeInvalid:         "Invalid input",
	api.CodeUnauthenticated: "Not authenticated",
	api.CodeForbidden:       "Not allowed to",
	api.CodeNotFound:        "Not found",
	api.CodeNotAllowed:      "Method not allowed",
	api.CodeConflict:        "Conflict",
	api.CodeStaleRevision:   "Stale revision",
	api.CodeTooLarge:        "Body too large",
	api.CodeMisdirected:     "Another node's",
	api.CodeTooManyRequests: "Too many requests",
	api.CodeInternal:        "Internal error",
	api.CodeUnavailable:     "Unavailable",
	api.CodeDiskFull:        "Disk full",
	api.CodeFailed:          "Instance failed",
	api.CodeTimeout:         "Timed out",
}

// writeError is the router's error handler: it sends the problem document.
func (s *Server) writeError(err error, ec echo.Context) {
	e := toError(err)
	if e.Code == api.CodeInternal {
		s.cfg.Logger.ErrorContext(ec.Request().Context(), "API request failed",
			"method", ec.Request().Method, "path", ec.Request().URL.Path, "error", err)
	}
	w := ec.Response()
	if w.Committed {
		return
	}
	header := w.Header()
	if header.Get(api.HeaderIndex) == "" {
		header.Set(api.HeaderIndex, uintText(s.cfg.Cluster.View().Index()))
	}
	if e.Code == api.CodeUnauthenticated {
		header.Set("WWW-Authenticate", `Bearer realm="tenement"`)
	}
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Std().Seconds()))))
	}
	body, err := json.Marshal(e.Problem(titles[e.Code]))
	if err != nil {
		body = []byte(`{"code":"internal","detail":"internal error"}`)
	}
	header.Set("Content-Type", api.ProblemType)
	w.WriteHeader(e.Code.Status())
	_, _ = w.Write(append(body, '\n')) // a client that left can't be told
}

// panicked turns a handler's panic into an error. An answer that was begun is cut off, so
// that nobody takes it for whole.
func (s *Server) panicked(v any, c *call) error {
	if v == http.ErrAbortHandler { //nolint:errorlint // panic values are compared, as net/http does
		panic(v)
	}
	s.cfg.Logger.ErrorContext(c.ctx, "API handler panicked", "panic", fmt.Sprint(v),
		"method", c.r.Method, "path", c.r.URL.Path, "stack", string(debug.Stack()))
	if c.w.Committed {
		panic(http.ErrAbortHandler)
	}
	return api.Errorf(api.CodeInternal, "handler panicked")
}

// router builds the routes from the table.
func (s *Server) router() *echo.Echo {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = s.writeError
	e.Use(s.observe)
	for i := range s.rows {
		row := &s.rows[i]
		h := func(ec echo.Context) error {
			ec.Set(rowKey, row)
			return s.serve(row, ec)
		}
		e.Add(row.method, echoPath(row.path), h).Name = row.name
		if row.method == http.MethodGet {
			e.Add(http.MethodHead, echoPath(row.path), h).Name = row.name
		}
	}
	return e
}

// observe wraps every request, those that no route matches included: headers common to
// all answers, and the API's own metrics.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ec echo.Context) error {
		begin := time.Now()
		header := ec.Response().Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		if err := next(ec); err != nil {
			s.writeError(err, ec)
		}
		s.seen.observe(actionOf(ec), ec.Response().Status, time.Since(begin))
		return nil
	}
}

// rowKey is where the router's context holds the row that was chosen.
const rowKey = "row"

// actionOf names the endpoint that was chosen.
func actionOf(ec echo.Context) string {
	if row, ok := ec.Get(rowKey).(*endpoint); ok {
		return row.name
	}
	return "none"
}

func attr(key string, value any) slog.Attr { return slog.Any(key, value) }

func levelOf(err error) slog.Level {
	if err != nil {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
