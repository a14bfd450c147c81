package httpapi

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
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

var roles = []string{"", "bad token", "tenant alice", "tenant bob", "admin", "local"}

// expect is what the policy is to answer: the table test's own words for it.
func expect(access auth.Access, role, object string) (status int) {
	switch {
	case access == auth.AccessPublic, role == "admin", role == "local":
		return 200
	case role == "", role == "bad token":
		return 401
	case access == auth.AccessAdmin:
		return 403
	case object != "" && role != "tenant "+object:
		return 404
	default:
		return 200
	}
}

// bodies that the endpoints accept.
var goodBodies = map[string]string{
	"putService":  `{"command":"serve --fast"}`,
	"putInstance": `{"weight":7}`,
	"setWeight":   `{"weight":7}`,
	"spawn":       `{"process":"notes","id":"carol"}`,
	"deploy":      `{"process":"notes","version":"v2"}`,
	"route":       `{"process":"notes","from":"bob","to":"alice"}`,
	"createToken": `{"tenant":"carol"}`,
	"putToken":    `{"tenant":"bob","description":"other"}`,
	"upgrade":     `{}`,
	"putFleet":    `{"replicas":2}`,
	"putRoute":    `{"hosts":["shop.test"],"backends":[{"service":"notes"}]}`,
	"putNode":     `{"eligibility":"draining"}`,
	"plan":        `{"drain":["one"]}`,

	"createJoinToken": `{"expires_in":"1h"}`,
	"restoreSnapshot": "a snapshot",
}

// goodPath fills in what there is.
var goodPath = strings.NewReplacer(
	"{name}", "notes", "{instance}", "notes:alice", "{fleet}", "notes:many", "{node}", "two",
	"{version}", "1.2.3", "{os}", "linux", "{arch}", "amd64", "{host}", "localhost:8443", "{document}", "1.2.3.json", "{file}", "a.zip",
)

// TestRoutesByRole tries every endpoint as everybody. What is let through must work;
// what is not must change nothing.
func TestRoutesByRole(t *testing.T) {
	for _, e := range table(false) {
		for _, id := range []string{"alice", "bob"} {
			path := strings.NewReplacer("{instance}", "notes:"+id, "{id}", "bbbbbbbbbbbb").Replace(e.path)
			path = goodPath.Replace(path)
			object := ""
			if strings.Contains(e.path, "{instance}") {
				object = id
			} else if id == "bob" {
				continue // names no instance: once is enough
			}
			for _, role := range roles {
				t.Run(e.method+" "+path+" as "+role, func(t *testing.T) {
					testRouteByRole(t, &e, path, role, object)
				})
			}
		}
	}
}

func testRouteByRole(t *testing.T, e *endpoint, path, role, object string) {
	f := newFixture(t, func(c *Config) {
		c.Upgrade = func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error) {
			return api.UpgradeResult{PID: 1}, nil
		}
	})
	id := tokenID("tenant bob")
	if strings.HasPrefix(path, "/api/join-tokens") {
		id = firstJoin
	}
	r := request(role, e.method, strings.Replace(path, "bbbbbbbbbbbb", id, 1), goodBodies[e.name])
	if e.takes != "" {
		r.Header.Set("Content-Type", e.takes)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if role == "local" {
		ctx = localPeer(ctx, t)
	}
	if e.media == mediaSSE {
		cancel() // ends as soon as it has begun
	}
	before := f.cluster.View().Index()
	w := f.do(r.WithContext(ctx))
	want := expect(e.access, role, object)
	switch got := w.Code; {
	case want == 200 && (got < 200 || got > 299), want != 200 && got != want:
		t.Fatalf("got %d %s, want %d", got, w.Body, want)
	case want != 200 && f.cluster.View().Index() != before:
		t.Fatal("refused, and yet the state changed")
	}
	if want != 200 {
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != want || w.Header().Get("Content-Type") != api.ProblemType {
			t.Errorf("got %s %s, want a problem", w.Header().Get("Content-Type"), w.Body)
		}
	}
	if w.Header().Get(api.HeaderIndex) == "" {
		t.Error("no index in the answer")
	}
	if strings.Contains(w.Body.String()+f.audit.String(), sesame) {
		t.Errorf("the value of a secret variable is told: %s%s", w.Body, f.audit)
	}
	if e.mutates() != strings.Contains(f.audit.String(), `"msg":"audit"`) {
		t.Errorf("audit log %q", f.audit)
	}
}

func tokenID(role string) string { return strings.Split(secrets[role], "_")[1] }

// localPeer returns the context of a request that came over the admin socket.
func localPeer(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	dir := t.TempDir()
	ln, err := auth.Listen(ctx, filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, ln)
	client, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, client)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, conn)
	return auth.ConnContext(ctx, conn)
}

// TestTableIsComplete holds the table against REFERENCE's list and the contract's.
func TestTableIsComplete(t *testing.T) {
	want := []string{
		"GET /", "GET /health", "GET /metrics", "GET /api/openapi.json", "GET /api/telemetry", "GET /api/tls/status", "GET /api/node",
		"POST /api/upgrade", "GET /api/services", "GET /api/services/{name}", "PUT /api/services/{name}", "DELETE /api/services/{name}",
		"GET /api/instances", "GET /api/instances/{instance}", "PUT /api/instances/{instance}", "DELETE /api/instances/{instance}",
		"POST /api/instances/{instance}/restart", "PUT /api/instances/{instance}/weight", "GET /api/instances/{instance}/health",
		"GET /api/instances/{instance}/storage", "POST /api/instances/spawn", "POST /api/deploy", "POST /api/route", "GET /api/logs",
		"GET /api/logs/stream", "GET /api/events", "GET /api/tokens", "POST /api/tokens", "PUT /api/tokens/{id}", "DELETE /api/tokens/{id}",
		"GET /api/cluster", "GET /api/nodes", "GET /api/nodes/{node}", "PUT /api/nodes/{node}", "DELETE /api/nodes/{node}",
		"POST /api/nodes/{node}/promote", "POST /api/plan", "GET /api/fleets", "GET /api/fleets/{fleet}", "PUT /api/fleets/{fleet}",
		"DELETE /api/fleets/{fleet}", "GET /api/join-tokens", "POST /api/join-tokens", "DELETE /api/join-tokens/{id}",
		"GET /api/secret", "POST /api/secret/rotate", "GET /api/cluster/snapshot", "POST /api/cluster/snapshot",
		"GET /api/routes", "GET /api/routes/{name}", "PUT /api/routes/{name}", "DELETE /api/routes/{name}",
		"GET /api/cluster/ca", "GET /.well-known/terraform.json", "GET /terraform/providers/v1/tenement/ten/versions",
		"GET /terraform/providers/v1/tenement/ten/{version}/download/{os}/{arch}", "GET /terraform/files/{file}",
		"GET /terraform/mirror/{host}/tenement/ten/index.json", "GET /terraform/mirror/{host}/tenement/ten/{document}",
	}
	var got []string
	tenant, public := []string{}, []string{}
	for _, e := range table(false) {
		got = append(got, e.method+" "+e.path)
		switch e.access {
		case auth.AccessTenant:
			tenant = append(tenant, e.name)
		case auth.AccessPublic:
			public = append(public, e.name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if want := []string{"listLogs", "streamLogs", "listInstances", "getInstance", "getHealth"}; !slices.Equal(tenant, want) {
		t.Errorf("open to tenants: %q, want %q", tenant, want)
	}
	if want := []string{
		"getLanding", "getServerHealth", "getOpenAPI", "getCA", "discoverRegistry", "listProviderVersions", "getProviderPackage",
		"getProviderFile", "listMirrorVersions", "getMirrorArchives",
	}; !slices.Equal(public, want) {
		t.Errorf("public: %q, want %q", public, want)
	}
}

func TestTenantSeesOnlyItsOwn(t *testing.T) {
	f := newFixture(t)
	f.logs.entries = []api.LogEntry{{Service: "notes", Instance: "alice"}, {Service: "notes", Instance: "bob"}}
	for _, tc := range []struct{ path, want string }{
		{"/api/instances", "filed:alice notes:alice"},
		{"/api/instances?service=notes", "notes:alice"},
		{"/api/instances?service=nothing", ""},
		{"/api/logs", "notes:alice"},
		{"/api/logs?id=alice", "notes:alice"},
	} {
		w := f.do(request("tenant alice", "GET", tc.path, ""))
		var list []struct{ Service, ID string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list == nil {
			t.Fatalf("%s: got %d %s", tc.path, w.Code, w.Body)
		}
		var got []string
		for _, i := range list {
			got = append(got, i.Service+":"+i.ID)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %q, want %q", tc.path, got, tc.want)
		}
	}
	// What is somebody else's looks exactly like what does not exist.
	for _, path := range []string{"/api/instances/notes:%s", "/api/instances/notes:%s/health", "/api/logs?id=%s", "/api/logs/stream?id=%s"} {
		there := f.do(request("tenant alice", "GET", strings.Replace(path, "%s", "bob", 1), ""))
		absent := f.do(request("tenant alice", "GET", strings.Replace(path, "%s", "nobody", 1), ""))
		if there.Code != 404 || absent.Code != 404 || there.Body.String() != absent.Body.String() {
			t.Errorf("%s: got %d %s and %d %s", path, there.Code, there.Body, absent.Code, absent.Body)
		}
	}
}

func TestHead(t *testing.T) {
	f := newFixture(t)
	for _, e := range table(false) {
		if e.method != "GET" {
			continue
		}
		path := goodPath.Replace(e.path)
		srv := httptest.NewServer(f)
		req, err := http.NewRequest("HEAD", srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets["admin"])
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		closeNow(t, resp.Body)
		if resp.StatusCode != 200 {
			t.Errorf("HEAD %s: got %d", path, resp.StatusCode)
		}
		srv.Close()
	}
}

func TestMetricsCanBePublic(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MetricsPublic = true })
	w := f.do(request("", "GET", "/metrics", ""))
	if w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	w = f.do(request("", "GET", "/metrics", ""))
	if !strings.Contains(w.Body.String(), `tenement_api_requests_total{action="getMetrics",status="200"} 1`) {
		t.Errorf("got %s", w.Body)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	var ready error
	f := newFixture(t, func(c *Config) { c.Ready = func() error { return ready } })
	for _, tc := range []struct {
		ready error
		want  int
	}{
		{nil, 200},
		{errors.New("recovering"), 503},
		{&api.Error{Code: api.CodeDiskFull, Message: "disk full"}, 503},
	} {
		ready = tc.ready
		if w := f.do(request("", "GET", "/health", "")); w.Code != tc.want {
			t.Errorf("ready %v: got %d %s, want %d", tc.ready, w.Code, w.Body, tc.want)
		}
	}
	ready = nil
	f.Close()
	if w := f.do(request("", "GET", "/health", "")); w.Code != 503 {
		t.Errorf("closed: got %d, want 503", w.Code)
	}
}

// TestAdminSocket serves the API as ten does on its admin socket, and shuts down while a
// query is blocking.
func TestAdminSocket(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "ten.sock")
	ln, err := auth.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(f)
	closeNow(t, srv.Listener)
	srv.Listener = ln
	srv.Config.ConnContext = auth.ConnContext
	srv.Start()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	for range 20 { // a bad token neither matters nor locks out
		req, err := http.NewRequest("GET", "http://x/api/tokens", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer wrong")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		closeNow(t, resp.Body)
		if resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	answered, waits := make(chan int, 1), f.cluster.nextWait()
	go func() {
		resp, err := client.Get("http://x/api/services?index=1000&wait=10m")
		if err != nil {
			answered <- 0
			return
		}
		closeNow(t, resp.Body)
		answered <- resp.StatusCode
	}()
	<-waits
	f.Close()
	if got := <-answered; got != 200 {
		t.Errorf("blocking query at shutdown: got %d, want 200", got)
	}
	srv.Close()
}
