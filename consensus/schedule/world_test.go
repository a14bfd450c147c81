package schedule

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a View that tests build by hand, and that carries placements out as the state
// does.
type world struct {
	nodes     []*api.Node
	services  map[string]*api.Service
	fleets    map[api.Ref]*api.Fleet
	instances []*api.Instance
	ended     map[string]bool // nodes whose lease has ended
}

func newWorld() *world {
	return &world{services: map[string]*api.Service{}, fleets: map[api.Ref]*api.Fleet{}, ended: map[string]bool{}}
}

func (w *world) Index() uint64              { return 7 }
func (w *world) Nodes() iter.Seq[*api.Node] { return slices.Values(w.nodes) }

func (w *world) Service(name string) (*api.Service, bool) {
	s, ok := w.services[name]
	return s, ok
}

func (w *world) Fleet(ref api.Ref) (*api.Fleet, bool) {
	f, ok := w.fleets[ref]
	return f, ok
}

func (w *world) filter(keep func(*api.Instance) bool) iter.Seq[*api.Instance] {
	return func(yield func(*api.Instance) bool) {
		for _, i := range w.instances {
			if keep(i) && !yield(i) {
				return
			}
		}
	}
}

func (w *world) Instances(service string) iter.Seq[*api.Instance] {
	return w.filter(func(i *api.Instance) bool { return service == "" || i.Service == service })
}

func (w *world) InstancesOn(node string) iter.Seq[*api.Instance] {
	return w.filter(func(i *api.Instance) bool { return i.Node == node })
}

func (w *world) Ended(node string, _ time.Time) bool { return w.ended[node] }

// node adds a node with 4 CPUs and 4 GiB in zone z, region r.
func (w *world) node(id string, change ...func(*api.Node)) *api.Node {
	n := &api.Node{ID: id, Name: "name-" + id, Zone: "z", Region: "r", Capacity: api.Capacity{CPUs: 4, Memory: 4 << 30}}
	n.SetDefaults()
	for _, c := range change {
		c(n)
	}
	w.nodes = append(w.nodes, n)
	return n
}

func zone(z string) func(*api.Node) { return func(n *api.Node) { n.Zone = z } }

func memory(mib int) func(*api.Node) {
	return func(n *api.Node) { n.Capacity.Memory = api.Size(mib) << 20 }
}

func eligibility(e api.Eligibility) func(*api.Node) { return func(n *api.Node) { n.Eligibility = e } }

var (
	cordon = eligibility(api.EligibilityCordoned)
	drain  = eligibility(api.EligibilityDraining)
)

// dead is down, its deadline a second after start.
func dead(n *api.Node) { n.Status, n.Deadline = api.NodeDown, start.Add(time.Second) }

// service adds a service that keeps no data and has no limits.
func (w *world) service(name string, change ...func(*api.Service)) *api.Service {
	no := false
	s := &api.Service{Name: name, Command: "true", StoragePersist: &no}
	s.SetDefaults()
	for _, c := range change {
		c(s)
	}
	w.services[name] = s
	return s
}

func rules(r api.PlacementRules) func(*api.Service) {
	return func(s *api.Service) { s.Placement = &r }
}

func limit(mib int) func(*api.Service) {
	return func(s *api.Service) { s.MemoryLimit = api.Size(mib) << 20 }
}

func persist(s *api.Service) { s.StoragePersist = nil }

func disconnect(d api.OnDisconnect) func(*api.Service) {
	return func(s *api.Service) { s.OnDisconnect = d }
}

// add adds an instance, by the name service:id.
func (w *world) add(name string, change ...func(*api.Instance)) *api.Instance {
	ref, err := api.ParseRef(name)
	if err != nil {
		panic(err)
	}
	i := &api.Instance{Service: ref.Service, ID: ref.ID}
	i.SetDefaults()
	for _, c := range change {
		c(i)
	}
	w.instances = append(w.instances, i)
	return i
}

// on puts an instance on a node, where it is running.
func on(node string) func(*api.Instance) {
	return func(i *api.Instance) {
		i.Node, i.Generation = node, 1
		i.Observed = &api.Observed{State: api.StateRunning, Generation: 1}
	}
}

func observed(s api.State) func(*api.Instance) {
	return func(i *api.Instance) { i.Observed = &api.Observed{State: s, Generation: i.Generation} }
}

func desired(d api.Desired) func(*api.Instance) { return func(i *api.Instance) { i.Desired = d } }
func pin(node string) func(*api.Instance)       { return func(i *api.Instance) { i.Pin = node } }

// fleet adds a fleet with as many members, which are on no node.
func (w *world) fleet(name string, replicas int, r *api.PlacementRules) {
	ref, err := api.ParseRef(name)
	if err != nil {
		panic(err)
	}
	f := &api.Fleet{Service: ref.Service, Name: ref.ID, Replicas: replicas, Placement: r}
	f.SetDefaults()
	w.fleets[ref] = f
	for n := range replicas {
		w.add(f.Member(n).String(), func(i *api.Instance) { i.Fleet = f.Name })
	}
}

func (w *world) plan(now time.Time) []state.Placement { return Plan(w, now, w) }

// get returns the instance service:id.
func (w *world) get(name string) *api.Instance {
	for _, i := range w.instances {
		if i.Ref().String() == name {
			return i
		}
	}
	panic("no instance " + name)
}

// apply carries out placements, as consensus/state does.
func (w *world) apply(t rapid.TB, placements []state.Placement) {
	for _, p := range placements {
		i := w.get(p.Ref.String())
		if p.Generation != i.Generation+1 {
			t.Fatalf("%s gets generation %d after %d", p.Ref, p.Generation, i.Generation)
		}
		was := *i
		i.Node, i.Generation, i.Previous = p.Node, p.Generation, nil
		if p.KeepPrevious {
			i.Previous = was.Previous
			if i.Previous == nil {
				i.Previous = &api.Previous{Node: was.Node, Generation: was.Generation}
			}
		}
		if i.DataNode == "" && was.Observed != nil && w.services[i.Service].Persist() {
			i.DataNode = was.Node
		}
		if i.DataNode == i.Node {
			i.DataNode = ""
		}
	}
}

// serve makes what is placed on nodes that are up serve.
func (w *world) serve(names ...string) {
	for _, i := range w.instances {
		up := slices.ContainsFunc(w.nodes, func(n *api.Node) bool { return n.ID == i.Node && n.Reachable() })
		if !up || len(names) > 0 && !slices.Contains(names, i.Ref().String()) {
			continue
		}
		switch i.Desired {
		case api.DesiredRunning:
			observed(api.StateRunning)(i)
		case api.DesiredAsleep:
			observed(api.StateAsleep)(i)
		default:
			observed(api.StateStopped)(i)
		}
		i.Previous, i.DataNode = nil, ""
	}
}

// where returns "id=node,node…" of the placements, by instance.
func where(plan []state.Placement) string {
	plan = slices.Clone(plan)
	slices.SortFunc(plan, func(a, b state.Placement) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	s := ""
	for _, p := range plan {
		s += fmt.Sprintf(" %s=%s", p.Ref, p.Node)
		if p.KeepPrevious {
			s += "+"
		}
	}
	return s[min(1, len(s)):]
}

// shuffled is the same world in another order.
func (w *world) shuffled(seed uint64) *world {
	c := *w
	r := rand.New(rand.NewPCG(seed, 1))
	c.nodes, c.instances = slices.Clone(w.nodes), slices.Clone(w.instances)
	r.Shuffle(len(c.nodes), func(i, j int) { c.nodes[i], c.nodes[j] = c.nodes[j], c.nodes[i] })
	r.Shuffle(len(c.instances), func(i, j int) { c.instances[i], c.instances[j] = c.instances[j], c.instances[i] })
	return &c
}
