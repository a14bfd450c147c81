package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// errStopped ends an accept loop whose listener stays open.
var errStopped = errors.New("accept: stopped")

// listener is a listener that can stop accepting without being closed, whose
// connections watch for Content-Length.
type listener struct {
	net.Listener
	stopped atomic.Bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	if l.stopped.Load() {
		return nil, errStopped
	}
	nc, err := l.Listener.Accept()
	if err != nil {
		if l.stopped.Load() {
			return nil, errStopped
		}
		return nil, fmt.Errorf("accept: %w", err)
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		return &tcpConn{TCPConn: tcp}, nil
	}
	return &conn{Conn: nc}, nil
}

// Close implements net.Listener. http.Server calls it when it stops accepting, but the
// listener is closed by Server.Close alone.
func (l *listener) Close() error { return nil }

// stop makes Accept return errStopped from now on, the call under way included.
func (l *listener) stop() {
	l.stopped.Store(true)
	l.setDeadline(time.Unix(1, 0))
}

func (l *listener) setDeadline(t time.Time) {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(t) // fails on a closed listener only
	}
}

// tcpConn is a TCP connection that watches what it reads. It keeps the methods by which
// the kernel can copy between two sockets.
type tcpConn struct {
	*net.TCPConn
	watch lengthWatch
}

// Read implements net.Conn.
func (c *tcpConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.watch.see(p[:n])
	return n, err
}

func (c *tcpConn) lengthSeen() *atomic.Bool { return &c.watch.seen }

// conn is any other connection that watches what it reads.
type conn struct {
	net.Conn
	watch lengthWatch
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.watch.see(p[:n])
	return n, err
}

func (c *conn) lengthSeen() *atomic.Bool { return &c.watch.seen }

// lengthWatch remembers whether "content-length" ever went by. A request that has both
// that and Transfer-Encoding must end its connection (RFC 9112, 6.1), but net/http
// drops the field without a word. Once seen is seen for good: which request it belonged
// to can't be told from here, and a connection closed in vain costs less than one that
// is kept in error.
type lengthWatch struct {
	seen atomic.Bool
	tail [len(lengthName) - 1]byte // the last bytes of what went by before
	have int
}

const lengthName = "content-length"

// dashAt is the place of the dash in lengthName: dashes are rare, so that looking for
// them first makes looking cheap.
const dashAt = len("content")

// see looks at bytes that were read. Reads of one connection don't overlap.
func (w *lengthWatch) see(p []byte) {
	if len(p) == 0 || w.seen.Load() {
		return
	}
	if w.have > 0 { // the name may have been cut in two
		var seam [2 * (len(lengthName) - 1)]byte
		n := copy(seam[:], w.tail[:w.have])
		n += copy(seam[n:], p[:min(len(p), len(lengthName)-1)])
		if hasLength(seam[:n]) {
			w.seen.Store(true)
			return
		}
	}
	if hasLength(p) {
		w.seen.Store(true)
		return
	}
	w.keepTail(p)
}

func (w *lengthWatch) keepTail(p []byte) {
	if len(p) >= len(w.tail) {
		w.have = copy(w.tail[:], p[len(p)-len(w.tail):])
		return
	}
	if over := w.have + len(p) - len(w.tail); over > 0 {
		w.have = copy(w.tail[:], w.tail[over:w.have])
	}
	w.have += copy(w.tail[w.have:], p)
}

func hasLength(p []byte) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(p[at:], '-')
		if i < 0 {
			return false
		}
		at += i
		if at >= dashAt && len(p)-at >= len(lengthName)-dashAt &&
			bytes.EqualFold(p[at-dashAt:at+len(lengthName)-dashAt], []byte(lengthName)) {
			return true
		}
	}
}

type lengthKey struct{}

// connContext hangs a connection's watch on the context of its requests.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := nc.(interface{ lengthSeen() *atomic.Bool }); ok {
		return context.WithValue(ctx, lengthKey{}, c.lengthSeen())
	}
	return ctx
}

// SawContentLength reports whether the connection of the request with this context may
// have carried a Content-Length field so far. Where nobody watched, it may have.
func SawContentLength(ctx context.Context) bool {
	seen, ok := ctx.Value(lengthKey{}).(*atomic.Bool)
	return !ok || seen.Load()
}
