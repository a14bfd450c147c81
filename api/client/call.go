package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

const (
	maxAnswer  = 512 << 20 // 100,000 instances are about 60 MB
	maxProblem = 1 << 20
)

// request is one call of the API, before it is known which endpoint takes it.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	body   any
	// stream is a body that is no JSON, of streamSize bytes. It can be sent only once.
	stream     io.Reader
	streamSize int64
	// ifMatch makes the call conditional on the object's revision.
	ifMatch *uint64
	// again says that doing it twice is the same as doing it once.
	again bool
	// slow calls are answered only once something has happened.
	slow bool
	// index, if set, is told the index that the last answer carried, a refusal too.
	index *uint64
	// patient calls are tried again for as long as the context allows.
	patient bool
	// accept is the media type wanted; JSON when empty.
	accept string
}

// do runs a call within the context's deadline, or Config.Timeout, and decodes the answer
// into out unless that is nil. It returns the index that the answer carries.
func (c *Client) do(ctx context.Context, r request, out any) (uint64, error) {
	if _, ok := ctx.Deadline(); !ok && !r.patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	resp, err := c.newest(ctx, r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return indexOf(resp), nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return 0, fmt.Errorf("read answer to %s %s: %w", r.method, r.path, err)
	}
	return indexOf(resp), nil
}

// newest is send, but for what a node tells that has not caught up with what this client
// has seen of another: that is asked for again, so that after a fail-over nothing that was
// written is missing, or found as it was before.
func (c *Client) newest(ctx context.Context, r request) (*http.Response, error) {
	var index uint64
	r.index = &index
	seen := c.Index()
	for n := 1; ; n++ {
		resp, err := c.send(ctx, r)
		answered := err == nil || api.CodeOf(err) == api.CodeNotFound
		if r.method != http.MethodGet || r.patient || !answered || index == 0 || index >= seen || n > maxStale {
			return resp, err
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		if c.sleep(ctx, stalePause) != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, ctx.Err())
		}
	}
}

const (
	maxStale   = 200 // of a cluster that was set back to an older state, that is the state
	stalePause = 25 * time.Millisecond
)

func indexOf(resp *http.Response) uint64 {
	n, err := strconv.ParseUint(resp.Header.Get(api.HeaderIndex), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// send returns the first good answer, trying again as often and as long as Config,
// deadline and the kind of failure allow.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	body, err := encode(r.body)
	r.again = r.again || r.ifMatch != nil && c.cfg.Persistent
	if err != nil {
		return nil, fmt.Errorf("encode body of %s %s: %w", r.method, r.path, err)
	}
	for n := 1; ; n++ {
		resp, err := c.round(ctx, r, body)
		if err == nil {
			return resp, nil
		}
		if !r.again || !temporary(err) && !c.unsettled(err, r) || n >= c.cfg.Attempts && !r.patient && !c.persists() {
			return nil, err
		}
		wait := c.backoff(n, err)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return nil, err
		}
		c.cfg.Notify(err, wait)
		if c.sleep(ctx, wait) != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, ctx.Err())
		}
	}
}

// persists reports whether a call goes on after Config.Attempts: not while there is no
// sign that there is a server at all.
func (c *Client) persists() bool { return c.cfg.Persistent && c.answered.Load() }

// round offers the request to each endpoint, the current one first, until one takes it.
func (c *Client) round(ctx context.Context, r request, body []byte) (*http.Response, error) {
	first := c.current.Load()
	var err, telling error // the latter from a server that is there: why nobody can
	for i := range int64(len(c.endpoints)) {
		n := (first + i) % int64(len(c.endpoints))
		var resp *http.Response
		resp, err = c.try(ctx, c.endpoints[n], r, body)
		if err == nil {
			c.current.Store(n)
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, ctx.Err())
		}
		if !movesOn(err, r.again) || r.stream != nil && !unread(err) {
			return nil, err
		}
		if _, answered := errors.AsType[*api.Error](err); answered && telling == nil {
			telling = err
		}
	}
	if telling != nil {
		err = telling
	}
	return nil, err
}

// try sends the request to one endpoint. An answer of 300 and above is an error.
func (c *Client) try(ctx context.Context, e *endpoint, r request, body []byte) (*http.Response, error) {
	var sent bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent = true }})
	u := *e.base
	u.Path, u.RawPath = "", ""
	req, err := http.NewRequestWithContext(ctx, r.method, u.String()+e.base.EscapedPath()+r.path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", r.method, r.path, err)
	}
	req.URL.RawQuery = r.query.Encode()
	c.setHeaders(req, r, body != nil)
	if r.stream != nil {
		req.Body, req.GetBody, req.ContentLength = io.NopCloser(r.stream), nil, r.streamSize
		req.Header.Set("Content-Type", mediaBinary)
	}
	resp, err := c.bounded(ctx, e, req, r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL is told by the endpoint; its query may be private
		}
		return nil, &UnreachableError{Endpoint: e.name, Err: err, sent: sent}
	}
	c.answered.Store(true)
	c.sawIndex(indexOf(resp))
	if r.index != nil {
		*r.index = indexOf(resp)
	}
	if resp.StatusCode >= 300 {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem(e, resp)
	}
	if r.accept != "" {
		return resp, nil
	}
	return whole(e, resp)
}

// whole reads the answer: one that breaks off is none, and the call may be made again.
func whole(e *endpoint, resp *http.Response) (*http.Response, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if err != nil {
		return nil, &UnreachableError{Endpoint: e.name, Err: fmt.Errorf("read answer: %w", err), sent: true}
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, nil
}

// bounded sends the request within Config.TryTimeout, which also bounds the reading of
// the answer.
func (c *Client) bounded(ctx context.Context, e *endpoint, req *http.Request, r request) (*http.Response, error) {
	if c.cfg.TryTimeout <= 0 || r.patient || r.slow || r.stream != nil || r.accept != "" {
		return e.http.Do(req)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TryTimeout)
	resp, err := e.http.Do(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = bodyUntil{resp.Body, cancel}
	return resp, nil
}

// bodyUntil ends the context of its request when it is closed.
type bodyUntil struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close implements io.Closer.
func (b bodyUntil) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

func (c *Client) setHeaders(req *http.Request, r request, hasBody bool) {
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("Accept", "application/json")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if hasBody {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if r.ifMatch != nil {
		req.Header.Set("If-Match", `"`+strconv.FormatUint(*r.ifMatch, 10)+`"`)
	}
}

func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	return json.Marshal(body)
}

// movesOn reports whether the next endpoint should be asked at once: the request surely
// did nothing, or doing it twice is harmless.
func movesOn(err error, again bool) bool {
	if un, ok := errors.AsType[*UnreachableError](err); ok {
		return again || !un.sent
	}
	return again && api.CodeOf(err) == api.CodeUnavailable
}

// unread reports whether nothing of the request's body was read: there was no connection.
func unread(err error) bool {
	un, ok := errors.AsType[*UnreachableError](err)
	return ok && !un.sent
}

// temporary reports whether the same call may succeed a little later.
func temporary(err error) bool {
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return true
	}
	code := api.CodeOf(err)
	return code == api.CodeUnavailable || code == api.CodeTooManyRequests
}

// unsettled reports whether err says that nobody knows what became of the request, which
// then is made again. The answer of a call that waits on the server may just be that what
// it waits for takes longer.
func (c *Client) unsettled(err error, r request) bool {
	return api.CodeOf(err) == api.CodeTimeout && (!r.slow || c.cfg.Persistent)
}

// backoff returns how long to wait after the nth failure: what the server asked for, or
// an exponential wait of which the upper half is random, so that clients spread.
func (c *Client) backoff(n int, err error) time.Duration {
	if e, ok := errors.AsType[*api.Error](err); ok && e.RetryAfter > 0 {
		return e.RetryAfter.Std()
	}
	d := c.cfg.MaxBackoff
	if shift := n - 1; shift < 20 {
		d = min(d, c.cfg.Backoff<<shift)
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter needs no secrecy
}

// problem turns a refusing answer into an *api.Error, whoever wrote it.
func problem(e *endpoint, resp *http.Response) *api.Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what could be read is told
	out := &api.Error{Code: codeOfStatus(resp.StatusCode)}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p api.Problem
	if (kind == api.ProblemType || kind == "application/json") && json.Unmarshal(body, &p) == nil && p.Detail+p.Title != "" {
		out = p.Err()
		if out.Message == "" {
			out.Message = p.Title
		}
		if out.Code == "" {
			out.Code = codeOfStatus(resp.StatusCode)
		}
	} else {
		out.Message = fmt.Sprintf("%s answered %d %s", e.name, resp.StatusCode, http.StatusText(resp.StatusCode))
		if text := firstLine(body); kind == "text/plain" && text != "" {
			out.Message += ": " + text
		}
	}
	if out.RetryAfter == 0 {
		out.RetryAfter = retryAfter(resp.Header)
	}
	return out
}

func retryAfter(h http.Header) api.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1<<30 {
		return api.Seconds(n)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	// Measured by the server's own clock where it tells the time, so that ours may be off.
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return api.Duration(max(0, at.Sub(now)))
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return strings.ToValidUTF8(strings.TrimSpace(line), "\uFFFD")
}

func codeOfStatus(status int) api.Code {
	switch status {
	case http.StatusUnauthorized:
		return api.CodeUnauthenticated
	case http.StatusBadGateway:
		return api.CodeFailed
	}
	for _, code := range []api.Code{
		api.CodeInvalid, api.CodeForbidden, api.CodeNotFound, api.CodeNotAllowed, api.CodeConflict,
		api.CodeStaleRevision, api.CodeTooLarge, api.CodeTooManyRequests, api.CodeUnavailable, api.CodeTimeout,
	} {
		if code.Status() == status {
			return code
		}
	}
	return api.CodeInternal
}
