package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/proxy/upstream"
)

// tunnel joins client and program after a switch to WebSocket, until both are done. It
// lives as long as it is used: only the two ends, or the proxy's own, end it.
func (c *call) tunnel(conn *upstream.Conn, resp *upstream.Response) error {
	h := c.w.Header()
	resp.AddTo(h)
	client, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return fmt.Errorf("take over the client's connection: %w", err)
	}
	defer func() { _ = client.Close() }() // ends both copies, if they have not
	c.status = resp.Status
	c.metrics.answered(c.p.now().Sub(c.began), c.woken)
	backend, early := conn.Hijack()
	for _, nc := range []net.Conn{client, backend} {
		_ = nc.SetDeadline(time.Time{}) // fails on a closed connection only, which the copies will find
	}
	head := appendResponseHead(nil, h)
	if _, err := client.Write(append(head, early...)); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	stop := context.AfterFunc(c.p.ctx, func() {
		_ = client.Close()
		conn.Abort()
	})
	defer stop()
	sent, err := buffered.Peek(buffered.Reader.Buffered())
	if err == nil && len(sent) > 0 {
		_, err = backend.Write(sent)
	}
	if err == nil {
		join(client, backend)
	}
	conn.Abort()
	return nil
}

// appendResponseHead appends the head of a 101 response.
func appendResponseHead(b []byte, h http.Header) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"...)
	for key, values := range h {
		if upstream.HopByHop(key) {
			continue
		}
		for _, v := range values {
			b = appendField(b, key, v)
		}
	}
	return append(b, "\r\n"...)
}

// join copies both ways until both ends have said that they are done, or one breaks.
func join(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe(a, b)
	}()
	pipe(b, a)
	<-done
}

// pipe copies from src to dst. An orderly end is passed on and leaves the other
// direction open; anything else ends both.
func pipe(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		if half.CloseWrite() == nil {
			return
		}
	}
	_ = dst.Close() // one end is broken already
	_ = src.Close()
}
