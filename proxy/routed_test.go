package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// backend is service:instance, or service alone.
func backend(name string, weight int) api.Backend {
	service, id, _ := strings.Cut(name, ":")
	return api.Backend{Service: service, Instance: id, Weight: &weight}
}

// shop stores a route for shop.test.
func (g *rig) shop(mode api.RouteMode, message string, backends ...api.Backend) {
	r := &api.Route{Name: "shop", Hosts: []string{"shop.test"}, Mode: mode, Message: message, Backends: backends}
	r.SetDefaults()
	g.router.PutRoute(r)
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestRouteByWeight(t *testing.T) {
	g := newRig(t)
	g.service("web", nil)
	g.serve("app:v1", says("one"))
	g.serve("web:v2", says("two"))
	count := func() string {
		got := map[string]int{}
		for range 100 {
			_, body := g.get("shop.test/")
			got[body]++
		}
		return fmt.Sprint(got)
	}
	if status, _ := g.get("shop.test/"); status != 404 {
		t.Errorf("got %d without a route", status)
	}
	g.shop("", "", backend("app:v1", 90), backend("web:v2", 10))
	if got := count(); got != "map[one:90 two:10]" {
		t.Errorf("got %s", got)
	}
	g.shop("", "", backend("app:v1", 10), backend("web:v2", 90))
	if got := count(); got != "map[one:10 two:90]" {
		t.Errorf("got %s", got)
	}
	for service, want := range map[string]float64{"app": 100, "web": 100, noService: 1} {
		got := 0.0
		for _, class := range classes {
			got += g.metric("tenement_proxy_requests_total", "code="+class, "service="+service)
		}
		if in := g.metric("tenement_proxy_in_flight_requests", "service="+service); got != want || in != 0 {
			t.Errorf("%q: %v requests counted, want %v; %v in flight", service, got, want, in)
		}
	}
	g.router.DeleteRoute("shop")
	if status, _ := g.get("shop.test/"); status != 404 {
		t.Errorf("got %d when the route is gone", status)
	}
}

func TestRouteWithoutBackend(t *testing.T) {
	g := newRig(t)
	g.serve("app:v1", hello)
	for want, backends := range map[string][]api.Backend{
		textNoWeight: {backend("app:v1", 0), backend("app", 0)},
		textNoRoute:  {backend("app:v9", 5), backend("app:v1", 0), backend("nothing", 5)},
	} {
		g.shop("", "", backends...)
		res, body := g.do(g.request(http.MethodGet, "shop.test/", nil))
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, want) {
			t.Errorf("got %d, Retry-After %q: %s, want %s", res.StatusCode, res.Header.Get("Retry-After"), body, want)
		}
	}
	if log := g.log.String(); !strings.Contains(log, "route shop: all its backends have the weight 0") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// A route wakes what sleeps, and passes by what does not come up.
func TestRouteWakesAndStepsPast(t *testing.T) {
	g := newRig(t)
	g.service("bad", nil)
	sleeper := g.declare("app:v1", 0)
	g.declare("bad:v1", 0)
	ep := g.backend(hello)
	g.waker.set(func(_ context.Context, ref api.Ref) error {
		if ref == sleeper {
			g.router.Open(ref, ep)
			return nil
		}
		return api.Errorf(api.CodeFailed, "exit status 1")
	})
	g.shop("", "", backend("app:v1", 50), backend("bad:v1", 50))
	for range 10 {
		if status, body := g.get("shop.test/x"); status != 200 || body != "hello /x" {
			t.Fatalf("got %d %s", status, body)
		}
	}
	if n := g.waker.count(sleeper); n != 1 {
		t.Errorf("woken %d times", n)
	}
}

func TestMaintenance(t *testing.T) {
	g := newRig(t)
	g.serve("app:v1", hello)
	ask := func(header ...string) (*http.Response, string) {
		r := g.request(http.MethodGet, "shop.test/", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, body := g.do(r)
		if s := res.Header.Get("Retry-After"); s != "60" && res.StatusCode != 200 {
			t.Errorf("Retry-After %q", s)
		}
		return res, body
	}
	g.shop(api.RouteMaintenance, "")
	if res, body := ask(); res.StatusCode != 503 || !strings.Contains(body, textMaintenance) {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	g.shop(api.RouteMaintenance, "Back at 10 <o'clock>,\n100% sure. ü", backend("app:v1", 100))
	if res, body := ask(); res.StatusCode != 503 || !strings.Contains(body, "Back at 10 <o'clock>,\n100% sure. ü") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := ask("Accept", "text/html"); res.StatusCode != 503 || !strings.Contains(body, "Back at 10 &lt;o&#39;clock&gt;,\n100% sure. ü") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	res, body := ask("Accept", "application/json")
	var p api.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != 503 || res.Header.Get("Content-Type") != api.ProblemType ||
		p.Code != api.CodeUnavailable || p.Detail != "Back at 10 <o'clock>,\n100% sure. ü" || p.RetryAfter != api.Seconds(60) {
		t.Errorf("got %d %s %s: %v", res.StatusCode, res.Header, body, err)
	}
	res, _ = ask("Content-Type", "application/grpc")
	if got := res.Header.Get("Grpc-Message"); res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || got != "Back at 10 <o'clock>,%0A100%25 sure. %C3%BC" {
		t.Errorf("got %d %s", res.StatusCode, res.Header)
	}
	if status, _ := g.get("v1.app.localhost/"); status != 200 {
		t.Errorf("the instance's own host: got %d", status)
	}
}

// held waits until so many requests are held by the route.
func (g *rig) held(n int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprint(n, " requests held"), func() bool { return g.proxy.pauses.Waiting() == n })
}

func TestPause(t *testing.T) {
	g := newRig(t)
	g.serve("app:v1", hello)
	var wg sync.WaitGroup
	var status [3]atomic.Int32
	send := func(i int) {
		wg.Go(func() {
			code, _ := g.get("shop.test/")
			status[i].Store(int32(code)) //nolint:gosec // a status
		})
	}
	g.shop(api.RoutePause, "", backend("app:v1", 100))
	send(0)
	g.held(1)
	if n := g.metric("tenement_proxy_held_requests"); n != 1 {
		t.Errorf("%v held, says the metric", n)
	}
	g.shop(api.RoutePause, "another revision that pauses", backend("app:v1", 100))
	send(1)
	g.held(2)
	g.shop(api.RouteLive, "", backend("app:v1", 100))
	wg.Wait()
	if status[0].Load() != 200 || status[1].Load() != 200 {
		t.Errorf("got %d and %d", status[0].Load(), status[1].Load())
	}
	for i, end := range []func(){
		func() { g.router.DeleteRoute("shop") },
		func() { g.shop(api.RouteMaintenance, "") },
		func() { g.shop("", "") },
	} {
		g.shop(api.RoutePause, "", backend("app:v1", 100))
		send(i)
		g.held(1)
		end()
		wg.Wait()
		if got, want := int(status[i].Load()), []int{404, 503, 503}[i]; got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestPauseIsBounded(t *testing.T) {
	g := newRig(t, func(c *Config) { c.QueuePerInstance, c.PauseLimit = 2, 300*time.Millisecond })
	g.serve("app:v1", hello)
	g.shop(api.RoutePause, "", backend("app:v1", 100))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			res, body := g.do(g.request(http.MethodGet, "shop.test/", nil))
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, textPaused) {
				t.Errorf("too long: got %d %s", res.StatusCode, body)
			}
		})
	}
	g.held(2)
	res, body := g.do(g.request(http.MethodGet, "shop.test/", nil))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, textBusy) {
		t.Errorf("too many: got %d %s", res.StatusCode, body)
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if res, err := g.client.Do(g.request(http.MethodGet, "shop.test/", nil).WithContext(ctx)); err == nil {
			_ = res.Body.Close()
			t.Error("an answer for a client that went away")
		}
	})
	g.held(1)
	cancel()
	g.held(0)
	wg.Wait()
	eventually(t, "the one who left is counted", func() bool {
		return g.metric("tenement_proxy_requests_total", "code=aborted", "service=") == 1
	})
}

// Nothing is lost and nobody waits for ever while weights and modes change under load.
func TestNoRequestIsLostWhileRoutesChange(t *testing.T) {
	g := newRig(t)
	g.service("web", nil)
	g.serve("app:v1", hello)
	g.serve("app:v2", hello)
	g.serve("web:v1", hello)
	g.shop("", "", backend("app:v1", 100))
	tr := g.transport()
	tr.MaxIdleConnsPerHost = 16
	client := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	var served atomic.Int64
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				var body io.Reader
				method := http.MethodGet
				if n%3 == 0 {
					method, body = http.MethodPost, strings.NewReader("some body")
				}
				res, err := client.Do(g.request(method, "shop.test/x", body))
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 || string(text) != "hello /x" {
					t.Errorf("got %d %s", res.StatusCode, text)
				}
				served.Add(1)
			}
		})
	}
	for i := range 300 {
		mode := api.RouteLive
		if i%10 == 3 {
			mode = api.RoutePause
		}
		g.shop(mode, "", backend("app:v1", i%101), backend("app:v2", 1+i%7), backend("web", i%3))
		for before := served.Load(); mode == api.RouteLive && served.Load() < before+3 && !t.Failed(); {
			time.Sleep(100 * time.Microsecond)
		}
	}
	close(stop)
	wg.Wait()
}
