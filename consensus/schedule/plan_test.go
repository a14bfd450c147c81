package schedule

import (
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// The names of nodes are such that the order of ids is not the order of what is best.
func TestPlan(t *testing.T) {
	gib := func(n int) func(*api.Node) { return memory(n * 1024) }
	later := start.Add(time.Second)
	for _, tt := range []struct {
		name string
		now  time.Time
		do   func(w *world)
		want string
	}{
		{name: "nothing", do: func(*world) {}, want: ""},
		{name: "no node", do: func(w *world) { w.service("web"); w.add("web:a") }, want: ""},
		{name: "one node", want: "web:a=n1 web:b=n1", do: func(w *world) {
			w.node("n1")
			w.service("web")
			w.add("web:b")
			w.add("web:a")
		}},
		{name: "unplaced after a node was removed: next generation", want: "web:a=n1", do: func(w *world) {
			w.node("n1")
			w.service("web")
			w.add("web:a", on("n9")).Node = ""
		}},
		{name: "on a node that is gone", want: "web:a=n1 web:b=n1", do: func(w *world) {
			w.node("n1")
			w.service("web")
			w.add("web:a", on("n9")) // the state has none: it puts those of a removed node on none
			w.add("web:b")
		}},
		{name: "not down, left, cordoned or draining", want: "web:a=n5", do: func(w *world) {
			w.node("n1", dead)
			w.node("n2", func(n *api.Node) { n.Status = api.NodeLeft })
			w.node("n3", cordon)
			w.node("n4", drain)
			w.node("n5", func(n *api.Node) { n.Status = api.NodeUp })
			w.service("web")
			w.add("web:a")
		}},
		{name: "isolation", want: "web:a=n3", do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Isolations = []api.Isolation{api.IsolationProcess} })
			w.node("n3", func(n *api.Node) { n.Isolations = []api.Isolation{api.IsolationProcess, api.IsolationSandbox} })
			w.service("web", func(s *api.Service) { s.Isolation = api.IsolationSandbox })
			w.add("web:a")
		}},
		{name: "isolations unknown", want: "web:a=n1", do: func(w *world) {
			w.node("n1")
			w.service("web", func(s *api.Service) { s.Isolation = api.IsolationSandbox })
			w.add("web:a")
		}},
		{name: "constraints", want: "web:a=n2", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z2"))
			w.node("n3", zone("z2"), func(n *api.Node) { n.Labels = map[string]string{"old": ""} })
			w.service("web", rules(api.PlacementRules{Constraints: []api.Constraint{"zone = z2", "!label.old"}}))
			w.add("web:a")
		}},
		{name: "the fleet's rules replace the service's", want: "web:blue-0=n1 web:x=n2", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z2"))
			w.service("web", rules(api.PlacementRules{Constraints: []api.Constraint{"zone = z2"}}))
			w.fleet("web:blue", 1, &api.PlacementRules{Constraints: []api.Constraint{"zone = z1"}})
			w.add("web:x")
		}},
		{name: "a fleet without rules has the service's", want: "web:blue-0=n2", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z2"))
			w.service("web", rules(api.PlacementRules{Constraints: []api.Constraint{"zone = z2"}}))
			w.fleet("web:blue", 1, nil)
		}},
		{name: "rules that no longer hold move nothing", want: "", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("web", rules(api.PlacementRules{Constraints: []api.Constraint{"node = n2"}}))
			w.add("web:a", on("n1"))
			w.add("web:b", on("n1"), pin("n2"))
		}},
		{name: "pin", want: "web:a=n2", do: func(w *world) {
			w.node("n1", gib(64))
			w.node("n2")
			w.service("web")
			w.add("web:a", pin("n2"))
			w.add("web:b", pin("n9"))
		}},
		{name: "pin beats cordon, not down, draining, constraints or capacity", want: "web:a=n1", do: func(w *world) {
			w.node("n1", cordon)
			w.node("n2", drain)
			w.node("n3", dead)
			w.service("web", limit(3*1024))
			w.service("far", rules(api.PlacementRules{Constraints: []api.Constraint{"zone = z2"}}))
			w.add("web:a", pin("n1"))
			w.add("web:b", pin("n2"))
			w.add("web:c", pin("n3"))
			w.add("web:d", pin("n1")) // no room beside a
			w.add("far:a", pin("n1"))
		}},
		{name: "anti-affinity", want: "web:a=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2", memory(100))
			w.service("db")
			w.service("web", rules(api.PlacementRules{AntiAffinity: []string{"db"}}))
			w.add("db:a", on("n1"))
			w.add("web:a")
			w.service("full", limit(90))
			w.add("full:a", on("n2"))
		}},
		{name: "anti-affinity is mutual", want: "db:a=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2", memory(100))
			w.service("db")
			w.service("web", rules(api.PlacementRules{AntiAffinity: []string{"db"}}))
			w.add("web:a", on("n1"))
			w.add("db:a")
			w.service("full", limit(90))
			w.add("full:a", on("n2"))
		}},
		{name: "anti-affinity within one plan", want: "db:a=n2 web:a=n1", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("db", rules(api.PlacementRules{Constraints: []api.Constraint{"node = n2"}}), limit(100))
			w.service("web", rules(api.PlacementRules{AntiAffinity: []string{"db"}}))
			w.add("web:a")
			w.add("db:a")
		}},
		{name: "anti-affinity with itself: one a node", want: "web:a=n1", do: func(w *world) {
			w.node("n1")
			w.service("web", rules(api.PlacementRules{AntiAffinity: []string{"web"}}))
			w.add("web:a")
			w.add("web:b")
		}},
		{name: "anti-affinity with a fleet's own service", want: "web:blue-0=n1", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("web")
			w.add("web:x", on("n2"))
			w.fleet("web:blue", 2, &api.PlacementRules{AntiAffinity: []string{"web"}})
		}},
		{name: "memory", want: "web:a=n1 web:b=n1", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("web", limit(400))
			w.add("web:a")
			w.add("web:b")
			w.add("web:c")
		}},
		{name: "memory of a microVM", want: "vm:a=n1", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("vm", func(s *api.Service) { s.Isolation, s.Memory = api.IsolationFirecracker, 600<<20 })
			w.add("vm:a")
			w.add("vm:b")
		}},
		{name: "cpu", want: "web:a=n1 web:b=n1", do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Capacity.CPUs = 1 })
			w.service("web", func(s *api.Service) { s.CPUShares = 512 })
			w.add("web:a")
			w.add("web:b")
			w.add("web:c")
		}},
		{name: "storage, of stopped ones too", want: "web:a=n1", do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Capacity.Storage = 100 })
			w.service("web", func(s *api.Service) { s.StorageQuota = 40 })
			w.add("web:x", on("n1"), desired(api.DesiredStopped))
			w.add("web:a")
			w.add("web:b")
		}},
		{name: "no capacity is no bound", want: "web:a=n1", do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Capacity = api.Capacity{} })
			w.service("web", limit(1<<20), func(s *api.Service) { s.CPUShares, s.StorageQuota = 10_000, 1<<50 })
			w.add("web:a")
		}},
		{name: "stopped ones need neither memory nor cpu, asleep ones do", want: "web:a=n1 web:b=n1 web:c=n1", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("web", limit(500))
			w.add("web:a", desired(api.DesiredStopped))
			w.add("web:b", desired(api.DesiredAsleep))
			w.add("web:c")
			w.add("web:d")
		}},
		{name: "overcommitted nodes take what needs nothing", want: "tiny:a=n1", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("web", limit(800))
			w.service("tiny")
			w.add("web:a", on("n1"))
			w.add("web:b", on("n1"))
			w.add("tiny:a")
		}},
		{name: "a move holds what it needs on both nodes", want: "", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("web", limit(600))
			w.node("n2", cordon)
			w.add("web:a", on("n2")).Previous = &api.Previous{Node: "n1", Generation: 1}
			w.add("web:b")
		}},
		{name: "data hold their storage where they are", want: "", do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Capacity.Storage = 100 })
			w.node("n2", cordon)
			w.service("web", persist, func(s *api.Service) { s.StorageQuota = 60 })
			w.add("web:a", on("n2")).DataNode = "n1"
			w.add("web:b")
		}},
		{name: "the largest first", want: "big:a=n1", do: func(w *world) {
			w.node("n1", memory(1000))
			w.service("a-small", limit(300))
			w.service("big", limit(900))
			w.add("a-small:a")
			w.add("big:a")
		}},
		{name: "to where the data are", want: "web:a=n1 web:b=n2 web:c=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2", gib(64))
			w.node("n3", cordon)
			w.service("web", persist)
			w.add("web:x", on("n1"))
			w.add("web:y", on("n1"))
			w.add("web:a").DataNode = "n1"
			w.add("web:b").DataNode = "n3" // can't
			w.add("web:c")
		}},
		{name: "to where the data are, their room being their own", want: "web:a=n1 web:b=n1", do: func(w *world) {
			storage := func(n *api.Node) { n.Capacity.Storage = 100 }
			w.node("n1", storage)
			w.node("n2", storage, cordon)
			w.service("web", persist, func(s *api.Service) { s.StorageQuota = 50 })
			w.add("web:a").DataNode = "n1"
			w.add("web:b").DataNode = "n1"
		}},
		{name: "instances of many services are spread too", want: "a:x=n2 b:x=n1 c:x=n2 d:x=n1", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			for _, name := range []string{"a", "b", "c", "d"} {
				w.service(name)
				w.add(name + ":x")
			}
		}},
		{name: "the emptier by share", want: "web:a=n2", do: func(w *world) {
			w.node("n1", gib(4))
			w.node("n2", gib(16))
			w.service("web", limit(1024))
			w.add("x:a", on("n1"))
			w.service("x", limit(1024))
			w.add("x:b", on("n2"))
			w.add("web:a")
		}},
		{name: "without limits, by number", want: "web:a=n1", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("x")
			w.add("x:a", on("n2"))
			w.service("web")
			w.add("web:a")
		}},
		{name: "binpack: the fuller", want: "web:a=n2 web:b=n2 web:c=n1", do: func(w *world) {
			w.node("n1", gib(1))
			w.node("n2", gib(1))
			w.service("x", limit(400))
			w.add("x:a", on("n2"))
			w.service("web", limit(300), rules(api.PlacementRules{Strategy: api.StrategyBinpack}))
			w.add("web:a")
			w.add("web:b")
			w.add("web:c")
		}},
		{name: "binpack inside zones", want: "web:a=n4 web:b=n2", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z1"))
			w.node("n3", zone("z2"))
			w.node("n4", zone("z2"))
			w.service("x", limit(400))
			w.add("x:a", on("n2"))
			w.add("x:b", on("n4"))
			w.add("x:c", on("n4"))
			w.service("web", limit(300), rules(api.PlacementRules{Strategy: api.StrategyBinpack, SpreadBy: api.SpreadByZone}))
			w.add("web:a")
			w.add("web:b")
		}},
		{name: "spread by zone, in spite of an empty node", want: "web:b=n3", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z1"))
			w.node("n3", zone("z2"))
			w.service("x")
			w.add("x:a", on("n3"))
			w.service("web", rules(api.PlacementRules{SpreadBy: api.SpreadByZone}))
			w.add("web:a", on("n1"))
			w.add("web:b")
		}},
		{name: "zones of the same name in two regions are two", want: "web:b=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2", func(n *api.Node) { n.Region = "other" })
			w.service("x")
			w.add("x:a", on("n2"))
			w.service("web", rules(api.PlacementRules{SpreadBy: api.SpreadByZone}))
			w.add("web:a", on("n1"))
			w.add("web:b")
		}},
		{name: "spread by region", want: "web:b=n3", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z2"))
			w.node("n3", func(n *api.Node) { n.Region = "other" })
			w.service("x")
			w.add("x:a", on("n3"))
			w.service("web", rules(api.PlacementRules{SpreadBy: api.SpreadByRegion}))
			w.add("web:a", on("n1"))
			w.add("web:b")
		}},
		{name: "a fleet is spread by itself", want: "web:blue-0=n1", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("web")
			w.service("x")
			w.add("web:a", on("n1"))
			w.add("x:a", on("n2"))
			w.add("x:b", on("n2"))
			w.fleet("web:blue", 1, nil)
		}},
		{name: "affinity", want: "web:a=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("x")
			w.add("x:a", on("n2"))
			w.service("web", rules(api.PlacementRules{Affinities: []api.Affinity{{Match: "node = n2", Weight: 1}}}))
			w.add("web:a")
		}},
		{name: "affinity: away", want: "web:a=n2", do: func(w *world) {
			w.node("n1")
			w.node("n2")
			w.service("x")
			w.add("x:a", on("n2"))
			w.service("web", rules(api.PlacementRules{Affinities: []api.Affinity{{Match: "node = n1", Weight: -1}}}))
			w.add("web:a")
		}},
		{name: "an affinity of 100 is worth a share", want: "web:f-0=n1 web:f-1=n1 web:f-2=n1 web:f-3=n2", do: func(w *world) {
			w.node("n1", zone("z1"))
			w.node("n2", zone("z2"))
			w.service("web")
			w.fleet("web:f", 4, &api.PlacementRules{
				SpreadBy: api.SpreadByZone, Affinities: []api.Affinity{{Match: "zone = z1", Weight: 100}},
			})
		}},
		{name: "down, before the deadline", want: "", now: later.Add(-1), do: func(w *world) {
			w.node("n1", dead)
			w.node("n2")
			w.service("web")
			w.add("web:a", on("n1"))
		}},
		{name: "down, at the deadline", want: "web:a=n2", now: later, do: func(w *world) {
			w.node("n1", dead, drain)
			w.node("n2")
			w.service("web")
			w.add("web:a", on("n1"))
		}},
		{name: "down, but kept", want: "", now: later, do: func(w *world) {
			w.node("n1", dead)
			w.node("n2")
			w.service("web", disconnect(api.DisconnectKeep))
			w.add("web:a", on("n1"))
		}},
		{name: "down, single writer, lease not ended", want: "", now: later, do: func(w *world) {
			w.node("n1", dead)
			w.node("n2")
			w.service("web", disconnect(api.DisconnectStop))
			w.add("web:a", on("n1"))
		}},
		{name: "down, single writer, lease ended", want: "web:a=n2", now: later, do: func(w *world) {
			w.node("n1", dead)
			w.node("n2")
			w.ended["n1"] = true
			w.service("web", disconnect(api.DisconnectStop))
			w.add("web:a", on("n1"))
		}},
		{name: "down, single writer, lease ended before the deadline", want: "", now: start, do: func(w *world) {
			w.node("n1", dead)
			w.node("n2")
			w.ended["n1"] = true
			w.service("web", disconnect(api.DisconnectStop))
			w.add("web:a", on("n1"))
		}},
		{name: "left: its own", want: "", now: later, do: func(w *world) {
			w.node("n1", func(n *api.Node) { n.Status = api.NodeLeft })
			w.node("n2")
			w.service("web")
			w.add("web:a", on("n1"))
		}},
		{name: "cordoned: keeps what it has", want: "", do: func(w *world) {
			w.node("n1", cordon)
			w.node("n2")
			w.service("web")
			w.add("web:a", on("n1"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.do(w)
			now := tt.now
			if now.IsZero() {
				now = start
			}
			plan := w.plan(now)
			if got := where(plan); got != tt.want {
				t.Fatalf("got  %s\nwant %s", got, tt.want)
			}
			for _, p := range plan {
				if want := w.get(p.Ref.String()).Generation + 1; p.Generation != want {
					t.Errorf("%s: got generation %d, want %d", p.Ref, p.Generation, want)
				}
			}
		})
	}
}

func TestNextDeadline(t *testing.T) {
	w := newWorld()
	w.node("up")
	if at, ok := NextDeadline(w, start); ok {
		t.Errorf("nothing is down: got %v", at)
	}
	for id, after := range map[string]time.Duration{"passed": 0, "late": 3 * time.Second, "early": time.Second} {
		w.node(id, dead).Deadline = start.Add(after)
	}
	for _, tt := range []struct {
		now  time.Duration
		want time.Duration // 0: none
	}{{-time.Second, 0}, {0, time.Second}, {time.Second, 3 * time.Second}, {3 * time.Second, 0}} {
		at, ok := NextDeadline(w, start.Add(tt.now))
		want := start.Add(tt.want)
		if tt.now < 0 {
			ok = ok && at.Equal(start)
			if !ok {
				t.Errorf("at %v: got %v, %v, want the deadline that is still to come", tt.now, at, ok)
			}
			continue
		}
		if ok != (tt.want > 0) || ok && !at.Equal(want) {
			t.Errorf("at %v: got %v, %v, want %v", tt.now, at, ok, want)
		}
	}
}
