package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/route"
)

// wires connects the nodes of a test: the address of each one's peer port, or nothing
// where a node is dead.
type wires struct {
	mu    sync.Mutex
	addrs map[string]string
	dials map[string]int
}

// Dial implements Peers.
func (w *wires) Dial(ctx context.Context, node string, _ bool) (net.Conn, error) {
	w.mu.Lock()
	addr := w.addrs[node]
	w.dials[node]++
	w.mu.Unlock()
	if addr == "" {
		return nil, errors.New("connection refused")
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func (w *wires) set(node, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[node] = addr
}

// fleet starts a proxy for each node, all connected, with the service "app".
func fleet(t *testing.T, names ...string) (map[string]*rig, *wires) {
	w := &wires{addrs: make(map[string]string), dials: make(map[string]int)}
	rigs := make(map[string]*rig)
	for _, name := range names {
		g := newRig(t, func(cfg *Config) {
			r, err := route.New(route.Config{Self: name})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Router, cfg.Peers = r, w
		})
		w.set(name, g.listen(http.HandlerFunc(g.proxy.ServePeer)))
		rigs[name] = g
	}
	for _, g := range rigs {
		for _, name := range names {
			g.node(name, api.NodeUp)
		}
	}
	return rigs, w
}

func (g *rig) node(id string, status api.NodeStatus) {
	g.router.PutNode(&api.Node{ID: id, Name: id, Status: status, PeerAddress: id, Zone: strings.TrimRight(id, "0123456789")})
}

// place declares an instance on a node in this rig's table.
func (g *rig) place(ref, node string, change ...func(*api.Instance)) api.Ref {
	r, err := api.ParseRef(ref)
	if err != nil {
		g.t.Fatal(err)
	}
	i := &api.Instance{Service: r.Service, ID: r.ID, Node: node, Generation: 1}
	i.SetDefaults()
	for _, f := range change {
		f(i)
	}
	g.router.PutInstance(i)
	return r
}

func everywhere(rigs map[string]*rig, ref, node string, change ...func(*api.Instance)) (r api.Ref) {
	for _, g := range rigs {
		r = g.place(ref, node, change...)
	}
	return r
}

func TestPassesOnToTheNodeThatHasIt(t *testing.T) {
	rigs, _ := fleet(t, "n1", "n2")
	a, b := rigs["n1"], rigs["n2"]
	ref := everywhere(rigs, "app:x", "n2")
	heads := make(chan http.Header, 1)
	b.router.Open(ref, b.backend(func(w http.ResponseWriter, r *http.Request) {
		heads <- r.Header.Clone()
		w.Header().Set(headerMoved, "1") // a program's own means nothing
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	}))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		body := bytes.Repeat([]byte("x"), 300_000)
		if method == http.MethodGet {
			body = nil
		}
		req := a.request(method, "x.app.localhost/p?q", bytes.NewReader(body))
		req.Header.Set(HeaderInstance, "app:other")
		req.Header.Set("X-Forwarded-For", "6.6.6.6")
		req.Header.Set("Authorization", "secret")
		res, got := a.do(req)
		if res.StatusCode != http.StatusTeapot || got != string(body) || res.Header.Get(headerMoved) != "" {
			t.Errorf("%s: got %d, %d bytes, %v", method, res.StatusCode, len(got), res.Header)
		}
		h := <-heads
		for key, want := range map[string]string{
			HeaderInstance: "", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "x.app.localhost", "X-Forwarded-Proto": "http",
			"Authorization": "secret", "Expect": "", headerExpects: "",
		} {
			if h.Get(key) != want {
				t.Errorf("%s: %s is %q, want %q", method, key, h.Get(key), want)
			}
		}
	}
	if n := a.metric("tenement_proxy_requests_total", "code=4xx", "service=app"); n != 2 {
		t.Errorf("the first node counted %v requests", n)
	}
	if n := b.metric("tenement_proxy_requests_total", "code=4xx", "service=app"); n != 0 {
		t.Errorf("the second node counted %v requests of the service", n)
	}
}

// TestProvenanceOverTwoNodes compares what a program hears of a request's way when its
// own node gets the request and when another one passes it on.
func TestProvenanceOverTwoNodes(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: x.app.localhost\r\nConnection: close\r\nX-Request-Id: r\r\n"
	for _, trusted := range []bool{false, true} {
		rigs, _ := fleet(t, "n1", "n2")
		ref := everywhere(rigs, "app:x", "n2")
		if trusted {
			for _, g := range rigs {
				g.proxy.trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		}
		ep, heads := rigs["n2"].heads()
		rigs["n2"].router.Open(ref, ep)
		hears := func(node, said string) map[string][]string {
			if res, _, _ := rigs[node].raw(get + said + "\r\n"); res.StatusCode != http.StatusOK {
				t.Fatalf("%s, trusted %v, %q: got %s", node, trusted, said, res.Status)
			}
			return fields(<-heads)
		}
		for _, said := range []string{
			"", "X-Forwarded-For: 1.2.3.4\r\n", "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-For: 1.2.3.4\r\n",
			"X-Forwarded-Proto: https\r\n", "X-Forwarded-Host: sh\"op.example\r\n", "Forwarded: for=1.2.3.4\r\n",
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nForwarded: for=x;proto=https\r\n",
			HeaderInstance + ": app:y\r\n",
		} {
			direct, passed := hears("n2", said), hears("n1", said)
			if !maps.EqualFunc(direct, passed, slices.Equal) || len(passed["forwarded"]) != 1 {
				t.Errorf("trusted %v, %q:\ndirect %v\npassed %v", trusted, said, direct, passed)
			}
		}
	}
}

func TestTheOwnerWakes(t *testing.T) {
	rigs, _ := fleet(t, "n1", "n2")
	a, b := rigs["n1"], rigs["n2"]
	ref := everywhere(rigs, "app:x", "n2")
	ep := b.backend(hello)
	b.waker.set(func(context.Context, api.Ref) error { b.router.Open(ref, ep); return nil })
	if status, body := a.get("x.app.localhost/w"); status != 200 || body != "hello /w" {
		t.Errorf("got %d %q", status, body)
	}
	if a.waker.count(ref) != 0 || b.waker.count(ref) != 1 {
		t.Errorf("wakes: %d and %d", a.waker.count(ref), b.waker.count(ref))
	}
}

func TestStreamsAcrossNodes(t *testing.T) {
	rigs, _ := fleet(t, "n1", "n2")
	a, b := rigs["n1"], rigs["n2"]
	ws := everywhere(rigs, "app:ws", "n2")
	b.router.Open(ws, b.backend(echo))
	c, _, err := websocket.Dial(t.Context(), "ws://ws.app.localhost/", &websocket.DialOptions{HTTPClient: a.client})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("over two nodes")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != "over two nodes" {
		t.Errorf("got %q %v", got, err)
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}

	sse := everywhere(rigs, "app:sse", "n2")
	next := make(chan struct{})
	b.router.Open(sse, b.backend(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	res, err := a.client.Do(a.request(http.MethodGet, "sse.app.localhost/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	br := bufio.NewReader(res.Body)
	for i := range 3 {
		if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("got %q %v", line, err)
		}
		next <- struct{}{}
	}

	talk := everywhere(rigs, "app:talk", "n2")
	b.router.Open(talk, b.grpcBackend("tcp", "127.0.0.1:0"))
	unary(t, a.grpcClient("talk.app.localhost"))
	bidirectional(t, a, a.grpcClient("talk.app.localhost"), "talk")
}

// The two tables differ for a moment: the node that was asked says so, and the request
// goes where the instance is once its own node knows, body and all.
func TestMovedInstance(t *testing.T) {
	rigs, w := fleet(t, "n1", "n2", "n3")
	a, b, c := rigs["n1"], rigs["n2"], rigs["n3"]
	for _, body := range []string{"", "body"} {
		ref := a.place("app:x", "n2")
		b.place("app:x", "n3")
		c.router.Open(c.place("app:x", "n3"), c.backend(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "at last ")
			_, _ = io.Copy(w, r.Body)
		}))
		asked := w.addrs["n2"]
		told := make(chan struct{})
		w.set("n2", b.listen(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			b.proxy.ServePeer(rw, r)
			select {
			case <-told:
			default:
				close(told)
				a.place("app:x", "n3")
			}
		})))
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		a.router.DeleteNode("n2") // its pooled connections
		a.node("n2", api.NodeUp)
		res, got := a.do(a.request(method, "x.app.localhost/", strings.NewReader(body)))
		if res.StatusCode != 200 || got != "at last "+body {
			t.Errorf("%s: got %d %q", method, res.StatusCode, got)
		}
		<-told
		w.set("n2", asked)
		c.router.Sleep(ref)
	}
	if n := b.waker.count(api.Ref{Service: "app", ID: "x"}); n != 0 {
		t.Errorf("the wrong node woke it %d times", n)
	}
}

// A request from a peer never goes to a third node, even when the instance leaves while
// the request is held.
func TestPeersDoNotPassOn(t *testing.T) {
	rigs, w := fleet(t, "n1", "n2", "n3")
	b := rigs["n2"]
	send := func() int {
		req := b.request(http.MethodGet, "x.app.localhost/", nil)
		req.URL.Host = w.addrs["n2"]
		req.Host = "x.app.localhost"
		req.Header.Set(HeaderInstance, "app:x")
		res, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	everywhere(rigs, "app:x", "n3")
	if got := send(); got != http.StatusMisdirectedRequest {
		t.Errorf("not here: got %d", got)
	}
	everywhere(rigs, "app:x", "n2")
	b.waker.set(func(context.Context, api.Ref) error { everywhere(rigs, "app:x", "n3"); return nil })
	if got := send(); got != http.StatusMisdirectedRequest {
		t.Errorf("left while held: got %d", got)
	}
	if w.dials["n3"] != 0 {
		t.Error("passed on to a third node")
	}
}

func TestDeadNode(t *testing.T) {
	rigs, w := fleet(t, "n1", "n2", "n3")
	a, c := rigs["n1"], rigs["n3"]
	w.set("n2", "")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		ref := everywhere(rigs, "app:x", "n2")
		a.node("n2", api.NodeUp)
		// The server's Waker waits for a way to the instance.
		a.waker.set(func(context.Context, api.Ref) error {
			a.node("n2", api.NodeDown)
			c.router.Open(ref, c.backend(hello))
			everywhere(rigs, "app:x", "n3")
			return nil
		})
		res, body := a.do(a.request(method, "x.app.localhost/moved", strings.NewReader("b")))
		if res.StatusCode != 200 || body != "hello /moved" {
			t.Errorf("%s: got %d %q", method, res.StatusCode, body)
		}
		c.router.Sleep(ref)
	}
	if n := w.dials["n2"]; n == 0 || n > 4 {
		t.Errorf("the dead node was tried %d times", n)
	}
}

// What a node was doing when it died is done again only if that is safe.
func TestNodeDiesMidRequest(t *testing.T) {
	rigs, w := fleet(t, "n1", "n2", "n3")
	a, c := rigs["n1"], rigs["n3"]
	for _, tc := range []struct {
		method string
		status int
	}{{http.MethodGet, 200}, {http.MethodPost, 502}} {
		ref := everywhere(rigs, "app:x", "n2")
		a.router.DeleteNode("n2")
		a.node("n2", api.NodeUp)
		w.set("n2", a.script(func(_ int, nc net.Conn, br *bufio.Reader) {
			_, _ = readHead(br)
			_, _ = io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\n")
			if tc.method == http.MethodPost {
				_, _ = br.ReadByte()
			}
			c.router.Open(ref, c.backend(hello))
			everywhere(rigs, "app:x", "n3")
		}).Address)
		var body io.Reader
		if tc.method == http.MethodPost {
			body = strings.NewReader("body")
		}
		res, _ := a.do(a.request(tc.method, "x.app.localhost/", body))
		if res.StatusCode != tc.status {
			t.Errorf("%s: got %d, want %d", tc.method, res.StatusCode, tc.status)
		}
		c.router.Sleep(ref)
	}
}
