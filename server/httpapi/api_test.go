package httpapi

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestServiceLife(t *testing.T) {
	f := newFixture(t)
	var s api.Service
	h := f.admin(t, 200, "PUT", "/api/services/web", `{"command":"serve --fast","idle_timeout":60,"env":{"A":"b"},"source":"file","revision":999}`, &s)
	if s.Command != "serve" || len(s.Args) != 1 || s.IdleTimeout != api.Seconds(60) || s.Source != api.SourceAPI || s.Revision == 999 {
		t.Errorf("got %+v", s)
	}
	etag := h.Get("ETag")
	if etag != strconv.Quote(uintText(s.Revision)) || h.Get(api.HeaderIndex) != uintText(s.Revision) {
		t.Errorf("ETag %s, index %s, revision %d", etag, h.Get(api.HeaderIndex), s.Revision)
	}
	again := f.admin(t, 200, "PUT", "/api/services/web", `{"command":"serve","args":["--fast"],"idle_timeout":"1m","env":{"A":"b"}}`, nil)
	if again.Get("ETag") != etag {
		t.Error("putting the same again must change nothing")
	}
	var got api.Service
	if h := f.admin(t, 200, "GET", "/api/services/web", "", &got); h.Get("ETag") != etag || !got.Equal(&s) {
		t.Errorf("got %+v", got)
	}
	h = f.admin(t, 200, "PUT", "/api/services/web", `{"command":"serve"}`, nil, "If-Match", etag)
	f.admin(t, 412, "PUT", "/api/services/web", `{"command":"serve again"}`, nil, "If-Match", etag)
	f.admin(t, 412, "DELETE", "/api/services/web", "", nil, "If-Match", etag)
	f.admin(t, 204, "DELETE", "/api/services/web", "", nil, "If-Match", h.Get("ETag"))
	f.admin(t, 404, "GET", "/api/services/web", "", nil)
	f.admin(t, 404, "DELETE", "/api/services/web", "", nil)
	f.admin(t, 200, "PUT", "/api/services/web", `{"command":"serve"}`, nil, "If-Match", `"0"`)

	var list []api.Service
	f.admin(t, 200, "GET", "/api/services", "", &list)
	if len(list) != 3 || list[0].Name != "filed" || list[0].Env["KEY"] != "hunter2" {
		t.Errorf("got %+v", list)
	}
	if strings.Contains(f.audit.String(), "hunter2") {
		t.Error("an environment's value is in the log")
	}
}

func TestInstanceLife(t *testing.T) {
	f := newFixture(t)
	var i api.Instance
	h := f.admin(t, 200, "PUT", "/api/instances/notes:dora",
		`{"service":"notes","id":"dora","desired":"asleep","weight":7,"node":"elsewhere","generation":9,"observed":{"state":"failed"}}`, &i)
	if i.Desired != api.DesiredAsleep || i.EffectiveWeight() != 7 || i.Node != thisNode || i.Generation != 1 || i.Source != api.SourceAPI {
		t.Errorf("got %+v", i)
	}
	f.admin(t, 200, "PUT", "/api/instances/notes:dora/weight", `{"weight":0}`, &i, "If-Match", h.Get("ETag"))
	if i.EffectiveWeight() != 0 || i.Desired != api.DesiredAsleep {
		t.Errorf("got %+v", i)
	}
	f.admin(t, 412, "PUT", "/api/instances/notes:dora", `{}`, nil, "If-Match", h.Get("ETag"))
	f.admin(t, 200, "PUT", "/api/instances/notes%3Adora", `{}`, &i) // escaped
	if i.Desired != api.DesiredRunning || i.EffectiveWeight() != 100 {
		t.Errorf("got %+v", i)
	}
	f.admin(t, 200, "PUT", "/api/instances/filed:alice", `{"desired":"stopped"}`, &i)
	if i.Source != api.SourceFile || i.Desired != api.DesiredStopped {
		t.Errorf("what the file declares stays the file's: %+v", i)
	}
}

func TestFreshKnowledgeWins(t *testing.T) {
	f := newFixture(t)
	f.runtime.fresher[alice] = &api.Observed{State: api.StateBackoff, Reason: "exit 1", Generation: 1}
	f.runtime.fresher[bob] = &api.Observed{State: api.StateRunning, Generation: 7} // of another placement
	var i api.Instance
	f.admin(t, 200, "GET", "/api/instances/notes:alice", "", &i)
	if i.State() != api.StateBackoff {
		t.Errorf("got %+v", i)
	}
	var h api.Health
	f.admin(t, 200, "GET", "/api/instances/notes:alice/health", "", &h)
	if h.Healthy || h.State != api.StateBackoff || h.Reason != "exit 1" {
		t.Errorf("got %+v", h)
	}
	var live []api.Instance
	f.admin(t, 200, "GET", "/api/instances?live&service=notes", "", &live)
	if len(live) != 1 || live[0].ID != "alice" {
		t.Errorf("got %+v", live)
	}
	if stored, _ := f.cluster.View().Instance(alice); stored.State() != api.StateRunning {
		t.Error("the stored object was changed")
	}
}

func TestStorage(t *testing.T) {
	f := newFixture(t)
	var got api.Storage
	f.admin(t, 200, "GET", "/api/instances/notes:alice/storage", "", &got)
	want := api.Storage{Service: "notes", ID: "alice", Path: "/data/notes/alice", Used: 3 * api.MiB, Quota: 2 * api.MiB, Over: true, Persist: true}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A token of a secret that the client has made; its rights change, its secret does not.
func TestPutToken(t *testing.T) {
	f := newFixture(t)
	secret, id, hash, err := api.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := func(method string) int {
		return f.do(request("", method, "/api/services", "", "Authorization", "Bearer "+secret)).Code
	}
	put := func(status int, body string, headers ...string) (out api.Token) {
		t.Helper()
		w := f.do(request("admin", "PUT", "/api/tokens/"+id, body, headers...))
		if w.Code != status {
			t.Fatalf("got %d %s, want %d", w.Code, w.Body, status)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if as("GET") != 401 {
		t.Error("it is valid before it is put")
	}
	body, _ := json.Marshal(api.TokenPut{ExpiresIn: api.Duration(time.Hour), SHA256: hash[:]})
	made := put(200, string(body), "If-Match", `"0"`)
	if made.SHA256 != nil || made.Role != api.RoleAdmin || !made.ExpiresAt.Equal(f.now.Add(time.Hour)) || as("GET") != 200 {
		t.Errorf("made %+v", made)
	}
	put(200, string(body)) // again
	put(412, string(body), "If-Match", `"0"`)
	put(412, `{}`, "If-Match", fmt.Sprintf("%q", fmt.Sprint(made.Revision+100)))
	other := bytes.Repeat([]byte{7}, 32)
	body, _ = json.Marshal(api.TokenPut{SHA256: other})
	put(409, string(body))
	changed := put(200, `{"tenant":"alice","expires_in":"2h"}`)
	if changed.Role != api.RoleTenant || !changed.ExpiresAt.Equal(f.now.Add(2*time.Hour)) || as("GET") != 403 {
		t.Errorf("changed %+v", changed)
	}
}

func TestTokenLife(t *testing.T) {
	f := newFixture(t)
	var made api.CreatedToken
	f.admin(t, 201, "POST", "/api/tokens", `{"tenant":"dora","description":"laptop","expires_in":"1h"}`, &made)
	id, _, err := api.ParseSecret(made.Secret)
	if err != nil || id != made.ID || made.Role != api.RoleTenant || !made.ExpiresAt.Equal(f.now.Add(time.Hour)) || made.SHA256 != nil {
		t.Fatalf("got %+v, %v", made, err)
	}
	secrets := map[string]string{"Authorization": "Bearer " + made.Secret}
	as := func() int {
		return f.do(request("", "GET", "/api/instances", "", "Authorization", secrets["Authorization"])).Code
	}
	list := func() (out []api.Token) {
		w := f.do(request("admin", "GET", "/api/tokens", ""))
		if strings.Contains(w.Body.String(), "sha256") || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("told: %s", w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	find := func() *api.Token {
		for _, tok := range list() {
			if tok.ID == id {
				return &tok
			}
		}
		return nil
	}
	if tok := find(); tok == nil || !tok.LastUsedAt.IsZero() || tok.Description != "laptop" {
		t.Errorf("got %+v", tok)
	}
	if got := as(); got != 200 {
		t.Errorf("with the new token: got %d", got)
	}
	if tok := find(); tok == nil || !tok.LastUsedAt.Equal(f.now) {
		t.Errorf("got %+v", tok)
	}
	f.now = f.now.Add(time.Hour)
	if got := as(); got != 401 {
		t.Errorf("expired: got %d", got)
	}
	f.admin(t, 204, "DELETE", "/api/tokens/"+id, "", nil)
	if find() != nil {
		t.Error("still listed")
	}
	if strings.Contains(f.audit.String(), made.Secret[20:]) {
		t.Error("the secret is in the log")
	}
}

func TestAudit(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct {
		r    *http.Request
		want string
	}{
		{request("admin", "PUT", "/api/services/web", `{"command":"a"}`), `actor=admin token=ADMIN action=putService object=web result=ok index=21`},
		{request("admin", "DELETE", "/api/services/nope", ""), `actor=admin token=ADMIN action=deleteService object=nope result=not_found index=21`},
		{request("admin", "POST", "/api/instances/spawn", `{"process":"notes","id":"carol"}`), `actor=admin token=ADMIN action=spawn object=notes:carol result=ok index=23`},
		{request("admin", "POST", "/api/route", `{"process":"notes","from":"carol","to":"alice"}`), `actor=admin token=ADMIN action=route object=notes:carol to notes:alice result=ok index=24`},
		{request("admin", "POST", "/api/route", `{`), `actor=admin token=ADMIN action=route object=/api/route result=invalid index=24`},
		{request("tenant alice", "DELETE", "/api/instances/notes:alice", ""), `actor=tenant alice token=ALICE action=stopInstance object=notes:alice result=forbidden index=24`},
		{request("", "POST", "/api/tokens", `{}`), `actor=anonymous token= action=createToken object=/api/tokens result=unauthenticated index=24`},
		{request("admin", "GET", "/api/tokens", ""), ``},
	} {
		f.audit.take()
		f.do(tc.r)
		var got struct {
			Actor, Token, Action, Object, Result, Remote string
			Index                                        uint64
		}
		line := f.audit.String()
		if tc.want == "" {
			if line != "" {
				t.Errorf("%s %s: got %s", tc.r.Method, tc.r.URL, line)
			}
			continue
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		want := strings.NewReplacer("ADMIN", tokenID("admin"), "ALICE", tokenID("tenant alice")).Replace(tc.want)
		text := "actor=" + got.Actor + " token=" + got.Token + " action=" + got.Action + " object=" + got.Object + " result=" + got.Result + " index=" + uintText(got.Index)
		if text != want || got.Remote != "192.0.2.1" {
			t.Errorf("got  %s from %s\nwant %s", text, got.Remote, want)
		}
	}
}

func TestTelemetry(t *testing.T) {
	f := newFixture(t)
	f.admin(t, 200, "GET", "/api/node", "", nil)
	var got api.Telemetry
	f.admin(t, 200, "GET", "/api/telemetry", "", &got)
	if got.Node != thisNode || got.Services != 2 || got.Instances != 3 || got.ByState[api.StateRunning] != 1 ||
		got.ByState[api.StateAsleep] != 1 || got.ByState[api.StatePending] != 1 || got.Goroutines == 0 ||
		got.Metrics["tenement_api_requests_total"] != 1 || got.Metrics["tenement_api_request_seconds_count"] != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestLogs(t *testing.T) {
	f := newFixture(t)
	f.logs.entries = []api.LogEntry{{Seq: 1, Service: "notes", Instance: "alice", Message: "hi"}}
	var got []api.LogEntry
	f.admin(t, 200, "GET", "/api/logs?process=notes&id=alice&level=stdout&search=hi&limit=5&after=0", "", &got)
	want := api.LogQuery{Service: "notes", Instance: "alice", Level: api.Stdout, Search: "hi", Limit: 5}
	if len(got) != 1 || got[0].Message != "hi" || f.logs.queries[0] != want {
		t.Errorf("got %+v for %+v", got, f.logs.queries)
	}
	f.logs.entries = nil
	w := f.do(request("admin", "GET", "/api/logs", ""))
	if w.Body.String() != "[]\n" || f.logs.queries[1].Limit != defaultLogLimit {
		t.Errorf("got %q for %+v", w.Body, f.logs.queries[1])
	}
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("got no error")
	}
	f := newFixture(t)
	if _, err := New(f.cfg); err == nil {
		t.Error("metrics registered twice: got no error")
	}
}

func TestClosest(t *testing.T) {
	known := []string{"command", "health", "health_interval", "env", "id"}
	for word, want := range map[string]string{
		"comand": "command", "commnad": "command", "heatlh": "health", "envs": "env", "ids": "id",
		"xyz": "", "": "", "help": "", strings.Repeat("a", 200): "",
	} {
		if got := closest(word, known); got != want {
			t.Errorf("closest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{"short": "short", "aé": "aé", "ééé": "éé…", "abcdef": "abcde…", "\xff": "\uFFFD"} {
		if got := clipTo(in, 5); got != want {
			t.Errorf("clipTo(%q) = %q, want %q", in, got, want)
		}
	}
}
