package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/tenement-fleet/tenement/api"
)

// echo is a WebSocket backend.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(b) == "bye" {
			_ = c.Close(websocket.StatusNormalClosure, "bye")
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	g := newRig(t)
	ref := g.serve("app:a", echo)
	ctx := t.Context()
	c, res, err := websocket.Dial(ctx, "ws://a.app.localhost/chat", &websocket.DialOptions{HTTPClient: g.client, Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "chat" || res.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("subprotocol %q, status %d", c.Subprotocol(), res.StatusCode)
	}
	c.SetReadLimit(1 << 20)
	for _, size := range []int{0, 1, 100, 200_000} {
		want := strings.Repeat("x", size)
		if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%d bytes became %d: %v", size, len(got), err)
		}
	}
	if n := g.router.InFlight(ref); n != 1 {
		t.Errorf("%d in flight, an open WebSocket counts", n)
	}
	if _, closed := g.router.TryClose(ref, 0); closed {
		t.Error("put to sleep under an open WebSocket")
	}
	_ = c.Write(ctx, websocket.MessageText, []byte("bye"))
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("closed with %v", err)
	}
	eventually(t, "no request in flight", func() bool { return g.router.InFlight(ref) == 0 })
}

func TestWebSocketWakesItsInstance(t *testing.T) {
	g := newRig(t)
	g.declare("app:a", 100)
	ep := g.backend(echo)
	g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.Open(ref, ep); return nil })
	c, _, err := websocket.Dial(t.Context(), "ws://a.app.localhost/", &websocket.DialOptions{HTTPClient: g.client})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.CloseNow()
}

func TestWebSocketRefusedByTheBackend(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no socket here", http.StatusForbidden) })
	_, res, err := websocket.Dial(t.Context(), "ws://a.app.localhost/", &websocket.DialOptions{HTTPClient: g.client})
	if err == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("%v, %v", res, err)
	}
}

const upgrade = get + "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"

// TestUpgradeCarriesEarlyBytes has both ends send their first bytes along with the
// handshake.
func TestUpgradeCarriesEarlyBytes(t *testing.T) {
	g := newRig(t)
	g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
		head, _ := readHead(br)
		if f := fields(head); f["upgrade"][0] != "websocket" || f["connection"][0] != "Upgrade" || f["sec-websocket-key"][0] != "x" {
			t.Errorf("handshake %v", f)
		}
		_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\nearly from backend\n")
		_, _ = io.Copy(nc, br)
	}))
	nc := g.dial()
	_, _ = io.WriteString(nc, upgrade+"early from client\n")
	br := bufio.NewReader(nc)
	head, err := readHead(br)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 Switching Protocols\r\n") || fields(head)["sec-websocket-accept"][0] != "y" {
		t.Fatalf("%q, %v", head, err)
	}
	for _, want := range []string{"early from backend\n", "early from client\n"} {
		if got, err := br.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	// One direction may end before the other.
	_, _ = io.WriteString(nc, "last words")
	_ = nc.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(br); err != nil || string(rest) != "last words" {
		t.Errorf("after half-close: %q, %v", rest, err)
	}
}

func TestUpgradeMisbehaviour(t *testing.T) {
	for name, tc := range map[string]struct {
		request, response string
		status            int
	}{
		"another protocol": {upgrade, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502},
		"with a body":      {strings.Replace(upgrade, "\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nin", 1), "", 400},
		"POST":             {strings.Replace(upgrade, "GET", "POST", 1), "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				_, _ = io.WriteString(nc, tc.response)
			}))
			if res, body, _ := g.raw(tc.request); res.StatusCode != tc.status {
				t.Errorf("%d %s, want %d", res.StatusCode, body, tc.status)
			}
		})
	}
}

// TestTunnelsEndWithTheirInstance closes either end, or the proxy, under a WebSocket.
func TestTunnelsEndWithTheirInstance(t *testing.T) {
	for _, ender := range []string{"backend", "client", "proxy"} {
		t.Run(ender, func(t *testing.T) {
			g := newRig(t)
			backend := make(chan net.Conn, 1)
			gone := make(chan struct{})
			ref := g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
				backend <- nc
				_, _ = io.Copy(io.Discard, br)
				close(gone)
			}))
			nc := g.dial()
			_, _ = io.WriteString(nc, upgrade)
			if _, err := readHead(bufio.NewReader(nc)); err != nil {
				t.Fatal(err)
			}
			switch b := <-backend; ender {
			case "backend":
				_ = b.(*net.TCPConn).SetLinger(0)
				_ = b.Close() // killed: a reset
			case "client":
				_ = nc.Close()
			case "proxy":
				g.proxy.Close()
			}
			<-gone
			eventually(t, "no request in flight", func() bool { return g.router.InFlight(ref) == 0 })
			if ender == "client" {
				return
			}
			if _, err := nc.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the client's end stays open: %v", err)
			}
		})
	}
}
