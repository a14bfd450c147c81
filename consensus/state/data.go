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
	// stateVersion is the most that any command so far needed of its readers, see
	// [Command.Needs]; 0 means 1.
	stateVersion int
	services     tree[string, *service]
	instances    tree[api.Ref, *api.Instance]
	// byNode indexes the instances by the node that they are placed on, "" included.
	byNode tree[placed, *api.Instance]
	// moving indexes the instances with a previous node, or with their data elsewhere.
	moving     tree[api.Ref, *api.Instance]
	fleets     tree[api.Ref, *api.Fleet]
	nodes      tree[string, *host]
	tokens     tree[string, *api.Token]
	joinTokens tree[string, *api.JoinToken]
	secret     *Secret
	sealed     tree[string, *Sealed]
	routes     tree[string, *api.Route]
	// claims indexes the routes by the addresses that they have.
	claims tree[address, *claim]
}

// service is a service and how many instances it has.
type service struct {
	spec      *api.Service
	instances int
}

// host is a node and how many instances are placed on it.
type host struct {
	spec      *api.Node
	instances int
}

// placed is the key of an instance among those of its node.
type placed struct {
	node string
	ref  api.Ref
}

func placedOf(i *api.Instance) placed { return placed{i.Node, i.Ref()} }

var (
	servicesByName  = &order[string, *service]{func(s *service) string { return s.spec.Name }, strings.Compare}
	instancesByRef  = &order[api.Ref, *api.Instance]{(*api.Instance).Ref, compareRefs}
	instancesByNode = &order[placed, *api.Instance]{placedOf, comparePlaced}
	fleetsByRef     = &order[api.Ref, *api.Fleet]{(*api.Fleet).Ref, compareRefs}
	nodesByID       = &order[string, *host]{func(h *host) string { return h.spec.ID }, strings.Compare}
	tokensByID      = &order[string, *api.Token]{func(t *api.Token) string { return t.ID }, strings.Compare}
	sealedByName    = &order[string, *Sealed]{func(s *Sealed) string { return s.Name }, strings.Compare}
	joinTokensByID  = &order[string, *api.JoinToken]{func(t *api.JoinToken) string { return t.ID }, strings.Compare}
)

func compareRefs(a, b api.Ref) int {
	if c := strings.Compare(a.Service, b.Service); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func comparePlaced(a, b placed) int {
	if c := strings.Compare(a.node, b.node); c != 0 {
		return c
	}
	return compareRefs(a.ref, b.ref)
}

func newData() data {
	return data{
		services:   servicesByName.tree(),
		instances:  instancesByRef.tree(),
		byNode:     instancesByNode.tree(),
		moving:     instancesByRef.tree(),
		fleets:     fleetsByRef.tree(),
		nodes:      nodesByID.tree(),
		tokens:     tokensByID.tree(),
		joinTokens: joinTokensByID.tree(),
		sealed:     sealedByName.tree(),
		routes:     routesByName.tree(),
		claims:     claimsByAddress.tree(),
	}
}

// setInstance stores i, which must not be changed afterwards, and keeps indexes and
// counts. The service must exist.
func (d *data) setInstance(i *api.Instance) {
	was, existed := d.instances.get(i.Ref())
	d.instances = d.instances.put(i)
	switch {
	case !existed:
		d.count(i.Service, +1)
		d.countOn(i.Node, +1)
	case was.Node != i.Node:
		d.byNode = d.byNode.delete(placedOf(was))
		d.countOn(was.Node, -1)
		d.countOn(i.Node, +1)
	}
	d.byNode = d.byNode.put(i)
	if isMoving(i) {
		d.moving = d.moving.put(i)
	} else if existed && isMoving(was) {
		d.moving = d.moving.delete(i.Ref())
	}
}

func isMoving(i *api.Instance) bool { return i.Previous != nil || i.DataNode != "" }

// removeInstance removes what setInstance stored.
func (d *data) removeInstance(i *api.Instance) {
	ref := i.Ref()
	d.instances = d.instances.delete(ref)
	d.byNode = d.byNode.delete(placedOf(i))
	d.moving = d.moving.delete(ref)
	d.count(ref.Service, -1)
	d.countOn(i.Node, -1)
}

func (d *data) count(name string, diff int) {
	if s, ok := d.services.get(name); ok {
		d.services = d.services.put(&service{spec: s.spec, instances: s.instances + diff})
	}
}

func (d *data) countOn(node string, diff int) {
	if h, ok := d.nodes.get(node); ok {
		d.nodes = d.nodes.put(&host{spec: h.spec, instances: h.instances + diff})
	}
}

// setNode stores n, which must not be changed afterwards.
func (d *data) setNode(n *api.Node) {
	h := host{spec: n}
	if have, ok := d.nodes.get(n.ID); ok {
		h.instances = have.instances
	}
	d.nodes = d.nodes.put(&h)
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
	i.Node = d.nodeID(i.Node)
	i.SourceNode = d.nodeID(i.SourceNode)
	i.Pin = d.nodeID(i.Pin)
	i.DataNode = d.nodeID(i.DataNode)
	if i.Fleet != "" {
		if f, ok := d.fleets.get(api.Ref{Service: i.Service, ID: i.Fleet}); ok {
			i.Fleet = f.Name
		}
	}
	i.Desired = canonical(i.Desired, api.DesiredRunning, api.DesiredAsleep, api.DesiredStopped)
	i.Source = canonical(i.Source, api.SourceAPI, api.SourceFile, api.SourceRequest, api.SourceFleet)
	if i.Weight != nil && 0 <= *i.Weight && *i.Weight < len(w) {
		i.Weight = &w[*i.Weight]
	}
}

// nodeID returns the stored string equal to id, or id.
func (d *data) nodeID(id string) string {
	if id != "" {
		if h, ok := d.nodes.get(id); ok {
			return h.spec.ID
		}
	}
	return id
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
