package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder remembers how long the client wanted to sleep, and sleeps not at all.
type recorder struct {
	mu    sync.Mutex
	slept []time.Duration
}

func (r *recorder) sleep(ctx context.Context, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slept = append(r.slept, d)
	return ctx.Err()
}

func (r *recorder) waits() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Duration(nil), r.slept...)
}

func newClient(t *testing.T, cfg Config) (*Client, *recorder) {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r := &recorder{}
	c.sleep = r.sleep
	return c, r
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// refusing returns the URL of a server that is gone.
func refusing(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	defer s.Close()
	return s.URL
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if status >= 300 {
		w.Header().Set("Content-Type", api.ProblemType)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func writeProblem(w http.ResponseWriter, e *api.Error) {
	p := e.Problem(http.StatusText(e.Code.Status()))
	writeJSON(w, e.Code.Status(), p)
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no endpoint":      {},
		"no scheme":        {Endpoints: []string{"localhost:8080"}},
		"no host":          {Endpoints: []string{"http://"}},
		"other scheme":     {Endpoints: []string{"ftp://host"}},
		"relative socket":  {Endpoints: []string{"unix://ten.sock"}},
		"password":         {Endpoints: []string{"http://u:p@host"}},
		"query":            {Endpoints: []string{"http://host?x=1"}},
		"header injection": {Endpoints: []string{"http://host"}, Token: "a\r\nX: y"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRequests(t *testing.T) {
	ref := api.Ref{Service: "notes", ID: "alice"}
	rev := uint64(7)
	weight := 30
	for _, tc := range []struct {
		want string // method path?query
		body string
		call func(context.Context, *Client) error
	}{
		{"GET /api/services", "", func(ctx context.Context, c *Client) error { _, err := c.Services(ctx); return err }},
		{"GET /api/services/notes", "", func(ctx context.Context, c *Client) error { _, err := c.Service(ctx, "notes"); return err }},
		{"DELETE /api/services/notes If-Match: \"7\"", "", func(ctx context.Context, c *Client) error { return c.DeleteService(ctx, "notes", &rev) }},
		{"GET /api/instances", "", func(ctx context.Context, c *Client) error {
			_, err := c.Instances(ctx, InstanceQuery{})
			return err
		}},
		{"GET /api/instances?live=true&service=notes", "", func(ctx context.Context, c *Client) error {
			_, err := c.Instances(ctx, InstanceQuery{Service: "notes", Live: true})
			return err
		}},
		{"GET /api/instances/notes:alice", "", func(ctx context.Context, c *Client) error { _, err := c.Instance(ctx, ref); return err }},
		{"POST /api/instances/spawn", `{"process":"notes","id":"alice"}`, func(ctx context.Context, c *Client) error { _, err := c.Spawn(ctx, ref); return err }},
		{"DELETE /api/instances/notes:alice", "", func(ctx context.Context, c *Client) error { _, err := c.Stop(ctx, ref, false); return err }},
		{"DELETE /api/instances/notes:alice?hold=true", "", func(ctx context.Context, c *Client) error { _, err := c.Stop(ctx, ref, true); return err }},
		{"DELETE /api/instances/notes:alice?purge=true", "", func(ctx context.Context, c *Client) error { return c.Purge(ctx, ref) }},
		{"POST /api/instances/notes:alice/restart", "", func(ctx context.Context, c *Client) error { _, err := c.Restart(ctx, ref); return err }},
		{"PUT /api/instances/notes:alice/weight", `{"weight":30}`, func(ctx context.Context, c *Client) error {
			_, err := c.SetWeight(ctx, ref, 30)
			return err
		}},
		{"GET /api/instances/notes:alice/health", "", func(ctx context.Context, c *Client) error { _, err := c.InstanceHealth(ctx, ref); return err }},
		{"GET /api/instances/notes:alice/storage", "", func(ctx context.Context, c *Client) error { _, err := c.Storage(ctx, ref); return err }},
		{"POST /api/deploy", `{"process":"notes","version":"v2","weight":30,"timeout":"30s"}`, func(ctx context.Context, c *Client) error {
			_, err := c.Deploy(ctx, api.DeployRequest{Process: "notes", Version: "v2", Weight: &weight, Timeout: api.Seconds(30)})
			return err
		}},
		{"POST /api/route", `{"process":"notes","from":"v1","to":"v2"}`, func(ctx context.Context, c *Client) error {
			_, err := c.Route(ctx, api.RouteRequest{Process: "notes", From: "v1", To: "v2"})
			return err
		}},
		{"GET /api/tokens", "", func(ctx context.Context, c *Client) error { _, err := c.Tokens(ctx); return err }},
		{"POST /api/tokens", `{"tenant":"alice"}`, func(ctx context.Context, c *Client) error {
			_, err := c.CreateToken(ctx, api.TokenRequest{Tenant: "alice"})
			return err
		}},
		{"PUT /api/tokens/0123456789ab If-Match: \"7\"", `{"tenant":"alice","sha256":"AQI="}`, func(ctx context.Context, c *Client) error {
			_, err := c.PutToken(ctx, "0123456789ab", api.TokenPut{Tenant: "alice", SHA256: []byte{1, 2}}, &rev)
			return err
		}},
		{"DELETE /api/tokens/0123456789ab", "", func(ctx context.Context, c *Client) error { return c.DeleteToken(ctx, "0123456789ab") }},
		{"GET /api/node", "", func(ctx context.Context, c *Client) error { _, err := c.Node(ctx); return err }},
		{"GET /api/telemetry", "", func(ctx context.Context, c *Client) error { _, err := c.Telemetry(ctx); return err }},
		{"GET /health", "", func(ctx context.Context, c *Client) error { _, err := c.ServerHealth(ctx); return err }},
		{"POST /api/upgrade", `{"path":"/usr/bin/ten"}`, func(ctx context.Context, c *Client) error {
			_, err := c.Upgrade(ctx, api.UpgradeRequest{Path: "/usr/bin/ten"})
			return err
		}},
		{"GET /api/instances?node=n1", "", func(ctx context.Context, c *Client) error {
			_, err := c.Instances(ctx, InstanceQuery{Node: "n1"})
			return err
		}},
		{"GET /api/cluster", "", func(ctx context.Context, c *Client) error { _, err := c.Cluster(ctx); return err }},
		{"GET /api/nodes", "", func(ctx context.Context, c *Client) error { _, err := c.Nodes(ctx); return err }},
		{"GET /api/nodes/n1", "", func(ctx context.Context, c *Client) error { _, err := c.Member(ctx, "n1"); return err }},
		{"PUT /api/nodes/n1 If-Match: \"7\"", `{"eligibility":"draining"}`, func(ctx context.Context, c *Client) error {
			_, err := c.SetEligibility(ctx, "n1", api.EligibilityDraining, &rev)
			return err
		}},
		{"DELETE /api/nodes/n1", "", func(ctx context.Context, c *Client) error { return c.RemoveNode(ctx, "n1", false) }},
		{"DELETE /api/nodes/n1?force=true", "", func(ctx context.Context, c *Client) error { return c.RemoveNode(ctx, "n1", true) }},
		{"POST /api/nodes/n1/promote", "", func(ctx context.Context, c *Client) error { _, err := c.Promote(ctx, "n1"); return err }},
		{"POST /api/plan", `{"drain":["n1"]}`, func(ctx context.Context, c *Client) error {
			_, err := c.Plan(ctx, api.PlanRequest{Drain: []string{"n1"}})
			return err
		}},
		{"GET /api/fleets", "", func(ctx context.Context, c *Client) error { _, err := c.Fleets(ctx, ""); return err }},
		{"GET /api/fleets?service=notes", "", func(ctx context.Context, c *Client) error { _, err := c.Fleets(ctx, "notes"); return err }},
		{"GET /api/fleets/notes:alice", "", func(ctx context.Context, c *Client) error { _, err := c.Fleet(ctx, ref); return err }},
		{"PUT /api/fleets/notes:web", `{"service":"notes","name":"web","replicas":2,"weight":30,"source":"api"}`, func(ctx context.Context, c *Client) error {
			_, err := c.PutFleet(ctx, &api.Fleet{Service: "notes", Name: "web", Replicas: 2, Weight: &weight, Source: api.SourceAPI}, nil)
			return err
		}},
		{"GET /api/routes", "", func(ctx context.Context, c *Client) error { _, err := c.Routes(ctx); return err }},
		{"GET /api/routes/shop", "", func(ctx context.Context, c *Client) error { _, err := c.StoredRoute(ctx, "shop"); return err }},
		{"PUT /api/routes/shop", `{"name":"shop","paths":["/shop"],"backends":[{"service":"notes","weight":null}],"mode":"live","source":"api"}`, func(ctx context.Context, c *Client) error {
			_, err := c.PutRoute(ctx, &api.Route{Name: "shop", Paths: []string{"/shop"}, Backends: []api.Backend{{Service: "notes"}}, Mode: api.RouteLive, Source: api.SourceAPI}, nil)
			return err
		}},
		{"DELETE /api/routes/shop", "", func(ctx context.Context, c *Client) error { return c.DeleteRoute(ctx, "shop", nil) }},
		{"DELETE /api/fleets/notes:alice", "", func(ctx context.Context, c *Client) error { return c.DeleteFleet(ctx, ref, nil) }},
		{"GET /api/join-tokens", "", func(ctx context.Context, c *Client) error { _, err := c.JoinTokens(ctx); return err }},
		{"POST /api/join-tokens", `{"expires_in":"1h","max_uses":3}`, func(ctx context.Context, c *Client) error {
			_, err := c.CreateJoinToken(ctx, api.JoinTokenRequest{ExpiresIn: api.Duration(time.Hour), MaxUses: 3})
			return err
		}},
		{"DELETE /api/join-tokens/0123456789ab", "", func(ctx context.Context, c *Client) error { return c.DeleteJoinToken(ctx, "0123456789ab") }},
		{"GET /api/secret", "", func(ctx context.Context, c *Client) error { _, err := c.Secret(ctx); return err }},
		{"POST /api/secret/rotate", "", func(ctx context.Context, c *Client) error { _, err := c.RotateSecret(ctx); return err }},
		{"GET /api/logs?after=9&id=alice&level=stderr&limit=5&process=notes&search=a+b", "", func(ctx context.Context, c *Client) error {
			_, err := c.Logs(ctx, api.LogQuery{Service: "notes", Instance: "alice", Level: api.Stderr, Search: "a b", Limit: 5, After: 9})
			return err
		}},
	} {
		t.Run(tc.want, func(t *testing.T) {
			var got, body string
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got = r.Method + " " + r.URL.RequestURI()
				if m := r.Header.Get("If-Match"); m != "" {
					got += " If-Match: " + m
				}
				if r.Header.Get("Authorization") != "Bearer secret" {
					t.Errorf("Authorization: %q", r.Header.Get("Authorization"))
				}
				var v json.RawMessage
				if json.NewDecoder(r.Body).Decode(&v) == nil {
					body = string(v)
				}
				w.Header().Set(api.HeaderIndex, "12")
				if lists := "/api/services /api/instances /api/tokens /api/logs /api/nodes /api/fleets /api/routes /api/join-tokens"; r.Method == "GET" && slices.Contains(strings.Fields(lists), r.URL.Path) {
					writeJSON(w, 200, []any{})
					return
				}
				writeJSON(w, 200, map[string]any{})
			})
			c, _ := newClient(t, Config{Endpoints: []string{u}, Token: "secret"})
			if err := tc.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got != tc.want || body != tc.body {
				t.Errorf("got %s %s, want %s %s", got, body, tc.want, tc.body)
			}
			if c.Index() != 12 {
				t.Errorf("index %d, want 12", c.Index())
			}
		})
	}
}

func TestPutReturnsWhatIsStored(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var s api.Service
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Error(err)
		}
		s.Revision = 5
		writeJSON(w, 200, s)
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	got, err := c.PutService(t.Context(), &api.Service{Name: "notes", Command: "true"}, nil)
	if err != nil || got.Name != "notes" || got.Revision != 5 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := c.PutInstance(t.Context(), &api.Instance{Service: "notes", ID: "a"}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, 200, api.Node{Name: r.Host})
	})}}
	s.Start()
	t.Cleanup(s.Close)
	c, _ := newClient(t, Config{Endpoints: []string{"unix://" + path}})
	n, err := c.Node(t.Context())
	if err != nil || n.Name != "localhost" {
		t.Fatalf("got %+v, %v", n, err)
	}
}

func TestErrorsKeepTheirFields(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &api.Error{Code: api.CodeInvalid, Message: "service is not valid", Fields: []api.FieldError{{Field: "health", Got: "x", Want: "a path"}}})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	_, err := c.PutService(t.Context(), &api.Service{Name: "a"}, nil)
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code != api.CodeInvalid || e.Message != "service is not valid" || len(e.Fields) != 1 || e.Fields[0].Want != "a path" {
		t.Fatalf("got %#v", err)
	}
}

func TestErrorsOfOthers(t *testing.T) {
	for _, tc := range []struct {
		status     int
		kind, body string
		code       api.Code
		message    string
	}{
		{404, "text/html", "<h1>not here</h1>", api.CodeNotFound, "answered 404 Not Found"},
		{403, "text/plain; charset=utf-8", "go away\nplease", api.CodeForbidden, "answered 403 Forbidden: go away"},
		{500, "application/json", `{"title":"Broken"}`, api.CodeInternal, "Broken"},
		{500, "application/problem+json", `{`, api.CodeInternal, "answered 500 Internal Server Error"},
		{401, "application/problem+json", `{"detail":"no token"}`, api.CodeUnauthenticated, "no token"},
		{302, "text/plain", "", api.CodeInternal, "answered 302 Found"},
		{418, "text/plain", "", api.CodeInternal, "answered 418 I'm a teapot"},
	} {
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.Header().Set("Content-Type", tc.kind)
			w.WriteHeader(tc.status)
			_, _ = w.Write([]byte(tc.body))
		})
		c, _ := newClient(t, Config{Endpoints: []string{u}})
		_, err := c.Node(t.Context())
		if api.CodeOf(err) != tc.code || !strings.HasSuffix(err.Error(), tc.message) {
			t.Errorf("%d %s: got %q (%s), want %q (%s)", tc.status, tc.body, err, api.CodeOf(err), tc.message, tc.code)
		}
	}
}

func TestRetries(t *testing.T) {
	busy := api.Errorf(api.CodeUnavailable, "no leader")
	limited := &api.Error{Code: api.CodeTooManyRequests, Message: "slow down", RetryAfter: api.Seconds(2)}
	for _, tc := range []struct {
		name  string
		err   *api.Error
		post  bool // a call that must not be done twice
		calls int64
		waits []time.Duration // nil: don't look
	}{
		{name: "503", err: busy, calls: 3},
		{name: "429", err: limited, calls: 3, waits: []time.Duration{2 * time.Second, 2 * time.Second}},
		{name: "404", err: api.Errorf(api.CodeNotFound, "no such service"), calls: 1},
		{name: "disk full", err: api.Errorf(api.CodeDiskFull, "no space"), calls: 1},
		{name: "504", err: api.Errorf(api.CodeTimeout, "the write may have happened"), calls: 3},
		{name: "not idempotent", err: busy, post: true, calls: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var calls, notices atomic.Int64
			u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				writeProblem(w, tc.err)
			})
			c, rec := newClient(t, Config{Endpoints: []string{u}, Attempts: 3, Notify: func(error, time.Duration) { notices.Add(1) }})
			var err error
			if tc.post {
				_, err = c.CreateToken(t.Context(), api.TokenRequest{})
			} else {
				_, err = c.Node(t.Context())
			}
			if !errors.Is(err, &api.Error{Code: tc.err.Code}) || calls.Load() != tc.calls || notices.Load() != tc.calls-1 {
				t.Errorf("got %v after %d calls, %d notices; want %s after %d", err, calls.Load(), notices.Load(), tc.err.Code, tc.calls)
			}
			if tc.waits != nil && !reflect.DeepEqual(rec.waits(), tc.waits) {
				t.Errorf("slept %v, want %v", rec.waits(), tc.waits)
			}
		})
	}
}

func TestRetrySucceeds(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(503) // a proxy in front, without a problem document
			return
		}
		writeJSON(w, 200, api.Node{Name: "n1"})
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}, Backoff: time.Second, MaxBackoff: 2 * time.Second})
	n, err := c.Node(t.Context())
	if err != nil || n.Name != "n1" {
		t.Fatalf("got %+v, %v", n, err)
	}
	for i, w := range rec.waits() {
		if most := time.Second << i; w < most/2 || w > most {
			t.Errorf("wait %d is %s, want %s to %s", i, w, most/2, most)
		}
	}
}

func TestNoRetryBeyondTheDeadline(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	})
	c, rec := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := c.Node(ctx)
	if api.CodeOf(err) != api.CodeUnavailable || len(rec.waits()) != 0 {
		t.Fatalf("got %v after waits %v, want the 503 at once", err, rec.waits())
	}
}

func TestRetryAfterDate(t *testing.T) {
	h := http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Retry-After": {"Mon, 02 Jan 2006 15:04:35 GMT"}}
	if got := retryAfter(h); got != api.Seconds(30) {
		t.Errorf("got %s, want 30s", got)
	}
	for _, bad := range []string{"", "-1", "soon", "99999999999999999999"} {
		if got := retryAfter(http.Header{"Retry-After": {bad}}); got != 0 {
			t.Errorf("%q: got %s, want 0", bad, got)
		}
	}
}

func TestFailOver(t *testing.T) {
	var calls atomic.Int64
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		writeJSON(w, 200, api.CreatedToken{})
	})
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	c, rec := newClient(t, Config{Endpoints: []string{refusing(t), busy, up}})
	if _, err := c.Node(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Endpoint() != up || len(rec.waits()) != 0 {
		t.Errorf("settled on %s after waits %v, want %s at once", c.Endpoint(), rec.waits(), up)
	}

	// A dial error is safe to fail over from whatever the call, an answer is not.
	c, _ = newClient(t, Config{Endpoints: []string{refusing(t), up}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); err != nil {
		t.Errorf("behind a dial error: %v", err)
	}
	c, _ = newClient(t, Config{Endpoints: []string{busy, up}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("behind a 503: got %v, want unavailable", err)
	}
}

func TestUnreachable(t *testing.T) {
	url := refusing(t)
	c, rec := newClient(t, Config{Endpoints: []string{url}, Attempts: 3})
	_, err := c.Node(t.Context())
	un, ok := errors.AsType[*UnreachableError](err)
	if !ok || un.Endpoint != url || len(rec.waits()) != 2 {
		t.Fatalf("got %v after waits %v, want unreachable after 2", err, rec.waits())
	}
	_, err = c.CreateToken(t.Context(), api.TokenRequest{})
	if _, ok := errors.AsType[*UnreachableError](err); !ok || len(rec.waits()) != 2 {
		t.Fatalf("not idempotent: got %v after waits %v", err, rec.waits())
	}
}

func TestBrokenConnection(t *testing.T) {
	var calls atomic.Int64
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, 200, api.CreatedToken{})
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	if _, err := c.CreateToken(t.Context(), api.TokenRequest{}); err == nil || calls.Load() != 1 {
		t.Errorf("got %v after %d calls, want one call and its error", err, calls.Load())
	}
	calls.Store(0)
	if _, err := c.Spawn(t.Context(), api.Ref{Service: "a", ID: "b"}); err != nil {
		t.Errorf("idempotent: %v", err)
	}
}

// TestUnsettled: what a call waits for may take longer than its server waits. A caller that
// persists asks again; it compares afterwards.
func TestUnsettled(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		var calls atomic.Int64
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				writeProblem(w, api.Errorf(api.CodeTimeout, "not up in time"))
				return
			}
			writeJSON(w, 200, api.Instance{})
		})
		c, _ := newClient(t, Config{Endpoints: []string{u}, Persistent: persistent})
		_, err := c.Spawn(t.Context(), api.Ref{Service: "a", ID: "b"})
		if (err == nil) != persistent || (calls.Load() == 2) != persistent {
			t.Errorf("persistent %t: got %v after %d calls", persistent, err, calls.Load())
		}
	}
}

func TestContextEnds(t *testing.T) {
	began := make(chan struct{})
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})
	c, _ := newClient(t, Config{Endpoints: []string{u}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := c.Node(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}

	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c, _ = newClient(t, Config{Endpoints: []string{slow}, Timeout: time.Millisecond})
	if _, err := c.Node(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
}
