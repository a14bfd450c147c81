package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestNodes(t *testing.T) {
	f := newFixture(t)
	var status api.ClusterStatus
	f.admin(t, 200, "GET", "/api/cluster", "", &status)
	var nodes []api.Member
	f.admin(t, 200, "GET", "/api/nodes", "", &nodes)
	if status.ID != "cluster-1" || len(status.Members) != 3 || len(nodes) != 3 || nodes[0].Name != "one" {
		t.Errorf("got %+v, %+v", status, nodes)
	}
	for name, id := range map[string]string{"one": "node-1", "two": "node-2", "node-0": "node-0"} {
		var m api.Member
		h := f.admin(t, 200, "GET", "/api/nodes/"+name, "", &m)
		if m.ID != id || h.Get("ETag") == "" {
			t.Errorf("%s: got %+v, ETag %s", name, m, h.Get("ETag"))
		}
	}
	f.admin(t, 404, "GET", "/api/nodes/three", "", nil)

	var n api.Node
	f.admin(t, 200, "PUT", "/api/nodes/two", `{"eligibility":"cordoned"}`, &n, "If-Match", `"4"`)
	if n.ID != "node-2" || n.Eligibility != api.EligibilityCordoned {
		t.Errorf("got %+v", n)
	}
	f.admin(t, 412, "PUT", "/api/nodes/two", `{"eligibility":"cordoned"}`, nil, "If-Match", `"3"`)
	f.admin(t, 400, "PUT", "/api/nodes/two", `{"eligibility":"lazy"}`, nil)
	f.admin(t, 400, "PUT", "/api/nodes/two", `{}`, nil)
	f.admin(t, 404, "PUT", "/api/nodes/three", `{"eligibility":"cordoned"}`, nil)
	f.admin(t, 200, "POST", "/api/nodes/two/promote", "", nil)
	f.admin(t, 404, "POST", "/api/nodes/three/promote", "", nil)
	f.admin(t, 204, "DELETE", "/api/nodes/node-0?force=true", "", nil)
	f.admin(t, 204, "DELETE", "/api/nodes/two", "", nil)
	f.admin(t, 404, "DELETE", "/api/nodes/three", "", nil)
	if want := []string{"cordoned node-2", "promote node-2", "remove node-0 by force", "remove node-2"}; !slices.Equal(f.members.calls, want) {
		t.Errorf("got %q, want %q", f.members.calls, want)
	}
	for _, p := range f.members.callers {
		if p.Role != api.RoleAdmin || p.TokenID == "" {
			t.Errorf("done on behalf of %+v", p)
		}
	}
}

func TestNodesOfOneName(t *testing.T) {
	f := newFixture(t)
	f.cluster.view.nodes[1].Status = api.NodeDown
	w := f.do(request("admin", "GET", "/api/nodes/two", ""))
	if w.Code != 409 || !strings.Contains(w.Body.String(), `name one by its id`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := f.do(request("admin", "GET", "/api/nodes/onee", "")); w.Code != 404 || !strings.Contains(w.Body.String(), `perhaps \"one\"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// TestAlone asks a server that is not part of a cluster for what takes one.
func TestAlone(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Members, c.CA = nil, nil })
	var status api.ClusterStatus
	f.admin(t, 200, "GET", "/api/cluster", "", &status)
	if status.Node != thisNode || status.Leader != thisNode || len(status.Members) != 3 || status.Members[0].Instances != 3 {
		t.Errorf("got %+v", status)
	}
	for _, e := range clusterTable() {
		if e.method == "GET" && e.media == "" && e.name != "getSecret" || e.name == "deleteJoinToken" {
			continue
		}
		path := strings.NewReplacer("{node}", "two", "{id}", firstJoin).Replace(e.path)
		r := request("admin", e.method, path, goodBodies[e.name])
		if e.takes != "" {
			r.Header.Set("Content-Type", e.takes)
		}
		if w := f.do(r); w.Code != 409 || !strings.Contains(w.Body.String(), "not part of a cluster") {
			t.Errorf("%s %s: got %d %s", e.method, path, w.Code, w.Body)
		}
	}
	f.admin(t, 409, "DELETE", "/api/join-tokens/"+firstJoin, "", nil)
}

func TestPlan(t *testing.T) {
	f := newFixture(t)
	var out api.PlanResult
	f.admin(t, 200, "POST", "/api/plan", "", &out)
	f.admin(t, 200, "POST", "/api/plan", `{"drain":["one","node-2"],"instances":[{"service":"notes","id":"x","pin":"two"}]}`, &out)
	f.admin(t, 404, "POST", "/api/plan", `{"drain":["three"]}`, nil)
	f.admin(t, 400, "POST", "/api/plan", `{"instances":[{"service":"notes","id":"x","pin":"three"}]}`, nil)
	f.admin(t, 400, "POST", "/api/plan", `{"instances":[null]}`, nil)
	if out.Changes == nil || out.Index == 0 || len(f.members.planned) != 2 {
		t.Fatalf("got %+v after %+v", out, f.members.planned)
	}
	if r := f.members.planned[1]; !slices.Equal(r.Drain, []string{"node-1", "node-2"}) || r.Instances[0].Pin != "node-2" {
		t.Errorf("got %+v", r)
	}
	if strings.Contains(f.audit.String(), `"msg":"audit"`) {
		t.Error("a dry run is in the audit log")
	}
}

func TestFleets(t *testing.T) {
	f := newFixture(t)
	var fleet api.Fleet
	h := f.admin(t, 200, "PUT", "/api/fleets/notes:web", `{"replicas":2,"weight":40,"placement":{"spread_by":"zone","constraints":["zone=a|b"]}}`, &fleet)
	if fleet.Service != "notes" || fleet.Name != "web" || fleet.Replicas != 2 || fleet.Placement.Constraints[0] != "zone = a|b" || h.Get("ETag") == "" {
		t.Errorf("got %+v, %v", fleet, h)
	}
	var all []api.Fleet
	f.admin(t, 200, "GET", "/api/fleets?service=notes", "", &all)
	if len(all) != 2 || all[0].Name != "many" || all[1].Name != "web" {
		t.Errorf("got %+v", all)
	}
	f.admin(t, 200, "GET", "/api/fleets/notes:web", "", &fleet)
	f.admin(t, 412, "PUT", "/api/fleets/notes:web", `{"replicas":3}`, nil, "If-Match", `"1"`)
	f.admin(t, 412, "DELETE", "/api/fleets/notes:web", "", nil, "If-Match", `"1"`)
	f.admin(t, 204, "DELETE", "/api/fleets/notes:web", "", nil)
	f.admin(t, 404, "DELETE", "/api/fleets/notes:web", "", nil)
	f.admin(t, 404, "GET", "/api/fleets/notes:web", "", nil)
	f.admin(t, 404, "GET", "/api/fleets?service=nope", "", nil)
	f.admin(t, 404, "PUT", "/api/fleets/nope:web", `{"replicas":3}`, nil)
	f.admin(t, 400, "GET", "/api/fleets/web", "", nil)
	f.admin(t, 400, "PUT", "/api/fleets/notes:web", `{"replicas":-1}`, nil)
	f.admin(t, 400, "PUT", "/api/fleets/notes:web", `{"name":"other"}`, nil)
	f.admin(t, 400, "PUT", "/api/fleets/notes:web", `{"replicas":1,"placement":{"strategy":"best"}}`, nil)
}

// TestMemberOfAFleet puts an instance that belongs to a fleet: what is not given stays.
func TestMemberOfAFleet(t *testing.T) {
	f := newFixture(t)
	weight := 40
	ref := api.Ref{Service: "notes", ID: "many-0"}
	member := &api.Instance{Service: ref.Service, ID: ref.ID, Fleet: "many", Source: api.SourceFleet, Weight: &weight}
	member.SetDefaults()
	if _, err := f.cluster.PutInstance(t.Context(), member, nil); err != nil {
		t.Fatal(err)
	}
	var got api.Instance
	f.admin(t, 200, "PUT", "/api/instances/notes:many-0", `{"desired":"stopped"}`, &got)
	if got.Desired != api.DesiredStopped || got.Fleet != "many" || got.EffectiveWeight() != 40 || got.Source != api.SourceFleet {
		t.Errorf("got %+v", got)
	}
}

func TestPin(t *testing.T) {
	f := newFixture(t)
	for pin, want := range map[string]string{"two": "node-2", "node-1": "node-1", "": ""} {
		var got api.Instance
		f.admin(t, 200, "PUT", "/api/instances/notes:bob", `{"pin":"`+pin+`","desired":"asleep"}`, &got)
		if got.Pin != want {
			t.Errorf("pinned to %q: got %+v", pin, got)
		}
	}
	w := f.do(request("admin", "PUT", "/api/instances/notes:bob", `{"pin":"three"}`))
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"field":"pin"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestInstancesOfNode(t *testing.T) {
	f := newFixture(t)
	for path, want := range map[string]int{"?node=one": 3, "?node=node-1&service=notes": 2, "?node=two": 0} {
		var list []api.Instance
		f.admin(t, 200, "GET", "/api/instances"+path, "", &list)
		if len(list) != want {
			t.Errorf("%s: got %d instances, want %d", path, len(list), want)
		}
	}
	_ = f.cluster.change(func(v *fakeView) ([]api.Event, error) {
		moving, fetched := v.instances[alice].Clone(), v.instances[bob].Clone()
		moving.Previous = &api.Previous{Node: "node-2"}
		fetched.DataNode = "node-2"
		v.instances[alice], v.instances[bob] = moving, fetched
		return []api.Event{{Type: api.EventInstanceUpdated, Key: alice.String(), Instance: moving}}, nil
	})
	var list []api.Instance
	if f.admin(t, 200, "GET", "/api/instances?node=two", "", &list); len(list) != 2 {
		t.Errorf("got %+v, want those that node two has not let go of", list)
	}
	f.admin(t, 404, "GET", "/api/instances?node=three", "", nil)
	if w := f.do(request("tenant alice", "GET", "/api/instances?node=three", "")); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("as a tenant: got %d %s", w.Code, w.Body)
	}
}

func TestJoinTokens(t *testing.T) {
	f := newFixture(t)
	var made api.CreatedJoinToken
	f.admin(t, 201, "POST", "/api/join-tokens", `{"expires_in":"1h","max_uses":3,"description":"d"}`, &made)
	if made.ID != firstJoin || made.Text == "" || made.MaxUses != 3 || made.SHA256 != nil {
		t.Errorf("got %+v", made)
	}
	w := f.do(request("admin", "GET", "/api/join-tokens", ""))
	if w.Code != 200 || !strings.Contains(w.Body.String(), firstJoin) || strings.Contains(w.Body.String(), "sha256") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for _, body := range []string{`{"expires_in":"-1s"}`, `{"max_uses":-1}`, `{"description":"` + strings.Repeat("d", 201) + `"}`} {
		f.admin(t, 400, "POST", "/api/join-tokens", body, nil)
	}
	f.admin(t, 204, "DELETE", "/api/join-tokens/"+firstJoin, "", nil)
	f.admin(t, 404, "DELETE", "/api/join-tokens/nope", "", nil)
}

func TestSecretStatus(t *testing.T) {
	f := newFixture(t)
	f.cluster.view.nodes = f.cluster.view.nodes[:2]
	for _, tc := range []struct {
		phase     api.SecretPhase
		ids, two  []string
		confirmed []bool
		complete  bool
	}{
		{"", []string{"s1"}, []string{"s1"}, []bool{true, true}, true},
		{api.SecretInstall, []string{"s1", "s2"}, []string{"s1", "s2"}, []bool{false, true}, false},
		{api.SecretRemove, []string{"s2"}, []string{"s2"}, []bool{false, true}, false},
		{api.SecretRemove, []string{"s1"}, []string{"s1"}, []bool{true, true}, true},
	} {
		f.members.secret = api.SecretStatus{Phase: tc.phase, Secrets: tc.ids}
		f.cluster.view.nodes[1].SecretIDs = tc.two
		var got api.SecretStatus
		f.admin(t, 200, "GET", "/api/secret", "", &got)
		var confirmed []bool
		for _, n := range got.Nodes {
			confirmed = append(confirmed, n.Confirmed)
		}
		if got.Phase != tc.phase || got.Complete != tc.complete || !slices.Equal(confirmed, tc.confirmed) {
			t.Errorf("%s: got %+v", tc.phase, got)
		}
	}
	f.admin(t, 202, "POST", "/api/secret/rotate", "", nil)
	f.members.err = api.Errorf(api.CodeConflict, "a rotation is under way")
	f.admin(t, 409, "POST", "/api/secret/rotate", "", nil)
}

func TestSnapshots(t *testing.T) {
	f := newFixture(t)
	f.members.snapshot = []string{"the ", "state"}
	srv := httptest.NewServer(f)
	defer srv.Close()
	save := func() (int, string, error) {
		req, err := http.NewRequest("GET", srv.URL+"/api/cluster/snapshot", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets["admin"])
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer closeNow(t, resp.Body)
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	if code, body, err := save(); code != 200 || body != "the state" || err != nil {
		t.Errorf("got %d %q, %v", code, body, err)
	}
	f.members.snapshot = []string{strings.Repeat("x", 1<<16), ""}
	if _, _, err := save(); err == nil {
		t.Error("what was cut off looks whole")
	}
	f.members.snapshot = []string{""}
	if code, body, _ := save(); code != 500 || !strings.Contains(body, `"internal"`) {
		t.Errorf("got %d %q", code, body)
	}
	f.members.calls = nil

	large := strings.Repeat("x", maxBody+1)
	f.admin(t, 204, "POST", "/api/cluster/snapshot", large, nil, "Content-Type", mediaBinary)
	if f.members.restored != large {
		t.Errorf("restored %d bytes", len(f.members.restored))
	}
	f.admin(t, 204, "POST", "/api/cluster/snapshot?force", "s", nil, "Content-Type", mediaBinary)
	f.admin(t, 400, "POST", "/api/cluster/snapshot", `{}`, nil)
	if f.members.restored != "s by force" || len(f.members.calls) != 2 {
		t.Errorf("restored %q, %q", f.members.restored, f.members.calls)
	}
	r := request("admin", "POST", "/api/cluster/snapshot", "", "Content-Type", mediaBinary)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), brokenReader{}))
	if w := f.do(r); w.Code != 400 || !strings.Contains(w.Body.String(), "arrives whole") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestConsistent asks for what the leader has confirmed, which is newer than what the
// node knows by itself.
func TestConsistent(t *testing.T) {
	var view View
	var err error
	f := newFixture(t, func(c *Config) { c.Consistent = func(context.Context) (View, error) { return view, err } })
	newer := *f.cluster.view
	newer.index, newer.services = newer.index+5, map[string]*api.Service{}
	view = &newer
	for path, want := range map[string]int{"/api/services": 2, "/api/services?consistent=false": 2, "/api/services?consistent": 0} {
		var list []api.Service
		h := f.admin(t, 200, "GET", path, "", &list)
		if len(list) != want || (h.Get(api.HeaderIndex) == uintText(newer.index)) != (want == 0) {
			t.Errorf("%s: got %d services at %s", path, len(list), h.Get(api.HeaderIndex))
		}
	}
	err = &api.Error{Code: api.CodeUnavailable, Message: "find leader: there is no leader", RetryAfter: api.Seconds(2)}
	if h := f.admin(t, 503, "GET", "/api/services?consistent=true", "", nil); h.Get("Retry-After") != "2" {
		t.Errorf("got %v", h)
	}
	for _, e := range table(false) {
		if e.blocks() && !slices.ContainsFunc(e.params, func(p param) bool { return p.name == "consistent" }) {
			t.Errorf("%s %s does not take consistent", e.method, e.path)
		}
	}
}

// TestStale asks a node that has lost the leader.
func TestStale(t *testing.T) {
	stale := true
	f := newFixture(t, func(c *Config) { c.Stale = func() bool { return stale } })
	if h := f.admin(t, 200, "GET", "/api/services", "", nil); h.Get(api.HeaderStale) != "true" {
		t.Errorf("got %v", h)
	}
	f.members.err = api.Errorf(api.CodeUnavailable, "find leader: there is no leader")
	w := f.do(request("admin", "POST", "/api/nodes/two/promote", ""))
	if w.Code != 503 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "there is no leader; instances run on") {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	stale = false
	if h := f.admin(t, 200, "GET", "/api/services", "", nil); h.Get(api.HeaderStale) != "" {
		t.Errorf("got %v", h)
	}
}

// TestSpawnElsewhere starts an instance on a node that can't be reached from here: that
// the state tells of its start is enough.
func TestSpawnElsewhere(t *testing.T) {
	f := newFixture(t)
	carol := api.Ref{Service: "notes", ID: "carol"}
	if _, err := f.cluster.PutInstance(t.Context(), &api.Instance{Service: "notes", ID: "carol", Desired: api.DesiredRunning}, nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		node string
		want int
	}{{"node-2", 200}, {thisNode, 503}} {
		_ = f.cluster.change(func(v *fakeView) ([]api.Event, error) {
			i := v.instances[carol].Clone()
			i.Node, i.Observed = tc.node, nil
			v.instances[carol] = i
			return []api.Event{{Type: api.EventInstanceUpdated, Key: carol.String(), Instance: i}}, nil
		})
		f.runtime.away = func() {
			go f.cluster.report(carol, api.Observed{State: api.StateRunning})
		}
		if w := f.do(request("admin", "POST", "/api/instances/spawn", `{"process":"notes","id":"carol"}`)); w.Code != tc.want {
			t.Errorf("on %s: got %d %s, want %d", tc.node, w.Code, w.Body, tc.want)
		}
	}
}
