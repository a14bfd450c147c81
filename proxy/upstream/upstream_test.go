package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzResponse reads arbitrary bytes as a response. What is accepted must agree with
// net/http in status and body.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nall", "HTTP/1.1 204 No\r\nConnection: x, close\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 \n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &Conn{br: bufio.NewReaderSize(strings.NewReader(text), readerSize), pool: NewPool(api.Endpoint{}, Config{}), nc: noConn{}}
		resp, err := c.ReadResponse(http.MethodGet)
		if err != nil {
			return
		}
		status := resp.Status
		var got []byte
		for {
			p, err := c.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			got = append(got, p...)
		}
		c.Done(true)
		if resp.keepAlive && c.br.Buffered() > 0 && len(c.pool.idle) > 0 {
			t.Fatal("kept a connection with unread bytes")
		}
		want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		if err != nil {
			return // net/http is stricter in places, such as the reason phrase
		}
		b, err := io.ReadAll(want.Body)
		if err == nil && (want.StatusCode != status || string(b) != string(got)) {
			t.Fatalf("%q: %d %q, net/http has %d %q", text, status, got, want.StatusCode, b)
		}
	})
}

// noConn is a connection that is never used.
type noConn struct{ net.Conn }

func (noConn) Close() error { return nil }

// pair returns a pool whose backend's ends of the connections come through a channel.
func pair(t *testing.T, network, addr string, cfg Config) (*Pool, chan net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- nc
		}
	}()
	p := NewPool(api.Endpoint{Network: network, Address: ln.Addr().String()}, cfg)
	t.Cleanup(func() {
		_ = p.Close()
		_ = ln.Close()
		<-done
	})
	return p, conns
}

func soon() time.Time { return time.Now().Add(10 * time.Second) }

// exchange makes one exchange over c, whose other end is nc.
func exchange(t *testing.T, c *Conn, nc net.Conn) {
	t.Helper()
	_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if _, err := c.ReadResponse(http.MethodGet); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Next(); err != nil || string(p) != "ok" {
		t.Fatalf("%q, %v", p, err)
	}
	c.Done(true)
}

func TestPoolReuses(t *testing.T) {
	p, conns := pair(t, "tcp", "127.0.0.1:0", Config{})
	c, err := p.Get(t.Context(), soon(), true)
	if err != nil || c.Reused() {
		t.Fatalf("%v, reused=%v", err, c.Reused())
	}
	nc := <-conns
	exchange(t, c, nc)
	again, err := p.Get(t.Context(), soon(), true)
	if err != nil || again != c || !again.Reused() {
		t.Errorf("%v, same=%v", err, again == c)
	}
	exchange(t, again, nc)
	// A backend that closed, or that spoke unasked, is noticed before the next request.
	for _, spoil := range []func(net.Conn){
		func(nc net.Conn) { _ = nc.Close() },
		func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 408 Request Timeout\r\n\r\n") },
	} {
		c, err := p.Get(t.Context(), soon(), true)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, nc)
		spoil(nc)
		for silent(c.raw) { // until the kernel has brought it over
			runtime.Gosched()
		}
		fresh, err := p.Get(t.Context(), soon(), true)
		if err != nil || fresh == c {
			t.Errorf("%v, same=%v", err, fresh == c)
		}
		nc = <-conns
		exchange(t, fresh, nc)
	}
}

func TestPoolForgets(t *testing.T) {
	p, conns := pair(t, "unix", filepath.Join(t.TempDir(), "s"), Config{MaxIdle: 1, IdleTimeout: 20 * time.Millisecond})
	one, err := p.Get(t.Context(), soon(), false)
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.Get(t.Context(), soon(), false)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, one, <-conns)
	exchange(t, two, <-conns) // over MaxIdle
	if !two.aborted.Load() {
		t.Error("kept more than MaxIdle")
	}
	for end := soon(); !one.aborted.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an idle connection is kept for ever")
		}
	}
	three, err := p.Get(t.Context(), soon(), false)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	exchange(t, three, <-conns)
	if !three.aborted.Load() {
		t.Error("a closed pool keeps connections")
	}
}

func TestNominated(t *testing.T) {
	var got []string
	Nominated([]string{"close, X-Hop", " cookie ,AUTHORIZATION,,content-length", "x-forwarded-for"}, func(key string) { got = append(got, key) })
	if s := strings.Join(got, " "); s != "Close X-Hop" {
		t.Errorf("nominated %q", s)
	}
}
