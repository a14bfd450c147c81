package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The limits of a response's head.
const (
	maxHead    = 64 << 10
	readerSize = 4 << 10
	copySize   = 32 << 10
)

// ErrMalformed is wrapped by every error of a response that is not valid HTTP/1.
var ErrMalformed = errors.New("malformed response")

// ErrNoResponse is wrapped by every error of a connection that broke before the head of
// a response was whole: the program may or may not have acted on the request.
var ErrNoResponse = errors.New("connection ended without a response")

// copyBuffers lends the buffers for bodies too big for a connection's own.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// Conn is one HTTP/1.1 connection to a backend, in the hands of one exchange at a time:
// write the request, [Conn.ReadResponse], [Conn.Next] until io.EOF, [Conn.Done]. Only
// Write, SetDeadline and Abort may be called while another goroutine reads.
type Conn struct {
	nc        net.Conn
	raw       syscall.RawConn
	br        *bufio.Reader
	pool      *Pool
	reused    bool
	idleSince time.Time
	aborted   atomic.Bool

	// Scratch is for the caller to build a request's head in; it keeps its capacity.
	Scratch []byte

	head []byte // of the response, while it is read
	resp Response
	body body
}

func newConn(p *Pool, nc net.Conn) *Conn {
	c := &Conn{nc: nc, br: bufio.NewReaderSize(nc, readerSize), pool: p}
	if over, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = over.NetConn() // of a TLS connection: what is not read yet shows there
	}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	return c
}

// Reused reports whether the connection served an exchange before this one, so that
// the backend may have closed it for its idleness.
func (c *Conn) Reused() bool { return c.reused }

// alive reports whether an idle connection may carry a request. One that rested is
// looked at: the backend may have closed it, or said a last word nobody asked for. One
// that carries a request that must not be sent twice was used lately, besides.
func (c *Conn) alive(once bool) bool {
	rested := time.Since(c.idleSince)
	if once && rested > freshFor {
		return false
	}
	return !once && rested < unchecked || c.raw != nil && silent(c.raw)
}

// SetDeadline bounds every read and write from now on; the zero time lifts the bound.
func (c *Conn) SetDeadline(t time.Time) { _ = c.nc.SetDeadline(t) } // fails on a closed connection only

// Write sends a part of the request.
func (c *Conn) Write(p []byte) (int, error) { return c.nc.Write(p) }

// Abort closes the connection, which fails whatever reads or writes it. It may be
// called more than once, from any goroutine.
func (c *Conn) Abort() {
	if !c.aborted.Swap(true) {
		_ = c.nc.Close()
	}
}

// Done ends the exchange: a connection that can take another one goes back to its
// pool, if the whole request was sent and the whole response read.
func (c *Conn) Done(sent bool) {
	c.body.free()
	_, _ = c.br.Discard(c.body.taken) // was peeked, so it is there
	c.body.taken = 0
	if sent && c.resp.keepAlive && c.body.ended && c.br.Buffered() == 0 && !c.aborted.Load() {
		c.pool.put(c)
		return
	}
	c.Abort()
}

// Hijack hands out the connection after a 101 response, with what was read too much.
func (c *Conn) Hijack() (nc net.Conn, early []byte) {
	early, _ = c.br.Peek(c.br.Buffered())
	return c.nc, early
}

// body is the state of the response's body.
type body struct {
	framing framing
	remain  int64     // of length framing
	chunks  io.Reader // of chunked framing
	taken   int       // bytes of the last piece that still lie in the reader
	ended   bool
	buf     *[]byte // borrowed
}

func (b *body) free() {
	if b.buf != nil {
		copyBuffers.Put(b.buf)
		b.buf = nil
	}
}

func (b *body) buffer() []byte {
	if b.buf == nil {
		b.buf = copyBuffers.Get().(*[]byte)
	}
	return *b.buf
}

type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
)

func (c *Conn) startBody(f framing, length int64) {
	c.body = body{framing: f, remain: length, buf: c.body.buf}
	switch f {
	case noBody:
		c.body.ended = true
	case byLength:
		c.body.ended = length == 0
	case byChunks:
		c.body.chunks = httputil.NewChunkedReader(c.br)
	}
}

// Next returns the next piece of the response's body, which is valid until the call
// after it, and io.EOF after the last. A body that ends too early is an error that
// wraps io.ErrUnexpectedEOF.
func (c *Conn) Next() ([]byte, error) {
	b := &c.body
	if b.taken > 0 {
		_, _ = c.br.Discard(b.taken) // was peeked, so it is there
		b.taken = 0
	}
	if b.ended {
		return nil, io.EOF
	}
	switch b.framing {
	case byLength:
		return c.nextOfLength()
	case byChunks:
		return c.nextChunk()
	default:
		n, err := c.br.Read(b.buffer())
		if n > 0 {
			return (*b.buf)[:n], nil
		}
		if errors.Is(err, io.EOF) {
			b.ended = true
			return nil, io.EOF
		}
		return nil, bodyError(err)
	}
}

func (c *Conn) nextChunk() ([]byte, error) {
	b := &c.body
	n, err := b.chunks.Read(b.buffer())
	if errors.Is(err, io.EOF) {
		err = c.readTrailer(n > 0)
	}
	switch {
	case n > 0:
		return (*b.buf)[:n], nil // an error stays with the reader and comes again
	case b.ended:
		return nil, io.EOF
	default:
		return nil, bodyError(err)
	}
}

func (c *Conn) nextOfLength() (p []byte, err error) {
	b := &c.body
	if c.br.Buffered() == 0 && b.remain > readerSize {
		big := b.buffer()
		n, err := c.br.Read(big[:min(int64(len(big)), b.remain)])
		b.remain -= int64(n)
		p = big[:n]
		if err != nil {
			return nil, bodyError(err)
		}
	} else {
		if _, err := c.br.Peek(1); err != nil {
			return nil, bodyError(err)
		}
		b.taken = int(min(int64(c.br.Buffered()), b.remain))
		p, _ = c.br.Peek(b.taken)
		b.remain -= int64(b.taken)
	}
	b.ended = b.remain == 0
	return p, nil
}

// Blocks reports whether the next call of Next may have to wait for the backend.
func (c *Conn) Blocks() bool {
	b := &c.body
	return !b.ended && (b.framing != byLength || c.br.Buffered() == b.taken)
}

// Ended reports whether nothing is left of the body but perhaps the piece that the last
// call of Next returned.
func (c *Conn) Ended() bool { return c.body.ended }

func bodyError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read response body: %w", err)
}
