package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/proxy/upstream"
)

// maxInformational bounds the 1xx responses before the final one.
const maxInformational = 8

// exchange sends the request over an HTTP/1.1 connection and the response to the
// client. The first byte of the response must come by the deadline, which moves on
// while the body is still being sent.
func (c *call) exchange(conn *upstream.Conn, deadline time.Time) (err error) {
	stop := context.AfterFunc(c.r.Context(), conn.Abort)
	var up *upload
	defer func() {
		sent := true
		if up != nil {
			if isTimeout(err) && up.starved() {
				err = errSlowClient
			}
			var cause error
			if sent, cause = up.finish(); cause != nil && c.status == 0 {
				err = cause // the body broke first, and that broke the rest
			}
			c.sent = c.sent || up.begun
		}
		if !stop() {
			conn.Abort()
		}
		conn.Done(sent && err == nil)
	}()
	conn.SetDeadline(deadline)
	conn.Scratch = c.appendHead(conn.Scratch[:0])
	if n, err := conn.Write(conn.Scratch); err != nil {
		if n == 0 {
			return fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
		}
		return fmt.Errorf("%w: %w", upstream.ErrNoResponse, err)
	}
	if c.hasBody {
		up = c.startUpload(conn)
	}
	resp, err := c.readResponse(conn, up)
	if err != nil {
		return err
	}
	if c.passOn && resp.Status == http.StatusMisdirectedRequest && resp.Get(headerMoved) != "" {
		return errMoved
	}
	if resp.Status == http.StatusSwitchingProtocols {
		return c.tunnel(conn, resp)
	}
	if up != nil {
		up.answered()
	}
	if conn.Blocks() || up != nil {
		conn.SetDeadline(time.Time{}) // the first byte is here; from now on it takes what it takes
	}
	return c.respond(conn, resp, up)
}

// readResponse reads up to the final response, passing on what comes before it.
func (c *call) readResponse(conn *upstream.Conn, up *upload) (*upstream.Response, error) {
	for range maxInformational {
		resp, err := conn.ReadResponse(c.r.Method)
		switch {
		case err != nil:
			return nil, err
		case resp.Status >= 200:
			return resp, nil
		case resp.Status == http.StatusSwitchingProtocols:
			if !c.upgrade || !strings.EqualFold(resp.Upgrade, "websocket") {
				return nil, fmt.Errorf("%w: switches to protocol %.40q unasked", upstream.ErrMalformed, resp.Upgrade)
			}
			return resp, nil
		case resp.Status == http.StatusContinue:
			if up != nil {
				up.proceed()
			}
		case up == nil && c.r.ProtoAtLeast(1, 1): // net/http may write 100 by itself while there is a body
			h := c.w.Header()
			before := maps.Clone(h)
			resp.AddTo(h)
			c.w.WriteHeader(resp.Status)
			clear(h)
			maps.Copy(h, before)
		}
	}
	return nil, fmt.Errorf("%w: more than %d informational responses", upstream.ErrMalformed, maxInformational)
}

// respond sends the response to the client.
func (c *call) respond(conn *upstream.Conn, resp *upstream.Response, up *upload) error {
	h := c.w.Header()
	resp.AddTo(h)
	delete(h, headerMoved) // a program does not say that
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	if len(resp.Trailers) > 0 {
		h["Trailer"] = []string{strings.Join(resp.Trailers, ", ")}
	}
	if up != nil && !up.consumed() && c.r.ProtoMajor == 1 {
		h.Set("Connection", "close") // what is left of the body must not be taken for a request
	}
	c.answer(resp.Status)
	if resp.Length < 0 && conn.Blocks() {
		c.flush() // a stream: the client learns that it has begun
	}
	for {
		piece, err := conn.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := c.write(piece, conn.Ended()); err != nil {
			return err
		}
		if conn.Blocks() {
			c.flush() // before waiting for more
		}
	}
	c.addTrailer(resp)
	return nil
}

// answer writes the response's head.
func (c *call) answer(status int) {
	c.status = status
	c.metrics.answered(c.p.now().Sub(c.began), c.woken)
	c.w.WriteHeader(status)
}

// write sends a piece of the response's body. A client that takes nothing for too long
// is cut off: it would keep the instance awake for ever. A body in one piece can't do
// that, and HTTP/2 has no such deadline: it would end a stream for being silent, too.
func (c *call) write(piece []byte, last bool) error {
	if c.r.ProtoMajor == 1 && (!last || !c.writeEnd.IsZero()) {
		if now := time.Now(); c.writeEnd.Sub(now) < c.p.stall {
			c.writeEnd = now.Add(2 * c.p.stall)
			_ = http.NewResponseController(c.w).SetWriteDeadline(c.writeEnd) // a writer without deadlines does not block
		}
	}
	if _, err := c.w.Write(piece); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}

// addTrailer passes on the fields that came after the body.
func (c *call) addTrailer(resp *upstream.Response) {
	if !resp.HasTrailer() {
		return
	}
	if len(resp.Trailers) == 0 {
		c.flush() // unannounced: only a response in chunks, or in frames, can still take them
	}
	resp.AddTrailerTo(c.w.Header(), http.TrailerPrefix)
}

func (c *call) flush() {
	if f, ok := c.w.(http.Flusher); ok {
		f.Flush()
		return
	}
	_ = http.NewResponseController(c.w).Flush() // what can't be flushed is sent when it is
}
