package state

import "github.com/tenement-fleet/tenement/api"

// apply returns how many of the placements took effect.
func (c *Place) apply(t *txn) (any, error) {
	placed := 0
	for n := range c.Placements {
		if t.place(&c.Placements[n]) {
			placed++
		}
	}
	return placed, nil
}

func (t *txn) place(p *Placement) bool {
	have, ok := t.instances.get(p.Ref)
	if !ok || p.Generation != have.Generation+1 {
		return false
	}
	if _, ok := t.nodes.get(p.Node); !ok && p.Node != "" {
		return false
	}
	i := *have
	i.Node, i.Generation = p.Node, p.Generation
	i.Previous = previous(have, p)
	i.DataNode = t.dataNode(have)
	if i.DataNode == i.Node {
		i.DataNode = ""
	}
	t.storeInstance(&i)
	return true
}

// previous returns where an instance goes on serving while p moves it.
func previous(have *api.Instance, p *Placement) *api.Previous {
	if !p.KeepPrevious || p.Node == "" {
		return nil
	}
	// When a move has not ended yet, it is the node before that still serves.
	from := have.Previous
	if from == nil {
		from = &api.Previous{Node: have.Node, Generation: have.Generation}
	}
	if from.Node == "" || from.Node == p.Node {
		return nil
	}
	return from
}

// dataNode returns the node that has the data of an instance which leaves its own; ""
// when there are none. One that must never run twice leaves at least its process, whose
// end is to be waited for.
func (t *txn) dataNode(have *api.Instance) string {
	if have.DataNode != "" || have.Observed == nil {
		return have.DataNode
	}
	if s, ok := t.services.get(have.Service); ok && !s.spec.Persist() && s.spec.Disconnect() != api.DisconnectStop {
		return ""
	}
	return have.Node
}

// apply returns the instance as it is then, whether or not the command had an effect.
func (c *EndMove) apply(t *txn) (any, error) {
	have, ok := t.instances.get(c.Ref)
	if !ok {
		return nil, notFound("instance", c.Ref.String())
	}
	if have.Previous == nil || have.Generation != c.Generation {
		return have, nil
	}
	i := *have
	i.Previous = nil
	t.storeInstance(&i)
	return &i, nil
}

// apply returns how many of the reports took effect.
func (c *Report) apply(t *txn) (any, error) {
	taken := 0
	for n := range c.Reports {
		if t.report(c.Node, &c.Reports[n]) {
			taken++
		}
	}
	return taken, nil
}

func (t *txn) report(node string, r *api.Report) bool {
	have, ok := t.instances.get(r.Ref)
	if !ok || have.Node != node || node == "" || have.Generation != r.Observed.Generation {
		return false
	}
	i := *have
	if !equalObserved(have.Observed, &r.Observed) {
		seen := r.Observed
		seen.State = canonical(seen.State, api.States()...)
		seen.Desired = canonical(seen.Desired, api.DesiredStates()...)
		i.Observed = &seen
	}
	if r.Observed.State.Serving() {
		i.Previous = nil
	}
	if r.DataHere {
		i.DataNode = ""
	}
	if i != *have {
		t.storeInstance(&i)
	}
	return true
}
