package schedule

import (
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// step is one plan, what was reported before it, and what it must be.
type step struct {
	do   func(w *world)
	want string
}

func serves(names ...string) func(*world) { return func(w *world) { w.serve(names...) } }

// A + behind the node says that the previous one is kept.
func TestDrain(t *testing.T) {
	onlyN2 := func(w *world) *world { w.node("n1", drain); w.node("n2"); return w }
	for _, tt := range []struct {
		name  string
		do    func(w *world)
		steps []step
	}{
		{"new first, one at a time", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"))
			w.add("web:b", on("n1"))
			w.add("web:c", on("n1"))
		}, []step{
			{nil, "web:a=n2+"},
			{nil, ""},
			{func(w *world) { observed(api.StateStarting)(w.get("web:a")) }, ""},
			{serves("web:a"), "web:b=n2+"},
			{func(w *world) { w.get("web:b").Previous = nil }, "web:c=n2+"},
			{serves(), ""},
		}},
		{"old first for what keeps data", func(w *world) {
			onlyN2(w).service("db", persist)
			w.add("db:a", on("n1"))
			w.add("db:b", on("n1"))
		}, []step{
			{nil, "db:a=n2"},
			{nil, ""},
			{func(w *world) { observed(api.StateStarting)(w.get("db:a")) }, ""},
			{func(w *world) { observed(api.StateFailed)(w.get("db:a")) }, ""},
			{serves("db:a"), "db:b=n2"},
		}},
		{"old first for what must never run twice", func(w *world) {
			onlyN2(w).service("one", disconnect(api.DisconnectStop))
			w.add("one:a", on("n1"))
		}, []step{{nil, "one:a=n2"}}},
		{"what serves nobody need not wait, what has failed goes last", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"), observed(api.StateFailed))
			w.add("web:b", on("n1"), observed(api.StateFailed))
			w.add("web:c", on("n1"), observed(api.StateAsleep))
			w.add("web:d", on("n1"), desired(api.DesiredAsleep))
			w.add("web:e", on("n1"), desired(api.DesiredStopped))
			w.add("web:f", on("n1"), observed(api.StateStopped))
			w.add("web:g", on("n1"), observed(api.StateBackoff))
		}, []step{
			{nil, "web:c=n2 web:d=n2 web:e=n2 web:f=n2 web:g=n2+"},
			{nil, ""},
			{serves("web:g"), "web:a=n2 web:b=n2"},
		}},
		{"sleepers that keep data do not hold up the others", func(w *world) {
			onlyN2(w).service("db", persist)
			w.add("db:a", on("n1"), observed(api.StateAsleep))
			w.add("db:b", on("n1"))
			w.add("db:c", on("n1"))
		}, []step{{nil, "db:a=n2 db:b=n2"}, {serves("db:b"), "db:c=n2"}}},
		{"each draining node by itself", func(w *world) {
			onlyN2(w)
			w.node("n3", drain)
			w.service("web")
			w.add("web:a", on("n1"))
			w.add("web:b", on("n3"))
			w.add("web:c", on("n3"))
		}, []step{
			{nil, "web:a=n2+ web:b=n2+"},
			{serves("web:a"), ""},
			{serves("web:b"), "web:c=n2+"},
		}},
		{"what can't go lets others pass", func(w *world) {
			onlyN2(w)
			w.service("big", limit(1<<20))
			w.service("web")
			w.add("big:a", on("n1"))
			w.add("big:b", on("n1"))
			w.add("web:a", on("n1"))
		}, []step{{nil, "web:a=n2+"}, {serves(), ""}}},
		{"the pinned stay", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"), pin("n1"))
			w.add("web:b", on("n1"), pin("n2"))
		}, []step{{nil, "web:b=n2+"}, {serves(), ""}}},
		{"a node that is away is not drained", func(w *world) {
			onlyN2(w).service("web")
			w.nodes[0].Status = api.NodeLeft
			w.add("web:a", on("n1"))
		}, []step{{nil, ""}}},
		{"what is lost comes before what moves", func(w *world) {
			onlyN2(w).service("web", limit(3*1024))
			w.add("web:a", on("n1"))
			w.add("web:b") // there is room for one
		}, []step{{nil, "web:b=n2"}, {serves(), ""}}},
		{"what leaves a zone does not count there, what stays does", func(w *world) {
			w.service("x")
			w.service("web", rules(api.PlacementRules{SpreadBy: api.SpreadByZone}))
			w.node("n1", drain, zone("z1"))
			w.node("n2", zone("z1"))
			w.node("n3", zone("z2"))
			w.node("n5", zone("z2"))
			w.add("x:b", on("n2"))
			w.add("web:a", on("n1"))
			w.add("web:b", on("n3"))
		}, []step{
			{nil, "web:a=n2+"},
			{func(w *world) {
				w.serve()
				w.add("web:c", on("n1"), pin("n9")) // can't go
				w.get("web:a").Node = "n4"
				w.node("n4", drain, zone("z3"))
				w.get("web:b").Node = "n4"
				w.add("x:a", on("n3"))
				w.add("x:c", on("n5"))
				w.add("x:d", on("n5"))
				w.add("x:e", on("n5"))
				w.add("x:f", on("n3"))
			}, "web:a=n3+"},
		}},
		{"the target of a move drains: on to the next, the first still serving", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"))
		}, []step{
			{nil, "web:a=n2+"},
			{func(w *world) { drain(w.nodes[1]); w.node("n3") }, "web:a=n3+"},
			{nil, ""},
		}},
		{"the target of a move dies: back to where it still serves, if that takes it", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"))
		}, []step{
			{nil, "web:a=n2+"},
			{func(w *world) {
				dead(w.nodes[1])
				w.nodes[1].Deadline = start
				w.nodes[0].Eligibility = api.EligibilityEligible
				w.node("n3", memory(1<<20))
			}, "web:a=n1+"},
		}},
		{"the target of a move dies: the first goes on serving", func(w *world) {
			onlyN2(w).service("web")
			w.add("web:a", on("n1"))
		}, []step{
			{nil, "web:a=n2+"},
			{func(w *world) { dead(w.nodes[1]); w.nodes[1].Deadline = start; w.node("n3") }, "web:a=n3+"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.do(w)
			for n, s := range tt.steps {
				if s.do != nil {
					s.do(w)
				}
				plan := w.plan(start)
				if got := where(plan); got != s.want {
					t.Fatalf("step %d: got %q, want %q", n, got, s.want)
				}
				w.apply(t, plan)
			}
		})
	}
}

// A node that dies while it is drained loses what it had at the deadline, like any other.
func TestDeathWhileDraining(t *testing.T) {
	w := newWorld()
	w.node("n1", drain)
	w.node("n2")
	w.service("web")
	w.add("web:a", on("n1"))
	w.add("web:b", on("n1"))
	w.apply(t, w.plan(start))
	dead(w.nodes[0])
	if got := where(w.plan(start)); got != "" {
		t.Errorf("before the deadline: got %s", got)
	}
	if got, want := where(w.plan(start.Add(time.Second))), "web:b=n2"; got != want {
		t.Errorf("at the deadline: got %s, want %s", got, want)
	}
}
