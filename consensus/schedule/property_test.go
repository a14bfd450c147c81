package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"pgregory.net/rapid"
)

func pick[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

// anyWorld draws a small cluster in which everything that matters happens often.
func anyWorld(t *rapid.T) *world {
	w := newWorld()
	for n := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		w.node(fmt.Sprint("n", n), func(n *api.Node) { anyNode(t, n) })
		w.ended[fmt.Sprint("n", n)] = rapid.Bool().Draw(t, "ended")
	}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		w.service(name, func(s *api.Service) {
			yes := rapid.Bool().Draw(t, "persist")
			s.StoragePersist = &yes
			s.Isolation = pick(t, "isolation", api.IsolationNamespace, api.IsolationNamespace, api.IsolationSandbox)
			s.MemoryLimit = pick[api.Size](t, "memory", 0, 300<<20, 700<<20)
			s.CPUShares = pick(t, "cpu", 0, 300)
			s.StorageQuota = pick[api.Size](t, "storage", 0, 30)
			s.OnDisconnect = pick(t, "disconnect", "", api.DisconnectKeep, api.DisconnectStop)
			s.Placement = anyRules(t)
		})
		if rapid.Bool().Draw(t, "fleet") {
			w.fleet(name+":f", rapid.IntRange(0, 5).Draw(t, "replicas"), anyRules(t))
		}
		for n := range rapid.IntRange(0, 5).Draw(t, "instances") {
			w.add(fmt.Sprint(name, ":", n))
		}
	}
	for _, i := range w.instances {
		anyInstance(t, w, i)
	}
	return w
}

func anyNode(t *rapid.T, n *api.Node) {
	n.Zone, n.Region = pick(t, "zone", "z1", "z2"), pick(t, "region", "r1", "r2")
	n.Capacity = api.Capacity{CPUs: pick(t, "cpus", 0, 1, 2), Memory: pick[api.Size](t, "memory", 0, 1<<30, 2<<30), Storage: pick[api.Size](t, "storage", 0, 100)}
	n.Eligibility = pick(t, "eligibility", api.EligibilityEligible, api.EligibilityEligible, api.EligibilityCordoned, api.EligibilityDraining)
	if rapid.Bool().Draw(t, "isolations") {
		n.Isolations = []api.Isolation{api.IsolationNamespace}
	}
	switch n.Status = pick(t, "status", "", api.NodeUp, api.NodeUp, api.NodeDown, api.NodeLeft); n.Status {
	case api.NodeDown:
		n.Deadline = start.Add(pick(t, "deadline", -1, 0, time.Second))
	default:
	}
}

func anyRules(t *rapid.T) *api.PlacementRules {
	if rapid.Bool().Draw(t, "rules") {
		return nil
	}
	r := &api.PlacementRules{
		Strategy: pick(t, "strategy", "", api.StrategySpread, api.StrategyBinpack),
		SpreadBy: pick(t, "spread by", "", api.SpreadByNode, api.SpreadByZone, api.SpreadByRegion),
	}
	if rapid.Bool().Draw(t, "constrained") {
		r.Constraints = []api.Constraint{pick[api.Constraint](t, "constraint", "zone = z1", "region != r1", "node = n0|n1")}
	}
	if rapid.Bool().Draw(t, "affine") {
		r.Affinities = []api.Affinity{{Match: "zone = z1", Weight: pick(t, "weight", -100, -1, 30, 100)}}
	}
	if rapid.Bool().Draw(t, "averse") {
		r.AntiAffinity = []string{pick(t, "anti", "a", "b", "c")}
	}
	return r
}

func anyInstance(t *rapid.T, w *world, i *api.Instance) {
	i.Desired = pick(t, "desired", api.DesiredRunning, api.DesiredRunning, api.DesiredAsleep, api.DesiredStopped)
	if len(w.nodes) == 0 || rapid.Bool().Draw(t, "new") {
		return
	}
	id := func(name string) string { return rapid.SampledFrom(w.nodes).Draw(t, name).ID }
	i.Generation = 3
	if rapid.IntRange(0, 3).Draw(t, "placed") > 0 {
		i.Node = id("node")
		i.Observed = &api.Observed{State: rapid.SampledFrom(api.States()).Draw(t, "state"), Generation: pick[uint64](t, "seen", 2, 3, 3)}
	}
	switch rapid.IntRange(0, 7).Draw(t, "special") {
	case 0:
		i.Pin = id("pin")
	case 1:
		if d := id("data"); d != i.Node {
			i.DataNode = d
		}
	case 2:
		if d := id("previous"); d != i.Node && i.Node != "" {
			i.Previous = &api.Previous{Node: d, Generation: 2}
		}
	default:
	}
}

// use is what counts against a node, counted the simple way.
func (w *world) use(node string) (a amounts) {
	for _, i := range w.instances {
		need := needs(w.services[i.Service])
		if i.Desired == api.DesiredStopped {
			need = amounts{storage: need.storage}
		}
		switch {
		case i.Node == node, i.Previous != nil && i.Previous.Node == node:
			a.plus(need)
		case i.DataNode == node:
			a.storage += need.storage
		}
	}
	return a
}

func (a *amounts) plus(b amounts) { a.memory += b.memory; a.cpu += b.cpu; a.storage += b.storage }

func (w *world) rulesOf(i *api.Instance) *api.PlacementRules {
	if f, ok := w.fleets[api.Ref{Service: i.Service, ID: i.Fleet}]; ok && f.Placement != nil {
		return f.Placement.WithDefaults()
	}
	return w.services[i.Service].Placement.WithDefaults()
}

func (w *world) nodeByID(id string) *api.Node {
	for _, n := range w.nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// checkPlaced checks one placement against the rules, one by one, after all of the plan
// has been carried out.
func (w *world) checkPlaced(t *rapid.T, was api.Instance, p state.Placement) {
	i, n, s := w.get(p.Ref.String()), w.nodeByID(p.Node), w.services[p.Ref.Service]
	from := w.nodeByID(was.Node)
	switch {
	case n == nil || !n.Reachable() || n.Eligibility == api.EligibilityDraining:
		t.Fatalf("%s went to %s, which takes nothing", p.Ref, p.Node)
	case n.Eligibility == api.EligibilityCordoned && i.Pin != n.ID:
		t.Fatalf("%s went to %s, which is cordoned", p.Ref, p.Node)
	case i.Pin != "" && i.Pin != n.ID:
		t.Fatalf("%s went to %s, but is pinned to %s", p.Ref, p.Node, i.Pin)
	case len(n.Isolations) > 0 && !slices.Contains(n.Isolations, s.Isolation):
		t.Fatalf("%s went to %s, which lacks %s", p.Ref, p.Node, s.Isolation)
	case from == nil:
	case from.Status == api.NodeLeft, from.Reachable() && from.Eligibility != api.EligibilityDraining:
		t.Fatalf("%s was moved, but %s is well", p.Ref, from.ID)
	case from.Reachable():
	case s.Disconnect() == api.DisconnectKeep:
		t.Fatalf("%s is to be kept, but was replaced", p.Ref)
	case start.Before(from.Deadline):
		t.Fatalf("%s was replaced before the deadline", p.Ref)
	case s.Disconnect() == api.DisconnectStop && !w.ended[from.ID]:
		t.Fatalf("%s was replaced before the lease ended", p.Ref)
	}
	for _, k := range w.rulesOf(i).Constraints {
		if !k.Compile()(n) {
			t.Fatalf("%s went to %s, against %q", p.Ref, p.Node, k)
		}
	}
	for _, o := range w.instances {
		if o == i || o.Node != n.ID {
			continue
		}
		if slices.Contains(w.rulesOf(i).AntiAffinity, o.Service) || slices.Contains(w.rulesOf(o).AntiAffinity, i.Service) {
			t.Fatalf("%s went to %s, where %s is", p.Ref, p.Node, o.Ref())
		}
	}
	use, c := w.use(n.ID), n.Capacity
	need := needs(s)
	stopped := i.Desired == api.DesiredStopped
	if c.Memory > 0 && need.memory > 0 && !stopped && use.memory > int64(c.Memory) ||
		c.CPUs > 0 && need.cpu > 0 && !stopped && use.cpu > int64(c.CPUs)*api.CPUSharesPerCPU ||
		c.Storage > 0 && need.storage > 0 && use.storage > int64(c.Storage) {
		t.Fatalf("%s went to %s, which is over capacity then: %+v of %+v", p.Ref, n.ID, use, c)
	}
}

// Whatever the state: every placement keeps all rules, does not depend on order, and is
// what is explained.
func TestPlanKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		plan := w.plan(start)
		for seed := range uint64(3) {
			if other := w.shuffled(seed).plan(start); !slices.Equal(plan, other) {
				t.Fatalf("in another order: got %v, not %v", other, plan)
			}
		}
		checkExplained(t, w, plan)
		before := map[api.Ref]api.Instance{}
		for _, i := range w.instances {
			before[i.Ref()] = *i
		}
		w.apply(t, plan)
		for _, p := range plan {
			w.checkPlaced(t, before[p.Ref], p)
		}
	})
}

// checkExplained checks that Explain and Plan agree, and that the numbers add up.
func checkExplained(t *rapid.T, w *world, plan []state.Placement) {
	r, err := Explain(w.shuffled(9), start, w, api.PlanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	placed := map[api.Ref]string{}
	for _, p := range plan {
		placed[p.Ref] = p.Node
	}
	explained := map[api.Ref]string{}
	for _, d := range r.Changes {
		if d.Node != "" && d.Node != d.From {
			explained[d.Ref] = d.Node
		}
		if d.Reason == "" {
			t.Fatalf("%s: no reason", d.Ref)
		}
		sum := 0
		for _, e := range d.Excluded {
			sum += e.Nodes
		}
		if d.Node == "" && sum != len(w.nodes) || sum > len(w.nodes) {
			t.Fatalf("%s goes to %q: %d of %d nodes are excluded by %v", d.Ref, d.Node, sum, len(w.nodes), d.Excluded)
		}
	}
	if !maps.Equal(placed, explained) {
		t.Fatalf("planned %v, explained %v", placed, explained)
	}
	if !slices.IsSortedFunc(r.Changes, func(a, b api.Decision) int {
		return cmp.Or(strings.Compare(a.Ref.Service, b.Ref.Service), strings.Compare(a.Ref.ID, b.Ref.ID))
	}) {
		t.Fatal("decisions are not in order")
	}
}

// A plan that has been carried out and reported leads to an end: after it nothing is
// planned, what moves never comes back, and no node loses two that serve at a time.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		w.serve() // so that nothing is moving already
		moving := map[string]map[api.Ref]bool{}
		for round := 0; ; round++ {
			if round > 200 {
				t.Fatal("no end to it")
			}
			plan := w.plan(start)
			for _, p := range plan {
				i := w.get(p.Ref.String())
				if s := w.services[i.Service]; s.Disconnect() == api.DisconnectStop && !s.Persist() {
					continue // leaves nothing by which its move could be seen; see DESIGN.md
				}
				if from := w.nodeByID(i.Node); from != nil && from.Reachable() && fateOnDraining(i) == leavesLive {
					if moving[from.ID] == nil {
						moving[from.ID] = map[api.Ref]bool{}
					}
					moving[from.ID][p.Ref] = true
				}
			}
			for id, m := range moving {
				if len(m) > 1 {
					t.Fatalf("%v leave %s at a time", m, id)
				}
			}
			w.apply(t, plan)
			var waiting []string
			for _, i := range w.instances {
				if i.Observed == nil || i.Observed.Generation != i.Generation {
					waiting = append(waiting, i.Ref().String())
				}
			}
			if len(plan) == 0 && len(waiting) == 0 {
				return
			}
			if again := w.plan(start); len(plan) == 0 && len(again) > 0 {
				t.Fatalf("the same view, another plan: %v", again)
			}
			if len(waiting) > 0 {
				name := rapid.SampledFrom(waiting).Draw(t, "reported")
				w.serve(name)
				if n := w.nodeByID(w.get(name).Node); n == nil || !n.Reachable() {
					observed(api.StateRunning)(w.get(name)) // never will: don't wait for it
				}
				for _, m := range moving {
					delete(m, w.get(name).Ref())
				}
			}
		}
	})
}

// From scratch, without limits and preferences, numbers differ by one at most: over what
// a group is spread, and over the nodes of each.
func TestPlanIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		nodes := rapid.IntRange(1, 12).Draw(t, "nodes")
		for n := range nodes {
			w.node(fmt.Sprint("n", n), func(n *api.Node) {
				n.Zone, n.Region = pick(t, "zone", "z1", "z2", "z3"), pick(t, "region", "r1", "r2")
			})
		}
		by := pick(t, "spread by", "", api.SpreadByNode, api.SpreadByZone, api.SpreadByRegion)
		w.service("x")
		for n := range rapid.IntRange(0, 20).Draw(t, "others") {
			w.add(fmt.Sprint("x:", n), on(fmt.Sprint("n", n%nodes)))
		}
		w.service("web", rules(api.PlacementRules{SpreadBy: by}))
		for n := range rapid.IntRange(0, 60).Draw(t, "instances") {
			w.add(fmt.Sprint("web:", n))
		}
		w.apply(t, w.plan(start))
		over := func(n *api.Node) string {
			switch by {
			case api.SpreadByZone:
				return n.Region + "/" + n.Zone
			case api.SpreadByRegion:
				return n.Region
			default:
				return n.ID
			}
		}
		domains, inside := map[string]int{}, map[string]map[string]int{}
		for _, n := range w.nodes {
			domains[over(n)] = 0
			if inside[over(n)] == nil {
				inside[over(n)] = map[string]int{}
			}
			inside[over(n)][n.ID] = 0
		}
		for i := range w.Instances("web") {
			d := over(w.nodeByID(i.Node))
			domains[d]++
			inside[d][i.Node]++
		}
		even(t, domains)
		for _, nodes := range inside {
			even(t, nodes)
		}
	})
}

func even(t *rapid.T, numbers map[string]int) {
	all := slices.Sorted(maps.Values(numbers))
	if all[len(all)-1]-all[0] > 1 {
		t.Fatalf("uneven: %v", numbers)
	}
}

// Equal nodes are not all taken in the order of their ids.
func TestTiesAreSpread(t *testing.T) {
	first := map[string]int{}
	for n := range 100 {
		w := newWorld()
		for n := range 4 {
			w.node(fmt.Sprint("n", n))
		}
		name := fmt.Sprint("web", n)
		w.service(name)
		w.add(name + ":a")
		first[w.plan(start)[0].Node]++
	}
	for n := range 4 {
		if got := first[fmt.Sprint("n", n)]; got < 10 {
			t.Errorf("n%d was first %d times of 100: %v", n, got, first)
		}
	}
}
