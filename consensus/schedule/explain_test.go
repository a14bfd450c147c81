package schedule

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// troubled is a cluster in which everything is wrong that can be.
func troubled() *world {
	w := newWorld()
	w.node("n1", zone("z1"), memory(1024))
	w.node("n2", zone("z1"), drain)
	w.node("n3", zone("z2"), cordon)
	w.node("n4", zone("z2"), dead)
	w.node("n5", zone("z2"), func(n *api.Node) { n.Status = api.NodeLeft })
	w.node("n6", zone("z3"), func(n *api.Node) { n.Isolations = []api.Isolation{api.IsolationProcess} })
	w.node("n7", zone("z3"), func(n *api.Node) { n.Capacity.CPUs, n.Capacity.Storage = 1, 100 })
	w.service("web", limit(400), rules(api.PlacementRules{
		SpreadBy:   api.SpreadByZone,
		Affinities: []api.Affinity{{Match: "zone = z3", Weight: 50}},
	}))
	w.add("web:new")
	w.add("web:late", on("n4"))
	w.add("web:left", on("n5"))
	w.add("web:stays", on("n3"))
	w.add("web:pinned", pin("n3"))
	w.add("web:held", on("n2"), pin("n2"))
	w.service("keep", disconnect(api.DisconnectKeep))
	w.add("keep:a", on("n4"))
	w.service("one", disconnect(api.DisconnectStop))
	w.add("one:a", on("n4"))
	w.service("db", persist, func(s *api.Service) { s.StorageQuota = 60 }, rules(api.PlacementRules{
		Constraints:  []api.Constraint{"zone = z1|z3", "!label.old"},
		AntiAffinity: []string{"db", "cache"},
	}))
	w.add("db:a", on("n2"))
	w.add("db:b", on("n2"))
	w.add("db:c").DataNode = "n7"
	w.add("db:d")
	w.service("cache")
	w.add("cache:a", on("n1"))
	w.service("huge", limit(8*1024), func(s *api.Service) { s.CPUShares = 2000 })
	w.add("huge:a")
	return w
}

func golden(t *testing.T, name string, r api.PlanResult) {
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s: got\n%s", path, got)
	}
}

func TestExplain(t *testing.T) {
	late := start.Add(time.Second)
	for _, tt := range []struct {
		name string
		now  time.Time
		r    api.PlanRequest
	}{
		{"as-it-is", start, api.PlanRequest{}},
		{"deadline", late, api.PlanRequest{}},
		{"drain", start, api.PlanRequest{Drain: []string{"name-n1", "n3"}}},
		{"service", start, api.PlanRequest{Service: &api.Service{
			Name: "web", Command: "true", Placement: &api.PlacementRules{Constraints: []api.Constraint{"zone = z3"}},
		}}},
		{"fleet", start, api.PlanRequest{Fleet: &api.Fleet{
			Service: "cache", Name: "f", Replicas: 5, Placement: &api.PlacementRules{AntiAffinity: []string{"cache"}},
		}}},
		{"instances", start, api.PlanRequest{Instances: []*api.Instance{
			{Service: "cache", ID: "b"}, {Service: "cache", ID: "a"}, {Service: "web", ID: "new", Pin: "n1"},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := troubled()
			r, err := Explain(w, tt.now, w, tt.r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, r)
			if again, err := Explain(w.shuffled(1), tt.now, w, tt.r); err != nil || !slices.EqualFunc(r.Changes, again.Changes, equalDecisions) {
				t.Errorf("in another order: %v, %v", again, err)
			}
		})
	}
}

func equalDecisions(a, b api.Decision) bool {
	return a.Ref == b.Ref && a.From == b.From && a.Node == b.Node && a.Reason == b.Reason && slices.Equal(a.Excluded, b.Excluded)
}

// Who waits is told for whom.
func TestExplainTurns(t *testing.T) {
	w := newWorld()
	w.node("n1", drain)
	w.node("n2")
	w.service("web")
	w.add("web:a", on("n1"))
	w.add("web:b", on("n1"))
	w.add("web:c", on("n1"), observed(api.StateFailed))
	for _, want := range []map[string]string{
		{
			"web:a": "name-n1 is draining, new first: the only node that can take it",
			"web:b": "name-n1 is draining, new first: waits, another one goes first",
			"web:c": "name-n1 is draining: waits, another one goes first",
		},
		{
			"web:b": "name-n1 is draining, new first: waits, web:a is still moving",
			"web:c": "name-n1 is draining: waits, web:a is still moving",
		},
	} {
		r, err := Explain(w, start, w, api.PlanRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, d := range r.Changes {
			got[d.Ref.String()] = d.Reason
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.apply(t, w.plan(start))
	}
	r, err := Explain(w, start, w, api.PlanRequest{Drain: []string{"n1"}})
	if err != nil || len(r.Changes) != 2 || r.Changes[0].Node != "n2" || r.Changes[1].Node != "n2" {
		t.Errorf("a whole drain: got %v, %v", r, err)
	}
}

// What is planned as if it had been put is what is planned once it has been put.
func TestExplainSupposes(t *testing.T) {
	w := newWorld()
	w.node("n1")
	w.node("n2")
	w.service("web")
	f := &api.Fleet{Service: "web", Name: "f", Replicas: 3}
	r, err := Explain(w, start, w, api.PlanRequest{Fleet: f})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.instances) != 0 || f.Weight != nil {
		t.Error("the view or the request was changed")
	}
	w.fleet("web:f", 3, nil)
	want := map[api.Ref]string{}
	for _, p := range w.plan(start) {
		want[p.Ref] = p.Node
	}
	for _, d := range r.Changes {
		if want[d.Ref] != d.Node {
			t.Errorf("%s: supposed %s, planned %s", d.Ref, d.Node, want[d.Ref])
		}
	}
	w.apply(t, w.plan(start))
	f.Replicas = 2
	if r, err = Explain(w, start, w, api.PlanRequest{Fleet: f}); err != nil || len(r.Changes) != 2 {
		t.Errorf("smaller: got %v, %v, want 2 that stay", r, err)
	}
}

func TestExplainRefuses(t *testing.T) {
	w := newWorld()
	w.node("n1")
	w.service("web")
	w.add("web:f-0", on("n1"))
	var fields api.FieldErrors
	for name, r := range map[string]api.PlanRequest{
		"service":  {Service: &api.Service{Name: "Bad Name", Command: "true"}},
		"fleet":    {Fleet: &api.Fleet{Service: "web", Name: "f", Replicas: -1}},
		"instance": {Instances: []*api.Instance{{Service: "web", ID: "Bad Id"}}},
	} {
		if _, err := Explain(w, start, w, r); !errors.As(err, &fields) {
			t.Errorf("%s: got %v, want field errors", name, err)
		}
	}
	for name, tt := range map[string]struct {
		r    api.PlanRequest
		code api.Code
	}{
		"fleet of no service":    {api.PlanRequest{Fleet: &api.Fleet{Service: "no", Name: "f"}}, api.CodeNotFound},
		"instance of no service": {api.PlanRequest{Instances: []*api.Instance{{Service: "no", ID: "a"}}}, api.CodeNotFound},
		"member that exists":     {api.PlanRequest{Fleet: &api.Fleet{Service: "web", Name: "f", Replicas: 1}}, api.CodeConflict},
		"no such node":           {api.PlanRequest{Drain: []string{"n9"}}, api.CodeNotFound},
	} {
		var e *api.Error
		if _, err := Explain(w, start, w, tt.r); !errors.As(err, &e) || e.Code != tt.code {
			t.Errorf("%s: got %v, want %s", name, err, tt.code)
		}
	}
}

// The real state carries out a plan as these tests suppose that it does.
func TestPlanWithTheState(t *testing.T) {
	s := big(t, 3, 4, 20)
	plan := Plan(s.View(), start, nil)
	if len(plan) != 20 {
		t.Fatalf("got %d placements", len(plan))
	}
	place(t, s, plan)
	if rest := Plan(s.View(), start, nil); rest != nil {
		t.Fatalf("left over: %v", rest)
	}
	for n := range s.View().Nodes() {
		c := state.Command{SetNode: &state.SetNode{ID: n.ID, Eligibility: api.EligibilityDraining}}
		if n.ID != "node-0000" {
			continue
		}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(state.Entry(b)); err != nil {
			t.Fatal(err)
		}
	}
	plan = Plan(s.View(), start, nil)
	if len(plan) != 1 || s.View().InstanceCountOn("node-0000") == 0 {
		t.Fatalf("draining: got %v", plan)
	}
	place(t, s, plan)
	if i, _ := s.View().Instance(plan[0].Ref); i.Node == "node-0000" || i.Generation != 2 {
		t.Errorf("not moved: %+v", i)
	}
}
