package state

import (
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// txn is one command at work: a copy of the data that it may change, kept only if the
// command succeeds.
type txn struct {
	data
	weights *weights
	at      uint64    // the index if the command has an effect
	now     time.Time // the command's time
	events  []api.Event
}

func (t *txn) emit(e api.Event) {
	e.Index = t.at
	t.events = append(t.events, e)
}

// match checks an If-Match condition against the current revision, 0 for none.
func match(want *uint64, have uint64, kind, key string) error {
	if want == nil || *want == have {
		return nil
	}
	if have == 0 {
		return api.Errorf(api.CodeStaleRevision, "change %s %s: it does not exist, so it has no revision %d", kind, key, *want)
	}
	return api.Errorf(api.CodeStaleRevision, "change %s %s: its revision is %d, not %d", kind, key, have, *want)
}

func notFound(kind, key string) error {
	return api.Errorf(api.CodeNotFound, "find %s %s: it does not exist", kind, key)
}

func noKey(field string) error {
	return api.Errorf(api.CodeInvalid, "read command: %s is empty", field)
}

func (c *InitCluster) apply(t *txn) (any, error) {
	switch t.clusterID {
	case c.ClusterID:
		return c.ClusterID, nil
	case "":
		t.clusterID = c.ClusterID
		return c.ClusterID, nil
	default:
		return nil, api.Errorf(api.CodeConflict, "name cluster %s: it is already cluster %s", c.ClusterID, t.clusterID)
	}
}

func (c *PutService) apply(t *txn) (any, error) {
	if c.Service.Name == "" {
		return nil, noKey("service.name")
	}
	var revision uint64
	if have, ok := t.services.get(c.Service.Name); ok {
		revision = have.spec.Revision
	}
	if err := match(c.IfMatch, revision, "service", c.Service.Name); err != nil {
		return nil, err
	}
	return t.putService(c.Service), nil
}

func (t *txn) putService(s api.Service) *api.Service {
	s.CreatedAt = t.now
	instances := 0
	if have, ok := t.services.get(s.Name); ok {
		if have.spec.Equal(&s) {
			return have.spec
		}
		s.Name, s.CreatedAt, instances = have.spec.Name, have.spec.CreatedAt, have.instances
	}
	s.Revision, s.UpdatedAt = t.at, t.now
	t.services = t.services.put(&service{spec: &s, instances: instances})
	t.emit(api.Event{Type: api.EventServiceUpdated, Key: s.Name, Service: &s})
	return &s
}

func (c *DeleteService) apply(t *txn) (any, error) {
	have, ok := t.services.get(c.Name)
	if !ok {
		return nil, notFound("service", c.Name)
	}
	if err := match(c.IfMatch, have.spec.Revision, "service", c.Name); err != nil {
		return nil, err
	}
	t.deleteService(c.Name)
	return have.spec, nil
}

func (t *txn) deleteService(name string) {
	for i := range t.instances.from(api.Ref{Service: name}) {
		if i.Service != name {
			break
		}
		t.deleteInstance(i.Ref())
	}
	t.services = t.services.delete(name)
	t.emit(api.Event{Type: api.EventServiceDeleted, Key: name})
}

func (c *PutInstance) apply(t *txn) (any, error) {
	ref := c.Instance.Ref()
	if ref.ID == "" {
		return nil, noKey("instance.id")
	}
	var revision uint64
	if have, ok := t.instances.get(ref); ok {
		revision = have.Revision
	}
	if err := match(c.IfMatch, revision, "instance", ref.String()); err != nil {
		return nil, err
	}
	return t.putInstance(c.Instance)
}

// putInstance stores what users write of i; the rest stays, or is empty at first.
func (t *txn) putInstance(i api.Instance) (*api.Instance, error) {
	have, exists := t.instances.get(i.Ref())
	if exists && have.Equal(&i) {
		return have, nil
	}
	i.Revision = t.at
	if exists {
		i.ID, i.CreatedAt = have.ID, have.CreatedAt
		i.Node, i.Generation, i.Observed = have.Node, have.Generation, have.Observed
	} else {
		if err := t.roomFor(i.Ref()); err != nil {
			return nil, err
		}
		i.CreatedAt, i.Node, i.Generation, i.Observed = t.now, "", 0, nil
	}
	t.storeInstance(&i)
	return &i, nil
}

func (t *txn) roomFor(ref api.Ref) error {
	s, ok := t.services.get(ref.Service)
	if !ok {
		return api.Errorf(api.CodeNotFound, "create instance %s: service %s does not exist", ref, ref.Service)
	}
	if s.instances >= s.spec.MaxInstances {
		return api.Errorf(api.CodeConflict, "create instance %s: service %s has %d instances, its max_instances is %d",
			ref, ref.Service, s.instances, s.spec.MaxInstances)
	}
	return nil
}

func (t *txn) storeInstance(i *api.Instance) {
	t.compact(i, t.weights)
	t.setInstance(i)
	t.emit(api.Event{Type: api.EventInstanceUpdated, Key: i.Ref().String(), Instance: i})
}

func (c *DeleteInstance) apply(t *txn) (any, error) {
	have, ok := t.instances.get(c.Ref)
	if !ok {
		return nil, notFound("instance", c.Ref.String())
	}
	if err := match(c.IfMatch, have.Revision, "instance", c.Ref.String()); err != nil {
		return nil, err
	}
	t.deleteInstance(c.Ref)
	return have, nil
}

func (t *txn) deleteInstance(ref api.Ref) {
	t.removeInstance(ref)
	t.emit(api.Event{Type: api.EventInstanceDeleted, Key: ref.String()})
}

func (c *PutNode) apply(t *txn) (any, error) {
	n := c.Node
	if n.ID == "" {
		return nil, noKey("node.id")
	}
	n.JoinedAt = t.now
	if have, ok := t.nodes.get(n.ID); ok {
		if have.Equal(&n) {
			return have, nil
		}
		n.ID, n.JoinedAt = have.ID, have.JoinedAt
	}
	n.Revision = t.at
	t.nodes = t.nodes.put(&n)
	t.emit(api.Event{Type: api.EventNodeUpdated, Key: n.ID, Node: &n})
	return &n, nil
}

func (c *PutToken) apply(t *txn) (any, error) {
	k := c.Token
	if k.ID == "" {
		return nil, noKey("token.id")
	}
	k.CreatedAt = t.now
	if have, ok := t.tokens.get(k.ID); ok {
		if have.Equal(&k) {
			return have, nil
		}
		k.CreatedAt = have.CreatedAt
	}
	k.Revision = t.at
	t.tokens = t.tokens.put(&k)
	t.emit(api.Event{Type: api.EventTokenUpdated, Key: k.ID, Token: &k})
	return &k, nil
}

func (c *DeleteToken) apply(t *txn) (any, error) {
	have, ok := t.tokens.get(c.ID)
	if !ok {
		return nil, notFound("token", c.ID)
	}
	t.tokens = t.tokens.delete(c.ID)
	t.emit(api.Event{Type: api.EventTokenDeleted, Key: c.ID})
	return have, nil
}

// apply returns how many of the placements took effect.
func (c *Place) apply(t *txn) (any, error) {
	placed := 0
	for _, p := range c.Placements {
		have, ok := t.instances.get(p.Ref)
		if !ok || p.Generation != have.Generation+1 {
			continue
		}
		if _, ok := t.nodes.get(p.Node); !ok {
			continue
		}
		i := *have
		i.Node, i.Generation = p.Node, p.Generation
		t.storeInstance(&i)
		placed++
	}
	return placed, nil
}

// apply returns how many of the reports took effect.
func (c *Report) apply(t *txn) (any, error) {
	taken := 0
	for n := range c.Reports {
		have, ok := t.instances.get(c.Reports[n].Ref)
		seen := c.Reports[n].Observed
		if !ok || have.Node != c.Node || c.Node == "" || have.Generation != seen.Generation {
			continue
		}
		taken++
		if equalObserved(have.Observed, &seen) {
			continue
		}
		seen.State = canonical(seen.State, api.States()...)
		i := *have
		i.Observed = &seen
		t.storeInstance(&i)
	}
	return taken, nil
}
