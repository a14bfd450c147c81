package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/proxy/upstream"
)

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, uploadSize); return &b }}

// exchangeHTTP2 sends the request as one HTTP/2 stream and the response to the client.
// gRPC needs it: both bodies flow at once, and the outcome is in the trailers.
func (c *call) exchangeHTTP2(pool *upstream.Pool) error {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	defer pool.Tidy()
	wait := newFirstByte(c.spec.RequestTimeout.Std(), cancel)
	defer wait.stop()
	res, err := pool.HTTP2().RoundTrip(c.http2Request(ctx, wait))
	wait.stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !c.gone() {
			err = cause
		}
		if !errors.Is(err, upstream.ErrNotSent) {
			c.sent = c.sent || c.hasBody
		}
		return fmt.Errorf("exchange over HTTP/2: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // its stream ends with ctx
	if c.passOn && res.StatusCode == http.StatusMisdirectedRequest && res.Header.Get(headerMoved) != "" {
		c.sent = c.sent || wait.body.Load()
		return errMoved
	}
	return c.respondHTTP2(res)
}

// http2Request builds the request as the backend gets it.
func (c *call) http2Request(ctx context.Context, wait *firstByte) *http.Request {
	r := c.r
	h := make(http.Header, len(r.Header)+6)
	eachForwarded(r.Header, func(key string, values []string) { h[key] = values })
	if c.passOn {
		h[HeaderInstance] = []string{c.passedTo.String()}
	}
	c.eachTrace(func(key, value string) { h[key] = []string{value} })
	h["X-Request-Id"] = []string{c.id}
	if wantsTrailers(r.Header) {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would add its own
	}
	out := &http.Request{
		Method: r.Method, Host: r.Host, Header: h, ContentLength: r.ContentLength, Trailer: r.Trailer,
		URL: &url.URL{
			Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath,
			RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery,
		},
	}
	if c.hasBody {
		out.Body = &sentBody{from: r.Body, wait: wait}
	}
	return out.WithContext(ctx)
}

// respondHTTP2 sends the response to the client.
func (c *call) respondHTTP2(res *http.Response) error {
	h := c.w.Header()
	for key, values := range res.Header {
		if !upstream.HopByHop(key) {
			h[key] = append(h[key], values...)
		}
	}
	delete(h, headerMoved) // a program does not say that
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	c.answer(res.StatusCode)
	if res.Body != http.NoBody && res.ContentLength < 0 {
		c.flush()
	}
	buf := streamBuffers.Get().(*[]byte)
	defer streamBuffers.Put(buf)
	for {
		n, err := res.Body.Read(*buf)
		if n > 0 {
			if err := c.write((*buf)[:n], false); err != nil {
				return err
			}
			c.flush()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read response body: %w", err)
		}
	}
	if len(res.Trailer) > 0 && c.r.ProtoMajor == 1 {
		c.flush() // only a response in chunks can take trailers
	}
	for key, values := range res.Trailer {
		if !upstream.HopByHop(key) && !strings.HasPrefix(key, "Content-") {
			h[http.TrailerPrefix+key] = values
		}
	}
	return nil
}

// firstByte cancels an exchange that has no response in time.
type firstByte struct {
	timeout time.Duration
	timer   *time.Timer
	over    atomic.Bool
	body    atomic.Bool // some of the request's was sent
}

func newFirstByte(timeout time.Duration, cancel context.CancelCauseFunc) *firstByte {
	f := &firstByte{timeout: timeout}
	f.timer = time.AfterFunc(timeout, func() {
		if !f.over.Load() {
			cancel(fmt.Errorf("no response within %s: %w", timeout, os.ErrDeadlineExceeded))
		}
	})
	return f
}

// extend gives the time anew, because the request is still being sent.
func (f *firstByte) extend() {
	if !f.over.Load() {
		f.timer.Reset(f.timeout)
	}
}

func (f *firstByte) stop() {
	f.over.Store(true)
	f.timer.Stop()
}

// sentBody is a request's body on its way to an HTTP/2 stream.
type sentBody struct {
	from io.Reader
	wait *firstByte
}

// Read implements io.Reader.
func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if n > 0 {
		b.wait.body.Store(true)
		b.wait.extend()
	}
	return n, err
}

// Close implements io.Closer. The body belongs to the server, which closes it.
func (b *sentBody) Close() error { return nil }
