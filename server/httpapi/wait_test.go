package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// during runs a request in a bubble and returns its answer once it has come.
func (f *fixture) during(r *http.Request) <-chan *httptest.ResponseRecorder {
	out := make(chan *httptest.ResponseRecorder, 1)
	go func() { out <- f.do(r) }()
	synctest.Wait()
	return out
}

func pending(t *testing.T, answer <-chan *httptest.ResponseRecorder) {
	t.Helper()
	select {
	case w := <-answer:
		t.Fatalf("answered already: %d %s", w.Code, w.Body)
	default:
	}
}

func TestBlockingQuery(t *testing.T) {
	at := func(f *fixture) string { return uintText(f.cluster.View().Index()) }
	change := func(f *fixture) { f.cluster.report(bob, api.Observed{State: api.StateRunning}) }

	for name, tc := range map[string]struct {
		role  string
		query func(f *fixture) string
		// act is what happens while the query waits; nil when it must not wait.
		act    func(t *testing.T, f *fixture)
		status int
	}{
		"older index":    {query: func(*fixture) string { return "index=3&wait=1m" }, status: 200},
		"no index":       {query: func(*fixture) string { return "consistent" }, status: 200},
		"change":         {query: func(f *fixture) string { return "index=" + at(f) + "&wait=1m" }, act: func(_ *testing.T, f *fixture) { change(f) }, status: 200},
		"server closes":  {query: func(f *fixture) string { return "index=" + at(f) }, act: func(_ *testing.T, f *fixture) { f.Close() }, status: 200},
		"wait runs out":  {query: func(f *fixture) string { return "index=" + at(f) + "&wait=90s" }, act: func(*testing.T, *fixture) { time.Sleep(90 * time.Second) }, status: 200},
		"default wait":   {query: func(f *fixture) string { return "index=" + at(f) }, act: func(*testing.T, *fixture) { time.Sleep(5 * time.Minute) }, status: 200},
		"future index":   {query: func(*fixture) string { return "index=99999&wait=2s" }, act: func(_ *testing.T, f *fixture) { change(f); time.Sleep(2 * time.Second) }, status: 200},
		"token revoked":  {query: func(f *fixture) string { return "index=" + at(f) }, act: revokeAdmin, status: 401},
		"tenant's token": {role: "tenant bob", query: func(f *fixture) string { return "index=" + at(f) }, act: func(_ *testing.T, f *fixture) { change(f) }, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				role := tc.role
				if role == "" {
					role = "admin"
				}
				answer := f.during(request(role, "GET", "/api/instances/notes:bob?"+tc.query(f), ""))
				if tc.act != nil {
					pending(t, answer)
					tc.act(t, f)
				}
				w := <-answer
				if w.Code != tc.status {
					t.Fatalf("got %d %s, want %d", w.Code, w.Body, tc.status)
				}
				if got := w.Header().Get(api.HeaderIndex); w.Code == 200 && got != at(f) {
					t.Errorf("index %s, want %s", got, at(f))
				}
				if f.streams.Load() != 0 {
					t.Error("its place is still taken")
				}
			})
		})
	}
}

func revokeAdmin(t *testing.T, f *fixture) {
	if _, err := f.cluster.DeleteToken(context.Background(), tokenID("admin")); err != nil {
		t.Fatal(err)
	}
}

func TestBlockingQueryOfAClientThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.MaxStreams = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		first := f.during(request("admin", "GET", "/api/services?index=99", "").WithContext(ctx))
		pending(t, first)
		w := f.do(request("admin", "GET", "/api/services?index=99", ""))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("over the limit of streams: got %d %v, want 503", w.Code, w.Header())
		}
		cancel()
		<-first
		second := f.during(request("admin", "GET", "/api/services?index=99&wait=1s", ""))
		pending(t, second)
		if w := <-second; w.Code != 200 {
			t.Errorf("after the first left: got %d, want 200", w.Code)
		}
	})
}

const spawnCarol = `{"process":"notes","id":"carol"}`

var carol = api.Ref{Service: "notes", ID: "carol"}

func TestSpawn(t *testing.T) {
	t.Run("new", func(t *testing.T) {
		f := newFixture(t)
		var i api.Instance
		h := f.admin(t, 200, "POST", "/api/instances/spawn", spawnCarol, &i)
		if i.State() != api.StateRunning || i.EffectiveWeight() != 100 || i.Source != api.SourceAPI || h.Get("ETag") != strconv.Quote(uintText(i.Revision)) {
			t.Errorf("got %+v, ETag %s", i, h.Get("ETag"))
		}
	})
	t.Run("asleep", func(t *testing.T) {
		f := newFixture(t)
		var i api.Instance
		f.admin(t, 200, "POST", "/api/instances/spawn", `{"process":"notes","id":"bob"}`, &i)
		if i.Desired != api.DesiredRunning || i.State() != api.StateRunning {
			t.Errorf("got %+v", i)
		}
	})
	t.Run("gave up before", func(t *testing.T) {
		f := newFixture(t)
		f.cluster.report(alice, api.Observed{State: api.StateFailed, Reason: "old"})
		var i api.Instance
		f.admin(t, 200, "POST", "/api/instances/spawn", `{"process":"notes","id":"alice"}`, &i)
		if i.State() != api.StateRunning || strings.Join(f.runtime.calls, ",") != "restart notes:alice" {
			t.Errorf("got %+v after %q", i, f.runtime.calls)
		}
	})
	t.Run("unhealthy is spawned", func(t *testing.T) {
		f := newFixture(t)
		f.cluster.report(alice, api.Observed{State: api.StateUnhealthy})
		f.runtime.fresher[alice] = &api.Observed{State: api.StateUnhealthy, Generation: 1}
		var i api.Instance
		f.admin(t, 200, "POST", "/api/instances/spawn", `{"process":"notes","id":"alice"}`, &i)
		if i.State() != api.StateUnhealthy {
			t.Errorf("got %+v", i)
		}
	})
	t.Run("fails", func(t *testing.T) {
		f := newFixture(t)
		f.runtime.fails[carol] = api.Errorf(api.CodeFailed, "exit code 3, 4 times in 5m")
		f.logs.entries = []api.LogEntry{
			{Service: "notes", Instance: "carol", Time: f.now.Add(-time.Hour), Message: "an old run"},
			{Service: "notes", Instance: "alice", Time: f.now, Message: "somebody else"},
			{Service: "notes", Instance: "carol", Time: f.now, Message: "no such module:\x1b[31m flask"},
		}
		var p api.Problem
		f.admin(t, 502, "POST", "/api/instances/spawn", spawnCarol, &p)
		want := "notes:carol failed: exit code 3, 4 times in 5m\nit printed last:\n  no such module:\\x1b[31m flask"
		if p.Code != api.CodeFailed || p.Detail != want {
			t.Errorf("got %s %q\nwant %q", p.Code, p.Detail, want)
		}
	})
	t.Run("never ready", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.runtime.hangs[carol] = true
			answer := f.during(request("admin", "POST", "/api/instances/spawn", spawnCarol))
			f.cluster.report(carol, api.Observed{State: api.StateStarting})
			begin := time.Now()
			w := <-answer
			if took := time.Since(begin); took != 15*time.Second {
				t.Errorf("took %s, want startup_timeout and 5 s", took)
			}
			if w.Code != 504 || !strings.Contains(w.Body.String(), "not ready in time: its state is starting") {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	})
	t.Run("removed meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.runtime.fails[carol] = api.Errorf(api.CodeNotFound, "not heard of it")
			f.cluster.onInstance = nil
			r := f.runtime.cluster
			f.runtime.cluster = newFakeCluster() // its reports get lost
			answer := f.during(request("admin", "POST", "/api/instances/spawn", spawnCarol))
			pending(t, answer)
			if _, err := r.DeleteInstance(t.Context(), carol, nil); err != nil {
				t.Fatal(err)
			}
			if w := <-answer; w.Code != 409 {
				t.Errorf("got %d %s, want 409", w.Code, w.Body)
			}
		})
	})
	t.Run("server closes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.runtime.hangs[carol] = true
			answer := f.during(request("admin", "POST", "/api/instances/spawn", spawnCarol))
			pending(t, answer)
			f.Close()
			if w := <-answer; w.Code != 503 {
				t.Errorf("got %d %s, want 503", w.Code, w.Body)
			}
			if _, ok := f.cluster.View().Instance(carol); !ok {
				t.Error("the instance must stay declared")
			}
		})
	})
}

func TestDeploy(t *testing.T) {
	t.Run("weights", func(t *testing.T) {
		for name, tc := range map[string]struct {
			body   string
			weight int
		}{
			"another version": {`{"process":"notes","version":"v2"}`, 0},
			"with a weight":   {`{"process":"notes","version":"v2","weight":30}`, 30},
			"one that exists": {`{"process":"notes","version":"alice"}`, 100},
			"first":           {`{"process":"fresh","version":"v1"}`, 100},
			"first, with 0":   {`{"process":"fresh","version":"v1","weight":0}`, 0},
		} {
			f := newFixture(t)
			f.admin(t, 200, "PUT", "/api/services/fresh", `{"command":"a"}`, nil)
			var i api.Instance
			f.admin(t, 200, "POST", "/api/deploy", tc.body, &i)
			if i.EffectiveWeight() != tc.weight || i.State() != api.StateRunning {
				t.Errorf("%s: got %+v, want weight %d", name, i, tc.weight)
			}
		}
	})
	t.Run("no traffic before it is healthy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			v2 := api.Ref{Service: "notes", ID: "v2"}
			f.runtime.fails[v2] = api.Errorf(api.CodeNotFound, "not heard of it")
			lost := newFakeCluster()
			f.runtime.cluster = lost
			answer := f.during(request("admin", "POST", "/api/deploy", `{"process":"notes","version":"v2","weight":50}`))
			for _, o := range []api.Observed{{State: api.StateStarting}, {State: api.StateRunning}, {State: api.StateDegraded}} {
				f.cluster.report(v2, o)
				synctest.Wait()
				pending(t, answer)
				if i, _ := f.cluster.View().Instance(v2); i.EffectiveWeight() != 0 {
					t.Fatalf("%s: weight %d, want 0", o.State, i.EffectiveWeight())
				}
			}
			f.cluster.report(v2, api.Observed{State: api.StateRunning, Healthy: true})
			var i api.Instance
			w := <-answer
			if err := json.Unmarshal(w.Body.Bytes(), &i); err != nil || w.Code != 200 || i.EffectiveWeight() != 50 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	})
	t.Run("never healthy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			v2 := api.Ref{Service: "notes", ID: "v2"}
			f.runtime.hangs[v2] = true
			begin := time.Now()
			w := f.do(request("admin", "POST", "/api/deploy", `{"process":"notes","version":"v2","weight":50,"timeout":"2s"}`))
			if w.Code != 504 || time.Since(begin) != 2*time.Second {
				t.Errorf("got %d %s after %s", w.Code, w.Body, time.Since(begin))
			}
			if i, _ := f.cluster.View().Instance(v2); i.EffectiveWeight() != 0 {
				t.Errorf("weight %d, want 0", i.EffectiveWeight())
			}
		})
	})
}

func TestStop(t *testing.T) {
	for _, tc := range []struct {
		query   string
		desired api.Desired
	}{{"", api.DesiredAsleep}, {"?hold=true", api.DesiredStopped}, {"?hold=false", api.DesiredAsleep}} {
		f := newFixture(t)
		var i api.Instance
		f.admin(t, 200, "DELETE", "/api/instances/notes:alice"+tc.query, "", &i)
		if i.Desired != tc.desired || i.State() != api.State(tc.desired) {
			t.Errorf("%q: got %+v", tc.query, i)
		}
	}
	t.Run("purge", func(t *testing.T) {
		f := newFixture(t)
		f.admin(t, 204, "DELETE", "/api/instances/notes:alice?purge=true", "", nil)
		f.admin(t, 404, "DELETE", "/api/instances/notes:alice?purge=true", "", nil)
	})
	t.Run("takes its time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.cluster.onInstance = nil
			answer := f.during(request("admin", "DELETE", "/api/instances/notes:alice", ""))
			f.cluster.report(alice, api.Observed{State: api.StateStopping})
			synctest.Wait()
			pending(t, answer)
			time.Sleep(15 * time.Second) // stop_timeout and 5 s
			w := <-answer
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"stopping"`) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	})
}

func TestRestart(t *testing.T) {
	f := newFixture(t)
	var i api.Instance
	f.admin(t, 200, "POST", "/api/instances/notes:alice/restart", "", &i)
	if i.Observed.PID != 42 {
		t.Errorf("got %+v", i.Observed)
	}
	f.runtime.fails[alice] = api.Errorf(api.CodeFailed, "no more")
	var p api.Problem
	f.admin(t, 502, "POST", "/api/instances/notes:alice/restart", "", &p)
	if p.Detail != "notes:alice failed: no more" {
		t.Errorf("got %q", p.Detail)
	}
	f.admin(t, 200, "DELETE", "/api/instances/notes:bob?hold", "", nil)
	f.admin(t, 409, "POST", "/api/instances/notes:bob/restart", "", nil)
	f.runtime.fails[alice] = errors.New("disk on fire")
	f.admin(t, 500, "POST", "/api/instances/notes:alice/restart", "", nil)
}

func TestRoute(t *testing.T) {
	f := newFixture(t)
	f.admin(t, 200, "POST", "/api/deploy", `{"process":"notes","version":"v2"}`, nil)
	var r api.RouteResult
	f.admin(t, 200, "POST", "/api/route", `{"process":"notes","from":"alice","to":"v2"}`, &r)
	if r.From.ID != "alice" || r.From.EffectiveWeight() != 0 || r.To.ID != "v2" || r.To.EffectiveWeight() != 100 {
		t.Errorf("got %+v %+v", r.From, r.To)
	}
}

// racing is a cluster in which somebody else is faster, a few times.
type racing struct {
	*fakeCluster
	losses int
}

func (r *racing) PutInstance(ctx context.Context, i *api.Instance, ifMatch *uint64) (*api.Instance, error) {
	if r.losses > 0 {
		r.losses--
		w := 50 + r.losses
		other := &api.Instance{Service: i.Service, ID: i.ID, Weight: &w}
		other.SetDefaults()
		if _, err := r.fakeCluster.PutInstance(ctx, other, nil); err != nil {
			return nil, err
		}
	}
	return r.fakeCluster.PutInstance(ctx, i, ifMatch)
}

func TestConcurrentChangesAreNotLost(t *testing.T) {
	race := &racing{}
	f := newFixture(t, func(c *Config) {
		race.fakeCluster = c.Cluster.(*fakeCluster)
		c.Cluster = race
	})
	race.losses = 3
	f.admin(t, 200, "DELETE", "/api/instances/notes:alice", "", nil)
	if i, _ := f.cluster.View().Instance(alice); i.EffectiveWeight() != 50 || i.Desired != api.DesiredAsleep {
		t.Errorf("got %+v: the other's weight is lost", i)
	}
	race.losses = 1
	f.admin(t, 200, "POST", "/api/instances/spawn", spawnCarol, nil)
	if i, _ := f.cluster.View().Instance(carol); i.EffectiveWeight() != 50 {
		t.Errorf("got %+v: the other's weight is lost", i)
	}
	race.losses = 1
	cur, _ := f.cluster.View().Instance(alice)
	f.admin(t, 412, "PUT", "/api/instances/notes:alice/weight", `{"weight":1}`, nil, "If-Match", strconv.Quote(uintText(cur.Revision)))
	race.losses = 100
	f.admin(t, 412, "PUT", "/api/instances/notes:alice/weight", `{"weight":1}`, nil)
}
