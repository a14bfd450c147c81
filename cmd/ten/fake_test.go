package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// noon is when the tests run.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const goodToken = "ten_0123456789ab_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// fakeServer answers the HTTP API from memory, as far as the commands use it. Instances
// with some ids misbehave: broken, slow, busy.
type fakeServer struct {
	mu        sync.Mutex
	index     uint64
	instances []*api.Instance
	services  []*api.Service
	tokens    []*api.Token
	entries   []api.LogEntry
	events    []api.Event
	members   []api.Member
	stale     bool
	fleets    []*api.Fleet
	routes    []*api.RouteStatus
	joins     []*api.JoinToken
	plan      []api.Decision
	secret    api.SecretStatus
	restored  string
	onPoll    func()   // called by a blocking query of instances instead of hangUp
	asked     []string // method path?query of each request
	nextToken int
	hangUp    func(r *http.Request) // called by streams and blocking queries, to end them
}

func number[T any](v T) *T { return &v }

func newFakeServer() *fakeServer {
	running := func(id string, pid, weight int, since time.Duration) *api.Instance {
		return &api.Instance{
			Service: "notes", ID: id, Desired: api.DesiredRunning, Weight: &weight, Source: api.SourceFile, Revision: 11,
			Node: "n1", Generation: 1,
			Observed: &api.Observed{
				State: api.StateRunning, PID: pid, Since: noon.Add(-since), Generation: 1,
				Endpoint: &api.Endpoint{Network: "tcp", Address: "127.0.0.1:" + strconv.Itoa(30000+pid%1000)},
			},
		}
	}
	sick := running("carol-of-the-long-name", 4244, 50, 90*time.Second)
	sick.Observed.State, sick.Observed.Restarts = api.StateBackoff, 2
	sick.Observed.Reason = "ended with exit code 1; starts again in 4s\x1b[31m"
	sleeper := &api.Instance{
		Service: "notes", ID: "dave", Desired: api.DesiredAsleep, Weight: number(100), Source: api.SourceRequest, Revision: 12,
		Node: "n1", Generation: 1, Observed: &api.Observed{State: api.StateAsleep, Since: noon.Add(-30 * time.Hour), Generation: 1},
	}
	fresh := &api.Instance{Service: "web", ID: "x", Desired: api.DesiredRunning, Source: api.SourceAPI, Revision: 13}
	entry := func(seq uint64, id string, level api.Stream, text string) api.LogEntry {
		return api.LogEntry{Seq: seq, Time: noon.Add(time.Duration(seq) * time.Second), Service: "notes", Instance: id, Level: level, Message: text}
	}
	notes := &api.Service{Name: "notes", Command: "python3 app.py", IdleTimeout: api.Seconds(300), Source: api.SourceFile, Revision: 10, CreatedAt: noon, UpdatedAt: noon}
	notes.SetDefaults()
	web := &api.Service{Name: "web", Command: "web", Isolation: api.IsolationProcess, Revision: 9, CreatedAt: noon, UpdatedAt: noon}
	web.SetDefaults()
	return &fakeServer{
		members:   []api.Member{{Node: api.Node{ID: "n1", Name: "n1", Eligibility: api.EligibilityEligible}, Role: api.MemberLeader, Index: 20, Instances: 4}},
		index:     20,
		instances: []*api.Instance{running("alice", 4242, 100, 5*time.Minute), running("bob", 4243, 0, 3*time.Hour), sick, sleeper, fresh},
		services:  []*api.Service{notes, web},
		tokens: []*api.Token{
			{ID: "0123456789ab", Role: api.RoleAdmin, CreatedAt: noon},
			{ID: "ba9876543210", Role: api.RoleTenant, Tenant: "alice", Description: "alice, support", CreatedAt: noon, ExpiresAt: noon.Add(48 * time.Hour)},
		},
		entries: []api.LogEntry{
			entry(1, "alice", api.Stdout, "listening on 30242"),
			entry(2, "bob", api.Stderr, "evil \x1b]0;title\x07 \u202etxt.exe\ttab"),
			entry(3, "alice", api.Stdout, "GET / 200"),
		},
		events: []api.Event{
			{Index: 21, Type: api.EventInstanceUpdated, Key: "notes:alice", Instance: running("alice", 4242, 100, 0)},
			{Index: 22, Type: api.EventServiceDeleted, Key: "old"},
		},
		hangUp: func(r *http.Request) { <-r.Context().Done() },
	}
}

func (f *fakeServer) start(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
	w.Header().Set(api.HeaderIndex, strconv.FormatUint(f.index, 10))
	switch auth := r.Header.Get("Authorization"); {
	case r.URL.Path == "/health" || auth == "Bearer "+goodToken:
	case auth == "Bearer tenant":
		refuse(w, api.Errorf(api.CodeForbidden, "a tenant token may read its own instances, their health and logs only"))
		return
	default:
		refuse(w, api.Errorf(api.CodeUnauthenticated, "no token: send one"))
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { answer(w, api.ServerHealth{Status: "ok"}) })
	mux.HandleFunc("GET /api/node", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.Node{ID: "n1", Name: "n1", Version: "v9.9.9"})
	})
	f.routeInstances(mux)
	f.routeRest(mux)
	f.routeCluster(mux)
	mux.ServeHTTP(w, r)
}

func (f *fakeServer) routeInstances(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/instances", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("index") {
			if f.onPoll != nil {
				f.onPoll()
				f.index++
			} else {
				f.hangUp(r)
			}
			w.Header().Set(api.HeaderIndex, strconv.FormatUint(f.index, 10))
		}
		list := []*api.Instance{}
		for _, in := range f.instances {
			q := r.URL.Query()
			if s := q.Get("service"); s != "" && s != in.Service || q.Get("live") == "true" && !in.State().Live() || !f.isOn(in, q.Get("node")) {
				continue
			}
			list = append(list, in)
		}
		answer(w, list)
	})
	mux.HandleFunc("POST /api/instances/spawn", func(w http.ResponseWriter, r *http.Request) {
		var req api.SpawnRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		f.run(w, api.Ref{Service: req.Process, ID: req.ID}, nil)
	})
	mux.HandleFunc("POST /api/deploy", func(w http.ResponseWriter, r *http.Request) {
		var req api.DeployRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		f.run(w, api.Ref{Service: req.Process, ID: req.Version}, req.Weight)
	})
	mux.HandleFunc("POST /api/instances/{ref}/restart", func(w http.ResponseWriter, r *http.Request) {
		if in := f.find(w, r); in != nil {
			f.run(w, in.Ref(), nil)
		}
	})
	mux.HandleFunc("DELETE /api/instances/{ref}", func(w http.ResponseWriter, r *http.Request) {
		in := f.find(w, r)
		if in == nil {
			return
		}
		out := in.Clone()
		out.Observed.State = api.StateAsleep
		if r.URL.Query().Get("purge") == "true" {
			out = nil
		} else if r.URL.Query().Get("hold") == "true" {
			out.Observed.State = api.StateStopped
		}
		answer(w, out)
	})
	mux.HandleFunc("PUT /api/instances/{ref}/weight", func(w http.ResponseWriter, r *http.Request) {
		if in := f.find(w, r); in != nil {
			var req api.WeightRequest
			_ = json.NewDecoder(r.Body).Decode(&req)
			out := in.Clone()
			out.Weight = req.Weight
			answer(w, out)
		}
	})
	mux.HandleFunc("GET /api/instances/{ref}/health", func(w http.ResponseWriter, r *http.Request) {
		if in := f.find(w, r); in != nil {
			answer(w, api.Health{
				Service: in.Service, ID: in.ID, State: in.State(), Healthy: in.State() == api.StateRunning,
				Reason: in.Observed.Reason, Since: in.Observed.Since,
			})
		}
	})
}

func (f *fakeServer) routeRest(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/route", func(w http.ResponseWriter, r *http.Request) {
		var req api.RouteRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		answer(w, api.RouteResult{
			From: &api.Instance{Service: req.Process, ID: req.From, Weight: number(0)},
			To:   &api.Instance{Service: req.Process, ID: req.To, Weight: number(100)},
		})
	})
	mux.HandleFunc("GET /api/services", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.services) })
	mux.HandleFunc("/api/services/{name}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.Header.Get("If-Match") == `"8"`:
			refuse(w, api.Errorf(api.CodeStaleRevision, "If-Match: the current revision is 9, not 8"))
		case r.Method == http.MethodPut:
			var s api.Service
			_ = json.NewDecoder(r.Body).Decode(&s)
			if s.Health == "bad" {
				errs := api.FieldErrors{{Field: "health", Got: "bad", Want: "an HTTP path that starts with /"}}
				refuse(w, &api.Error{Code: api.CodeInvalid, Message: errs.Error(), Fields: errs})
				return
			}
			s.Revision = 21
			answer(w, s)
		case r.PathValue("name") != "notes":
			refuse(w, api.Errorf(api.CodeNotFound, "no service %q", r.PathValue("name")))
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, f.services[0])
		}
	})
	mux.HandleFunc("GET /api/tokens", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.tokens) })
	mux.HandleFunc("DELETE /api/tokens/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /api/tokens", f.createToken)
	mux.HandleFunc("POST /api/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.UpgradeResult{PID: 999, Version: "v2.0.0"})
	})
	mux.HandleFunc("GET /api/logs", func(w http.ResponseWriter, r *http.Request) { answer(w, f.logsOf(r)) })
	mux.HandleFunc("GET /api/logs/stream", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		after, _ := strconv.ParseUint(q.Get("after"), 10, 64)
		follow(w, api.LogEntry{Seq: after + 1, Time: noon, Service: "notes", Instance: "alice", Level: api.Stdout, Message: "one more"})
		f.hangUp(r)
	})
	mux.HandleFunc("GET /api/events", func(w http.ResponseWriter, r *http.Request) {
		for _, e := range f.events {
			follow(w, e)
		}
		f.hangUp(r)
	})
}

func (f *fakeServer) createToken(w http.ResponseWriter, r *http.Request) {
	var req api.TokenRequest
	_ = json.NewDecoder(r.Body).Decode(&req)
	f.nextToken++
	t := api.Token{ID: fmt.Sprintf("%012d", f.nextToken), Role: req.Role, Tenant: req.Tenant, Description: req.Description, CreatedAt: noon}
	t.SetDefaults()
	if req.ExpiresIn > 0 {
		t.ExpiresAt = noon.Add(req.ExpiresIn.Std())
	}
	answer(w, api.CreatedToken{Token: t, Secret: "ten_" + t.ID + "_" + strings.Repeat("B", 43)})
}

// run starts an instance, as far as its id lets it.
func (f *fakeServer) run(w http.ResponseWriter, ref api.Ref, weight *int) {
	switch {
	case ref.Service != "notes" && ref.Service != "web":
		refuse(w, api.Errorf(api.CodeNotFound, "no service %q", ref.Service))
	case ref.ID == "broken":
		refuse(w, api.Errorf(api.CodeFailed, "%s failed: ended with exit code 1\nit printed last:\n  no module named flask\x1b[2J", ref))
	case ref.ID == "slow":
		refuse(w, api.Errorf(api.CodeTimeout, "%s is not ready in time: its state is starting", ref))
	case ref.ID == "busy":
		refuse(w, &api.Error{Code: api.CodeTooManyRequests, Message: "too many starts", RetryAfter: api.Duration(time.Hour)})
	default:
		answer(w, api.Instance{
			Service: ref.Service, ID: ref.ID, Desired: api.DesiredRunning, Weight: weight, Source: api.SourceAPI,
			Observed: &api.Observed{State: api.StateRunning, PID: 77, Since: noon, Endpoint: &api.Endpoint{Network: "tcp", Address: "127.0.0.1:30077"}},
		})
	}
}

func (f *fakeServer) find(w http.ResponseWriter, r *http.Request) *api.Instance {
	for _, in := range f.instances {
		if in.Ref().String() == r.PathValue("ref") {
			return in
		}
	}
	refuse(w, api.Errorf(api.CodeNotFound, "no instance %q", r.PathValue("ref")))
	return nil
}

func (f *fakeServer) logsOf(r *http.Request) []api.LogEntry {
	q := r.URL.Query()
	out := []api.LogEntry{}
	for _, e := range f.entries {
		if id := q.Get("id"); id != "" && id != e.Instance {
			continue
		}
		if l := q.Get("level"); l != "" && l != string(e.Level) {
			continue
		}
		if strings.Contains(e.Message, q.Get("search")) {
			out = append(out, e)
		}
	}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n < len(out) {
		out = out[len(out)-n:]
	}
	return out
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, e *api.Error) {
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(e.Code.Status())
	p := e.Problem("Refused")
	_ = json.NewEncoder(w).Encode(p)
}

func follow(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "text/event-stream")
	b, _ := json.Marshal(v)
	_, _ = fmt.Fprintf(w, "data: %s\n\n", b)
	_ = http.NewResponseController(w).Flush()
}
