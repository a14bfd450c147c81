package state

import (
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// data is one version of everything that is replicated. It is a value made of
// persistent trees: a copy is a snapshot, and changing the copy leaves the original.
type data struct {
	index     uint64 // how many commands have changed anything
	clusterID string
	services  tree[string, *service]
	instances tree[api.Ref, *api.Instance]
	// unplaced indexes the instances that are on no node.
	unplaced tree[api.Ref, *api.Instance]
	nodes    tree[string, *api.Node]
	tokens   tree[string, *api.Token]
}

// service is a service and how many instances it has.
type service struct {
	spec      *api.Service
	instances int
}

var (
	servicesByName = &order[string, *service]{func(s *service) string { return s.spec.Name }, strings.Compare}
	instancesByRef = &order[api.Ref, *api.Instance]{(*api.Instance).Ref, compareRefs}
	nodesByID      = &order[string, *api.Node]{func(n *api.Node) string { return n.ID }, strings.Compare}
	tokensByID     = &order[string, *api.Token]{func(t *api.Token) string { return t.ID }, strings.Compare}
)

func compareRefs(a, b api.Ref) int {
	if c := strings.Compare(a.Service, b.Service); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func newData() data {
	return data{
		services:  servicesByName.tree(),
		instances: instancesByRef.tree(),
		unplaced:  instancesByRef.tree(),
		nodes:     nodesByID.tree(),
		tokens:    tokensByID.tree(),
	}
}

// setInstance stores i, which must not be changed afterwards, and keeps the index of
// what is unplaced and the service's count. The service must exist.
func (d *data) setInstance(i *api.Instance) {
	before := d.instances.len
	d.instances = d.instances.put(i)
	d.count(i.Service, d.instances.len-before)
	if i.Node == "" {
		d.unplaced = d.unplaced.put(i)
	} else {
		d.unplaced = d.unplaced.delete(i.Ref())
	}
}

func (d *data) removeInstance(ref api.Ref) {
	before := d.instances.len
	d.instances = d.instances.delete(ref)
	d.unplaced = d.unplaced.delete(ref)
	d.count(ref.Service, d.instances.len-before)
}

func (d *data) count(name string, diff int) {
	if s, ok := d.services.get(name); ok && diff != 0 {
		d.services = d.services.put(&service{spec: s.spec, instances: s.instances + diff})
	}
}

// weights are what the Weight of every stored instance points to: one int a value
// instead of one an instance.
type weights [api.MaxWeight + 1]int

func newWeights() *weights {
	var w weights
	for i := range w {
		w[i] = i
	}
	return &w
}

// compact makes i share with the rest of the state what it has in common with it:
// decoding has given every field memory of its own.
func (d *data) compact(i *api.Instance, w *weights) {
	if s, ok := d.services.get(i.Service); ok {
		i.Service = s.spec.Name
	}
	if n, ok := d.nodes.get(i.Node); ok {
		i.Node = n.ID
	}
	i.Desired = canonical(i.Desired, api.DesiredRunning, api.DesiredAsleep, api.DesiredStopped)
	i.Source = canonical(i.Source, api.SourceAPI, api.SourceFile, api.SourceRequest)
	if i.Weight != nil && 0 <= *i.Weight && *i.Weight < len(w) {
		i.Weight = &w[*i.Weight]
	}
}

// canonical returns the constant equal to v, or v.
func canonical[T ~string](v T, constants ...T) T {
	for _, c := range constants {
		if v == c {
			return c
		}
	}
	return v
}
