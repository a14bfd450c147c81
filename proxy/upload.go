package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/proxy/upstream"
)

const (
	// continueWait is how long a client that waits for 100 Continue is left waiting
	// when the backend says nothing.
	continueWait = time.Second
	// sentWait is how long the last piece of a body may take to be sent after the whole
	// response has come.
	sentWait = 50 * time.Millisecond

	uploadSize = 32 << 10
	chunkRoom  = 8 // for a chunk's size, in hex, and its line end
)

var uploadBuffers = sync.Pool{New: func() any { b := make([]byte, chunkRoom+uploadSize+len("\r\n")); return &b }}

// errSlowClient is a request whose body stopped coming.
var errSlowClient = &failure{status: http.StatusRequestTimeout, text: textSlowClient}

// upload sends a request's body while its response may already be on the way: a
// program may answer before it has read everything, or in step with it.
type upload struct {
	call    *call
	conn    *upstream.Conn
	client  *http.ResponseController
	r       *http.Request
	timeout time.Duration

	start     chan struct{} // closed when the body may be asked for
	startOnce sync.Once
	quit      chan struct{} // closed by finish
	done      chan struct{} // closed when the goroutine has ended

	reading   atomic.Bool // waits for the client
	eof       atomic.Bool // the body was read to its end
	final     atomic.Bool // the response has come: no deadline any more
	begun     bool        // part of the body was taken from the client; valid after done
	complete  bool        // all was sent; valid after done
	clientErr error       // why reading from the client failed; valid after done
}

func (c *call) startUpload(conn *upstream.Conn) *upload {
	u := &upload{
		call: c, conn: conn, client: http.NewResponseController(c.w), r: c.r, timeout: c.spec.RequestTimeout.Std(),
		start: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if !c.expects && !c.passOn {
		u.proceed()
	}
	go u.run()
	return u
}

// proceed lets an upload begin that waits for 100 Continue.
func (u *upload) proceed() { u.startOnce.Do(func() { close(u.start) }) }

// answered tells that the response has begun: the time to its first byte is over.
func (u *upload) answered() { u.final.Store(true) }

// consumed reports whether the client's body was read to its end.
func (u *upload) consumed() bool { return u.eof.Load() }

// starved reports whether the program waits for the client, not the client for it.
func (u *upload) starved() bool { return u.reading.Load() && !u.eof.Load() }

// finish ends the upload, which is no use once the response is complete or has failed.
// It reports whether the whole body was sent, and the client's error if that came first.
func (u *upload) finish() (sent bool, clientErr error) {
	if u.consumed() {
		timer := time.NewTimer(sentWait)
		defer timer.Stop()
		select {
		case <-u.done:
		case <-timer.C:
		}
	}
	close(u.quit)
	select {
	case <-u.done:
		return u.complete, u.clientErr
	default:
	}
	gone := u.call.gone()
	u.call.cut = &gone
	u.conn.Abort()
	_ = u.client.SetReadDeadline(time.Unix(1, 0)) // a writer without deadlines has its whole body at hand
	<-u.done
	_ = u.client.SetReadDeadline(time.Now().Add(drainTime)) // likewise
	return false, u.clientErr
}

func (u *upload) run() {
	defer close(u.done)
	wait := continueWait
	if u.call.passOn {
		wait = time.Until(u.call.peerDeadline()) // a node always says it, or answers
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-u.start:
	case <-timer.C:
	case <-u.quit:
		return
	}
	u.begun = true
	buf := uploadBuffers.Get().(*[]byte)
	defer uploadBuffers.Put(buf)
	for {
		u.reading.Store(true)
		n, err := u.r.Body.Read((*buf)[chunkRoom : chunkRoom+uploadSize])
		u.reading.Store(false)
		ended := errors.Is(err, io.EOF)
		if ended {
			u.eof.Store(true)
		}
		if n > 0 || ended {
			if _, err := u.conn.Write(u.frame(*buf, n, ended)); err != nil {
				return // the response says why, or reading it fails as well
			}
			u.extend()
		}
		if ended {
			u.complete = true
			return
		}
		if err != nil {
			u.clientFailed(err)
			return
		}
	}
}

// extend moves the deadline on: a body that is being sent is no sign of a slow program.
func (u *upload) extend() {
	if u.final.Load() {
		return
	}
	u.conn.SetDeadline(time.Now().Add(u.timeout))
	if u.final.Load() { // just now, and its lifting of the deadline may have come first
		u.conn.SetDeadline(time.Time{})
	}
}

// clientFailed ends the exchange because the body can't be had.
func (u *upload) clientFailed(err error) {
	select {
	case <-u.quit: // broken off by finish
		return
	default:
	}
	switch {
	case u.r.Context().Err() != nil:
		u.clientErr = fmt.Errorf("%w: %w", errClientGone, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		u.clientErr = errSlowClient
	default:
		u.clientErr = &failure{status: http.StatusBadRequest, text: textBadRequest, cause: fmt.Errorf("read request body: %w", err)}
	}
	u.conn.Abort()
}

// frame returns what goes over the wire for the n bytes that lie at chunkRoom in buf.
func (u *upload) frame(buf []byte, n int, ended bool) []byte {
	if u.r.ContentLength > 0 {
		return buf[chunkRoom : chunkRoom+n]
	}
	var out []byte
	if n > 0 {
		size := strconv.AppendInt(make([]byte, 0, chunkRoom), int64(n), 16)
		at := chunkRoom - len(size) - len("\r\n")
		copy(buf[at:], size)
		copy(buf[at+len(size):], "\r\n")
		copy(buf[chunkRoom+n:], "\r\n")
		out = buf[at : chunkRoom+n+len("\r\n")]
	}
	if !ended {
		return out
	}
	out = append(out[:len(out):len(out)], "0\r\n"...)
	for key, values := range u.r.Trailer {
		if passes(key) {
			for _, v := range values {
				out = appendField(out, key, v)
			}
		}
	}
	return append(out, "\r\n"...)
}
