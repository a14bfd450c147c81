package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
