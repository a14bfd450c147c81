package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/front"
	"github.com/tenement-fleet/tenement/proxy/route"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(benchRole); role != "" {
		runBenchRole(role)
		return
	}
	code := m.Run()
	// net/http lingers half a second on a connection that it closes after a bad request,
	// which is longer than one look for leaks takes.
	if code == 0 && goleak.Find() != nil {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// rig is a proxy behind a real port, with fakes around it.
type rig struct {
	t       testing.TB
	router  *route.Router
	proxy   *Proxy
	addr    string // of the port
	reg     *prometheus.Registry
	log     *logBuffer
	waker   *fakeWaker
	creator *fakeCreator
	client  *http.Client
}

// fakeWaker answers Wake by what the test sets for an instance.
type fakeWaker struct {
	mu    sync.Mutex
	wakes map[api.Ref]int
	on    func(ctx context.Context, ref api.Ref) error
}

func (f *fakeWaker) Wake(ctx context.Context, ref api.Ref) error {
	f.mu.Lock()
	f.wakes[ref]++
	on := f.on
	f.mu.Unlock()
	if on == nil {
		return api.Errorf(api.CodeFailed, "secret cause: exit status 1")
	}
	return on(ctx, ref)
}

func (f *fakeWaker) set(on func(ctx context.Context, ref api.Ref) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

func (f *fakeWaker) count(ref api.Ref) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wakes[ref]
}

type fakeCreator struct {
	mu      sync.Mutex
	created []api.Ref
	on      func(ref api.Ref) error
}

func (f *fakeCreator) Create(_ context.Context, ref api.Ref) error {
	f.mu.Lock()
	f.created = append(f.created, ref)
	on := f.on
	f.mu.Unlock()
	return on(ref)
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig starts a proxy for the domain localhost with a service "app" and no instances.
func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	router, err := route.New(route.Config{})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{
		t: t, router: router, reg: prometheus.NewRegistry(), log: &logBuffer{},
		waker: &fakeWaker{wakes: make(map[api.Ref]int)}, creator: &fakeCreator{},
	}
	cfg := Config{
		Router: router, Waker: g.waker, Creator: g.creator, Registerer: g.reg,
		Logger: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Local:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "local") }),
	}
	for _, f := range change {
		f(&cfg)
	}
	g.router = cfg.Router
	if g.proxy, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	g.addr = g.listen(g.proxy)
	g.client = &http.Client{Transport: g.transport()}
	g.service("app", nil)
	t.Cleanup(g.proxy.Close)
	return g
}

// listen serves a handler on a free port as the product does.
func (g *rig) listen(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	srv := front.New(front.Config{Handler: h, Logger: slog.New(slog.DiscardHandler)})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	g.t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; err != nil {
			g.t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// transport reaches the proxy for every host.
func (g *rig) transport() *http.Transport {
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", g.addr)
		},
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// service declares a service.
func (g *rig) service(name string, change func(*api.Service)) {
	s := &api.Service{Name: name, Command: "true"}
	s.SetDefaults()
	if change != nil {
		change(s)
	}
	g.router.PutService(s)
}

// declare declares an instance.
func (g *rig) declare(ref string, weight int) api.Ref {
	r, err := api.ParseRef(ref)
	if err != nil {
		g.t.Fatal(err)
	}
	i := &api.Instance{Service: r.Service, ID: r.ID, Weight: &weight}
	i.SetDefaults()
	g.router.PutInstance(i)
	return r
}

// open declares an instance and opens its gate to a backend.
func (g *rig) open(ref string, ep api.Endpoint) api.Ref {
	r := g.declare(ref, 100)
	g.router.Open(r, ep)
	return r
}

// serve opens an instance that answers with h.
func (g *rig) serve(ref string, h http.HandlerFunc) api.Ref {
	return g.open(ref, g.backend(h))
}

// backend starts an ordinary HTTP server.
func (g *rig) backend(h http.HandlerFunc) api.Endpoint {
	srv := httptest.NewServer(h)
	g.t.Cleanup(srv.Close)
	return tcp(srv.Listener.Addr().String())
}

func tcp(addr string) api.Endpoint { return api.Endpoint{Network: "tcp", Address: addr} }

// script starts a backend that hands each connection, after reading one request head,
// to f. It counts the connections.
func (g *rig) script(f func(n int, nc net.Conn, br *bufio.Reader)) api.Endpoint {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	g.t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for nc := range open {
			_ = nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for n := 0; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[nc] = true
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = nc.Close() }()
				f(n, nc, bufio.NewReader(nc))
			})
		}
	})
	return tcp(ln.Addr().String())
}

// readHead reads a request's head and returns it.
func readHead(br *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// request makes a request for a host under the proxy.
func (g *rig) request(method, url string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+url, body)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// do sends a request and returns the response with its whole body.
func (g *rig) do(r *http.Request) (*http.Response, string) {
	g.t.Helper()
	res, err := g.client.Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatalf("%s %s: read body: %v", r.Method, r.URL, err)
	}
	return res, string(b)
}

// get gets a URL and returns status and body.
func (g *rig) get(url string) (int, string) {
	g.t.Helper()
	res, body := g.do(g.request(http.MethodGet, url, nil))
	return res.StatusCode, body
}

// dial opens a raw connection to the proxy.
func (g *rig) dial() net.Conn {
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	g.t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// raw sends bytes over a new connection and reads one response. Also it reports whether
// the proxy closed the connection after it.
func (g *rig) raw(text string) (res *http.Response, body string, closed bool) {
	g.t.Helper()
	nc := g.dial()
	if _, err := io.WriteString(nc, text); err != nil {
		g.t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		g.t.Fatalf("read response to %.60q: %v", text, err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatalf("read body: %v", err)
	}
	return res, string(b), res.Close
}

// metric returns the value of a counter or gauge, or the count of a histogram.
func (g *rig) metric(name string, labels ...string) float64 {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetName()+"="+l.GetValue())
			}
			if strings.Join(got, ",") == strings.Join(labels, ",") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("not within 10 s: %s", what)
}

func hello(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "hello %s", r.URL.Path) }
