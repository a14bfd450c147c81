package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestThousandRequestsOneWake(t *testing.T) {
	g := newRig(t)
	ref := g.declare("app:a", 100)
	ep := g.backend(hello)
	g.waker.set(func(context.Context, api.Ref) error {
		eventually(t, "all requests held", func() bool { return g.proxy.wakes.Waiting() == 1000 })
		g.router.Open(ref, ep)
		return nil
	})
	tr := g.transport()
	tr.MaxIdleConnsPerHost = 1000
	client := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	var ok atomic.Int32
	for i := range 1000 {
		wg.Go(func() {
			res, err := client.Do(g.request(http.MethodGet, fmt.Sprintf("a.app.localhost/%d", i), nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = res.Body.Close() }()
			if b, _ := io.ReadAll(res.Body); res.StatusCode == http.StatusOK && string(b) == fmt.Sprintf("hello /%d", i) {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1000 || g.waker.count(ref) != 1 {
		t.Errorf("%d answered, %d wakes; want 1000 and 1", ok.Load(), g.waker.count(ref))
	}
	if n := g.metric("tenement_proxy_wake_first_byte_seconds"); n != 1000 {
		t.Errorf("%v wakes timed", n)
	}
}

func TestWakeOutcomes(t *testing.T) {
	held := func(d api.Desired) func(*rig) {
		return func(g *rig) {
			i := &api.Instance{Service: "app", ID: "a", Desired: d}
			i.SetDefaults()
			g.router.PutInstance(i)
		}
	}
	fail := func(code api.Code) func(*rig) {
		return func(g *rig) {
			g.declare("app:a", 100)
			g.waker.set(func(context.Context, api.Ref) error { return api.Errorf(code, "secret") })
		}
	}
	for _, tc := range []struct {
		name   string
		set    func(*rig)
		status int
		retry  bool
		wakes  int
	}{
		{"failed", fail(api.CodeFailed), 502, false, 1},
		{"unavailable", fail(api.CodeUnavailable), 503, true, 1},
		{"timeout", fail(api.CodeTimeout), 504, false, 1},
		{"not found", fail(api.CodeNotFound), 404, false, 1},
		{"internal", fail(api.CodeInternal), 502, false, 1},
		{"held", held(api.DesiredStopped), 503, true, 0},
		{"asleep is woken", func(g *rig) {
			held(api.DesiredAsleep)(g)
			ep := g.backend(hello)
			g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.Open(ref, ep); return nil })
		}, 200, false, 1},
		{"too late", func(g *rig) {
			g.declare("app:a", 100)
			g.service("app", func(s *api.Service) { s.StartupTimeout = api.Duration(10 * time.Millisecond) })
			g.waker.set(func(ctx context.Context, _ api.Ref) error { <-ctx.Done(); return ctx.Err() })
		}, 504, false, 1},
		{"says up but is not", func(g *rig) {
			g.declare("app:a", 100)
			g.service("app", func(s *api.Service) { s.StartupTimeout = api.Duration(10 * time.Millisecond) })
			g.waker.set(func(context.Context, api.Ref) error { return nil })
		}, 504, false, -1},
		{"deleted meanwhile", func(g *rig) {
			g.declare("app:a", 100)
			g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.DeleteInstance(ref); return nil })
		}, 404, false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, func(c *Config) { c.QueueAllowance = 40 * time.Millisecond })
			tc.set(g)
			res, body := g.do(g.request(http.MethodGet, "a.app.localhost/", nil))
			if res.StatusCode != tc.status || (res.Header.Get("Retry-After") != "") != tc.retry {
				t.Errorf("%d, Retry-After %q; want %d", res.StatusCode, res.Header.Get("Retry-After"), tc.status)
			}
			if strings.Contains(body, "secret") || strings.Contains(body, "app:a") {
				t.Errorf("the page tells of the inside: %s", body)
			}
			if n := g.waker.count(api.Ref{Service: "app", ID: "a"}); tc.wakes >= 0 && n != tc.wakes {
				t.Errorf("%d wakes, want %d", n, tc.wakes)
			}
		})
	}
}

func TestQueueFull(t *testing.T) {
	g := newRig(t, func(c *Config) { c.QueuePerInstance = 2 })
	ref := g.declare("app:a", 100)
	ep := g.backend(hello)
	release := make(chan struct{})
	g.waker.set(func(ctx context.Context, _ api.Ref) error {
		select {
		case <-release:
			g.router.Open(ref, ep)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	statuses := make(chan int, 2)
	for range 2 {
		go func() {
			status, _ := g.get("a.app.localhost/")
			statuses <- status
		}()
	}
	eventually(t, "two held", func() bool { return g.metric("tenement_proxy_held_requests") == 2 })
	res, _ := g.do(g.request(http.MethodGet, "a.app.localhost/", nil))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("third of two: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	close(release)
	for range 2 {
		if s := <-statuses; s != http.StatusOK {
			t.Errorf("held: %d", s)
		}
	}
}

func TestClientGoneWhileHeld(t *testing.T) {
	g := newRig(t)
	g.declare("app:a", 100)
	cancelled := make(chan struct{})
	g.waker.set(func(ctx context.Context, _ api.Ref) error {
		<-ctx.Done()
		close(cancelled)
		return ctx.Err()
	})
	nc := g.dial()
	_, _ = io.WriteString(nc, get+"\r\n")
	eventually(t, "one held", func() bool { return g.proxy.wakes.Waiting() == 1 })
	_ = nc.Close()
	<-cancelled // nobody waits: the start is not wanted any more
	eventually(t, "none held", func() bool { return g.proxy.wakes.Waiting() == 0 })
}

// TestCrashMidRequest kills the program under a request and restarts it elsewhere.
func TestCrashMidRequest(t *testing.T) {
	for _, tc := range []struct {
		name, method, body string
		status             int
	}{
		{"safe to repeat", http.MethodGet, "", 200},
		{"idempotent without body", http.MethodDelete, "", 200},
		{"POST", http.MethodPost, "in", 502},
		{"POST without body", http.MethodPost, "", 502},
		{"PUT with body", http.MethodPut, "in", 502},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t)
			ref := g.declare("app:a", 100)
			second := g.backend(hello)
			first := g.script(func(_ int, _ net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				g.router.Down(ref) // the agent sees the program's end
			})
			g.router.Open(ref, first)
			g.waker.set(func(context.Context, api.Ref) error {
				g.router.Open(ref, second)
				return nil
			})
			var body io.Reader
			if tc.body != "" {
				body = strings.NewReader(tc.body)
			}
			if res, got := g.do(g.request(tc.method, "a.app.localhost/", body)); res.StatusCode != tc.status {
				t.Errorf("%d %s, want %d", res.StatusCode, got, tc.status)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := tcp(ln.Addr().String())
	_ = ln.Close()
	t.Run("noticed and restarted", func(t *testing.T) {
		g := newRig(t)
		ref := g.open("app:a", dead)
		ep := g.backend(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		g.waker.set(func(context.Context, api.Ref) error { g.router.Open(ref, ep); return nil })
		go func() {
			eventually(t, "first attempt", func() bool { return g.metric("tenement_proxy_retries_total") >= 1 })
			g.router.Down(ref)
		}()
		// Nothing was sent, so that even a POST may try again.
		if res, body := g.do(g.request(http.MethodPost, "a.app.localhost/", strings.NewReader("in"))); res.StatusCode != http.StatusOK || body != "in" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	t.Run("never noticed", func(t *testing.T) {
		g := newRig(t)
		g.open("app:a", dead)
		if status, _ := g.get("a.app.localhost/"); status != http.StatusBadGateway {
			t.Errorf("%d, want 502", status)
		}
	})
	t.Run("weighted goes elsewhere", func(t *testing.T) {
		g := newRig(t)
		g.open("app:a", dead)
		g.serve("app:b", hello)
		for range 20 {
			if status, _ := g.get("app.localhost/"); status != http.StatusOK {
				t.Fatalf("%d, want 200", status)
			}
		}
	})
}

func TestWeights(t *testing.T) {
	g := newRig(t)
	answer := func(s string) api.Endpoint {
		return g.backend(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
	}
	v1, v2 := g.declare("app:v1", 90), g.declare("app:v2", 10)
	g.router.Open(v1, answer("v1"))
	ep2 := answer("v2")
	g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.Open(ref, ep2); return nil }) // v2 sleeps at first
	count := func(want1, want2 int) {
		t.Helper()
		got := make(map[string]int)
		for range 100 {
			_, body := g.get("app.localhost/")
			got[body]++
		}
		if got["v1"] != want1 || got["v2"] != want2 {
			t.Errorf("%v, want v1 %d, v2 %d", got, want1, want2)
		}
	}
	count(90, 10)
	g.declare("app:v1", 0)
	g.declare("app:v2", 100)
	count(0, 100)
	g.declare("app:v1", 50)
	g.router.Down(v2)
	count(100, 0)
	g.router.DeleteInstance(v1)
	g.router.DeleteInstance(v2)
	if status, _ := g.get("app.localhost/"); status != http.StatusServiceUnavailable {
		t.Errorf("without instances: %d", status)
	}
}

func TestWeightedWaitsWhenAllAreDown(t *testing.T) {
	g := newRig(t)
	ref := g.declare("app:a", 100)
	g.router.Down(ref)
	ep := g.backend(hello)
	g.waker.set(func(context.Context, api.Ref) error { g.router.Open(ref, ep); return nil })
	if status, _ := g.get("app.localhost/"); status != http.StatusOK {
		t.Errorf("%d", status)
	}
}

func TestWeightedStepsPastAFailedWake(t *testing.T) {
	g := newRig(t)
	bad := g.declare("app:bad", 100)
	g.serve("app:good", hello)
	g.waker.set(func(_ context.Context, ref api.Ref) error {
		g.router.Down(ref)
		return api.Errorf(api.CodeFailed, "exit 1")
	})
	for range 10 {
		if status, body := g.get("app.localhost/"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	if n := g.waker.count(bad); n != 1 {
		t.Errorf("%d attempts to wake the bad one", n)
	}
}

func TestSpawnOnRequest(t *testing.T) {
	g := newRig(t)
	g.service("app", func(s *api.Service) { s.SpawnOnRequest = true })
	g.service("closed", nil)
	ep := g.backend(hello)
	g.creator.on = func(ref api.Ref) error {
		if ref.ID == "refused" {
			return api.Errorf(api.CodeConflict, "max_instances reached")
		}
		go g.declare(ref.String(), 100) // the table learns of it a little later
		return nil
	}
	g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.Open(ref, ep); return nil })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if status, body := g.get("new.app.localhost/"); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	wg.Wait()
	if n := g.waker.count(api.Ref{Service: "app", ID: "new"}); n != 1 {
		t.Errorf("%d wakes", n)
	}
	for host, want := range map[string]int{
		"refused.app.localhost": 503, "new.closed.localhost": 404, "-bad.app.localhost": 404, "new.nothing.localhost": 404,
	} {
		if status, _ := g.get(host + "/"); status != want {
			t.Errorf("%s: %d, want %d", host, status, want)
		}
	}
	for _, ref := range g.creator.created {
		if ref.Service != "app" || ref.ID != "new" && ref.ID != "refused" {
			t.Errorf("created %s", ref)
		}
	}
}

func TestMetricsOfADeletedServiceGo(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", hello)
	g.get("a.app.localhost/")
	if n := g.metric("tenement_proxy_requests_total", "code=2xx", "service=app"); n != 1 {
		t.Fatalf("%v requests counted", n)
	}
	if n := g.metric("tenement_proxy_first_byte_seconds", "service=app"); n != 1 {
		t.Errorf("%v first bytes timed", n)
	}
	ref := api.Ref{Service: "app", ID: "a"}
	g.router.DeleteService("app")
	g.router.Down(ref)
	families, err := g.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.Contains(f.String(), `"app"`) {
			t.Errorf("left of a deleted service: %s", f)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Router, Waker and Local") {
		t.Errorf("New(Config{}): %v", err)
	}
}
