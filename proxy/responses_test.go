package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestResponses lets a backend say exactly these bytes, then close.
func TestResponses(t *testing.T) {
	const bad = "\x00" // marks a response that must become a 502
	for _, tc := range []struct {
		name, method, response string
		want                   string // status and body
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"length twice", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\nall there is", "200 all there is"},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\n\r\nold", "200 old"},
		{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 "},
		{"bare line feeds", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ok"},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nway\r\n0\r\n\r\n", "200 okway"},
		{"chunks win", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok"},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 "},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\nEtag: \"x\"\r\n\r\n", "304 "},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n", "200 "},
		{"informational", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"unasked continue", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"long head", "GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 30_000) + "\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"early answer to POST", "POST", "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig", "413 big"},

		{"no HTTP", "GET", "hello\r\n\r\n", bad},
		{"other version", "GET", "HTTP/2.0 200 OK\r\n\r\n", bad},
		{"short status", "GET", "HTTP/1.1 20 OK\r\n\r\n", bad},
		{"status below 100", "GET", "HTTP/1.1 099 OK\r\n\r\n", bad},
		{"space before colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", bad},
		{"folded line", "GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", bad},
		{"no colon", "GET", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", bad},
		{"NUL in value", "GET", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", bad},
		{"CR in value", "GET", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", bad},
		{"lengths differ", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", bad},
		{"length negative", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", bad},
		{"length list", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", bad},
		{"length signed", "GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", bad},
		{"unknown encoding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", bad},
		{"chunks in 1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", bad},
		{"head too big", "GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n", bad},
		{"head cut", "POST", "HTTP/1.1 200 OK\r\nContent-Le", bad},
		{"nothing", "POST", "", bad},
		{"switch unasked", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", bad},
		{"endless informational", "GET", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), bad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t)
			g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				_, _ = io.WriteString(nc, tc.response)
				_ = nc.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, br)
			}))
			var body io.Reader
			if tc.method == http.MethodPost {
				body = strings.NewReader("in")
			}
			res, got := g.do(g.request(tc.method, "a.app.localhost/", body))
			if tc.want == bad {
				if res.StatusCode != http.StatusBadGateway || !strings.HasPrefix(got, "502 Bad Gateway\n") {
					t.Errorf("got %d %q, want a 502", res.StatusCode, got)
				}
				return
			}
			if s := fmt.Sprintf("%d %s", res.StatusCode, got); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
		})
	}
}

func TestBrokenResponseBreaksOff(t *testing.T) {
	for name, response := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
		"nochnk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.open("app:a", g.script(func(_ int, nc net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				_, _ = io.WriteString(nc, response)
			}))
			res, err := g.client.Do(g.request(http.MethodGet, "a.app.localhost/", nil))
			if err != nil {
				return // broken before the head went out: as good
			}
			defer func() { _ = res.Body.Close() }()
			if _, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the client took a cut response for whole: %v", err)
			}
		})
	}
}
