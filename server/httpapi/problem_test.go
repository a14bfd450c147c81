package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// badInputs is one request for each thing that can be wrong with one.
var badInputs = []struct {
	name, method, path, body string
	headers                  []string
}{
	{name: "no such endpoint", method: "GET", path: "/api/nothing"},
	{name: "no such method", method: "PATCH", path: "/api/services/notes", body: "{}"},
	{name: "unknown field", method: "PUT", path: "/api/services/x", body: `{"comand":"a","env":{"A":"b"}}`},
	{name: "unknown field like no other", method: "POST", path: "/api/instances/spawn", body: `{"process":"notes","id":"a","force":true}`},
	{name: "field in another case", method: "PUT", path: "/api/services/x", body: `{"Command":"a"}`},
	{name: "field twice", method: "PUT", path: "/api/services/x", body: `{"command":"a","command":"b"}`},
	{name: "wrong types", method: "PUT", path: "/api/services/x", body: `{"command":1,"args":"x","idle_timeout":"soon","memory_limit":-1,"vcpus":1.5,"spawn_on_request":"yes","created_at":"today"}`},
	{name: "wrong type of a secret", method: "PUT", path: "/api/services/x", body: `{"command":"a","env":{"KEY":["hunter2"]}}`},
	{name: "many wrong values", method: "PUT", path: "/api/services/x", body: `{"health":"ping","isolation":"jail","restart":"maybe","max_instances":-1}`},
	{name: "name against the path", method: "PUT", path: "/api/services/x", body: `{"name":"y","command":"a"}`},
	{name: "bad name in the path", method: "PUT", path: "/api/services/Not_A%20Name", body: `{"command":"a"}`},
	{name: "name that ten uses itself", method: "PUT", path: "/api/services/api_token", body: `{"command":"a"}`},
	{name: "declared in the file", method: "PUT", path: "/api/services/filed", body: `{"command":"a"}`},
	{name: "delete what the file declares", method: "DELETE", path: "/api/services/filed"},
	{name: "purge what the file declares", method: "DELETE", path: "/api/instances/filed:alice?purge"},
	{name: "no body", method: "PUT", path: "/api/services/x"},
	{name: "empty body", method: "PUT", path: "/api/services/x", headers: []string{"Content-Type", "application/json"}},
	{name: "not JSON", method: "PUT", path: "/api/services/x", body: "{\"command\": \"a\",\n  nonsense}"},
	{name: "not an object", method: "PUT", path: "/api/services/x", body: `[1,2]`},
	{name: "trailing garbage", method: "PUT", path: "/api/services/x", body: `{"command":"a"} {"command":"b"}`},
	{name: "cut off", method: "PUT", path: "/api/services/x", body: `{"command":"a`},
	{name: "not UTF-8", method: "PUT", path: "/api/services/x", body: "{\"command\":\"\xff\"}"},
	{name: "too large", method: "PUT", path: "/api/services/x", body: `{"command":"` + strings.Repeat("a", maxBody) + `"}`},
	{name: "form instead of JSON", method: "PUT", path: "/api/services/x", body: `command=a`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}},
	{name: "stale revision", method: "PUT", path: "/api/services/notes", body: `{"command":"a"}`, headers: []string{"If-Match", `"1"`}},
	{name: "revision of nothing", method: "PUT", path: "/api/services/x", body: `{"command":"a"}`, headers: []string{"If-Match", "*"}},
	{name: "created already", method: "PUT", path: "/api/services/notes", body: `{"command":"a"}`, headers: []string{"If-Match", `"0"`}},
	{name: "weak etag", method: "DELETE", path: "/api/services/notes", headers: []string{"If-Match", `W/"1"`}},
	{name: "If-Match where there is none", method: "POST", path: "/api/route", body: `{}`, headers: []string{"If-Match", `"1"`}},
	{name: "unknown parameter", method: "GET", path: "/api/instances?sevice=notes"},
	{name: "parameter twice", method: "GET", path: "/api/instances?service=a&service=b"},
	{name: "bad parameters", method: "GET", path: "/api/instances?live=perhaps&index=-1&wait=soon&service=A"},
	{name: "bad query", method: "GET", path: "/api/instances?a=%zz"},
	{name: "wait without index", method: "GET", path: "/api/services?wait=5s"},
	{name: "wait too long", method: "GET", path: "/api/services?index=1&wait=11m"},
	{name: "unknown service, nearly", method: "GET", path: "/api/services/note"},
	{name: "unknown service", method: "GET", path: "/api/services/other"},
	{name: "unknown instance", method: "GET", path: "/api/instances/notes:nobody"},
	{name: "not a ref", method: "GET", path: "/api/instances/notes"},
	{name: "bad ref", method: "PUT", path: "/api/instances/notes:A", body: `{}`},
	{name: "bad escape in the path", method: "GET", path: "/api/instances/notes:a%2Fb"},
	{name: "instance of an unknown service", method: "PUT", path: "/api/instances/note:a", body: `{}`},
	{name: "bad instance", method: "PUT", path: "/api/instances/notes:a", body: `{"desired":"up","weight":101}`},
	{name: "instance against the path", method: "PUT", path: "/api/instances/notes:a", body: `{"service":"notes","id":"b"}`},
	{name: "hold and purge", method: "DELETE", path: "/api/instances/notes:alice?hold&purge"},
	{name: "no weight", method: "PUT", path: "/api/instances/notes:alice/weight", body: `{}`},
	{name: "weight too large", method: "PUT", path: "/api/instances/notes:alice/weight", body: `{"weight":101}`},
	{name: "weight of nothing", method: "PUT", path: "/api/instances/notes:nobody/weight", body: `{"weight":1}`},
	{name: "spawn nothing", method: "POST", path: "/api/instances/spawn", body: `{}`},
	{name: "spawn of an unknown service", method: "POST", path: "/api/instances/spawn", body: `{"process":"nots","id":"a"}`},
	{name: "deploy for too long", method: "POST", path: "/api/deploy", body: `{"process":"notes","version":"v1","timeout":"1h"}`},
	{name: "deploy with too much weight", method: "POST", path: "/api/deploy", body: `{"process":"notes","version":"v1","weight":-1}`},
	{name: "route to itself", method: "POST", path: "/api/route", body: `{"process":"notes","from":"bob","to":"bob"}`},
	{name: "route to nothing", method: "POST", path: "/api/route", body: `{"process":"notes","from":"alice","to":"v9"}`},
	{name: "route to what sleeps", method: "POST", path: "/api/route", body: `{"process":"notes","from":"alice","to":"bob"}`},
	{name: "token of no tenant", method: "POST", path: "/api/tokens", body: `{"role":"tenant"}`},
	{name: "token of an unknown role", method: "POST", path: "/api/tokens", body: `{"role":"root"}`},
	{name: "token that expired already", method: "POST", path: "/api/tokens", body: `{"expires_at":"2020-01-01T00:00:00Z"}`},
	{name: "token that expires twice", method: "POST", path: "/api/tokens", body: `{"expires_at":"2030-01-01T00:00:00Z","expires_in":"1h"}`},
	{name: "token that lives backwards", method: "POST", path: "/api/tokens", body: `{"expires_in":-5}`},
	{name: "token with a bad id", method: "PUT", path: "/api/tokens/0123", body: `{}`},
	{name: "token without a secret", method: "PUT", path: "/api/tokens/0123456789ab", body: `{"tenant":"bob"}`},
	{name: "token with half a secret", method: "PUT", path: "/api/tokens/0123456789ab", body: `{"sha256":"AQI="}`},
	{name: "token that does not exist", method: "PUT", path: "/api/tokens/0123456789ab", body: `{}`, headers: []string{"If-Match", `"3"`}},
	{name: "no such token", method: "DELETE", path: "/api/tokens/0123456789ab"},
	{name: "logs of a bad level", method: "GET", path: "/api/logs?level=debug&limit=10001"},
	{name: "upgrade to a relative path", method: "POST", path: "/api/upgrade", body: `{"path":"ten"}`},
	{name: "upgrade where there is none", method: "POST", path: "/api/upgrade", body: `{}`},
}

func TestProblems(t *testing.T) {
	var out bytes.Buffer
	for _, in := range badInputs {
		f := newFixture(t)
		before := f.cluster.View().Index()
		w := f.do(request("admin", in.method, in.path, in.body, in.headers...))
		if f.cluster.View().Index() != before {
			t.Errorf("%s: the state changed", in.name)
		}
		if w.Header().Get("Content-Type") != api.ProblemType || w.Header().Get(api.HeaderIndex) == "" {
			t.Errorf("%s: headers %v", in.name, w.Header())
		}
		if strings.Contains(w.Body.String()+f.audit.String(), "hunter2") {
			t.Errorf("%s: a secret is told", in.name)
		}
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code {
			t.Errorf("%s: got %s, %v", in.name, w.Body, err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		path := in.path
		fmt.Fprintf(&out, "# %s\n%s %s\n%s\n", in.name, in.method, path, clip(strings.TrimSpace(in.body)))
		fmt.Fprintf(&out, "→ %d\n%s\n", w.Code, pretty.String())
	}
	golden(t, "problems.golden", out.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d: got %q, want %q; go test -update writes it", path, i+1, gotLines[i], wantLines[i])
		}
	}
	if len(gotLines) != len(wantLines) {
		t.Errorf("%s: %d lines, want %d; go test -update writes it", path, len(gotLines), len(wantLines))
	}
}

func TestAuthProblems(t *testing.T) {
	f := newFixture(t)
	w := f.do(request("", "GET", "/api/instances", ""))
	if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("no token: got %d %v", w.Code, w.Header())
	}
	for i := range 12 {
		want := 401
		if i >= 10 {
			want = 429
		}
		w := f.do(request("bad token", "GET", "/api/instances", ""))
		if w.Code != want {
			t.Errorf("attempt %d: got %d %s, want %d", i, w.Code, w.Body, want)
		}
		if want == 429 && w.Header().Get("Retry-After") != "60" {
			t.Errorf("attempt %d: Retry-After %q", i, w.Header().Get("Retry-After"))
		}
	}
	if w := f.do(request("admin", "GET", "/api/instances", "")); w.Code != 429 {
		t.Errorf("a good token from a locked out address: got %d, want 429", w.Code)
	}
	if w := f.do(request("bad token", "GET", "/health", "")); w.Code != 200 {
		t.Errorf("public endpoint: got %d, want 200", w.Code)
	}
	other := request("admin", "GET", "/api/instances", "", "X-Forwarded-For", "192.0.2.1", "X-Real-IP", "192.0.2.1")
	other.RemoteAddr = "198.51.100.7:1234"
	if w := f.do(other); w.Code != 200 {
		t.Errorf("another address: got %d, want 200", w.Code)
	}
}

// TestBrokenCluster shows that what is not meant for clients stays in the log.
func TestBrokenCluster(t *testing.T) {
	for name, cluster := range map[string]func(*fakeCluster) Cluster{
		"plain error": func(c *fakeCluster) Cluster {
			return broken{c, func() error { return errors.New("disk sda1 is on fire") }}
		},
		"internal": func(c *fakeCluster) Cluster {
			return broken{c, func() error { return api.Errorf(api.CodeInternal, "sda1") }}
		},
		"panic": func(c *fakeCluster) Cluster { return broken{c, func() error { panic("sda1") }} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Cluster = cluster(c.Cluster.(*fakeCluster)) })
			w := f.do(request("admin", "PUT", "/api/services/x", `{"command":"a"}`))
			if w.Code != 500 || strings.Contains(w.Body.String(), "sda1") || w.Header().Get("Content-Type") != api.ProblemType {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if log := f.audit.String(); !strings.Contains(log, "sda1") || !strings.Contains(log, `"result":"internal"`) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

type broken struct {
	*fakeCluster
	fail func() error
}

func (b broken) PutService(context.Context, *api.Service, *uint64) (*api.Service, error) {
	return nil, b.fail()
}

func FuzzRequest(f *testing.F) {
	for i, in := range badInputs {
		if len(in.body) < 1000 {
			f.Add(uint8(i), "notes", "alice", "", in.body)
		}
	}
	for _, body := range goodBodies {
		f.Add(uint8(3), "notes", "alice", "index=1&wait=0", body)
	}
	var rows []endpoint
	for _, e := range table(false) {
		if e.media != mediaSSE {
			rows = append(rows, e)
		}
	}
	fx := newFixture(f, func(c *Config) {
		c.Upgrade = func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error) { return api.UpgradeResult{}, nil }
		c.Rand = rand.Reader
	})
	fx.Close() // nothing waits
	begin := *fx.cluster.view
	f.Fuzz(func(t *testing.T, row uint8, service, id, query, body string) {
		view := begin
		fx.cluster.view = &view // every input meets the same state
		fx.cluster.view.changed = make(chan struct{})
		fx.cluster.events = nil
		fx.audit.take()
		e := rows[int(row)%len(rows)]
		path := strings.NewReplacer("{name}", service, "{instance}", service+":"+id, "{id}", id).Replace(e.path)
		r := request("admin", e.method, "/", body)
		r.URL.Path, r.URL.RawQuery = path, query
		w := httptest.NewRecorder()
		fx.ServeHTTP(w, r)
		if log := fx.audit.take(); w.Code >= 500 && w.Code != http.StatusServiceUnavailable || strings.Contains(log, "panicked") {
			t.Fatalf("%s %q ?%q %q: got %d %s\n%s", e.method, path, query, body, w.Code, w.Body, log)
		}
		if w.Code >= 400 {
			var p api.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" {
				t.Fatalf("%s %q: got %s", e.method, path, w.Body)
			}
		}
	})
}
