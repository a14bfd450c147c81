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
	changed bool      // whether the command has had an effect
	events  []api.Event
}

func (t *txn) emit(e api.Event) {
	t.changed = true
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
		t.clusterID, t.changed = c.ClusterID, true
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
		t.deleteInstance(i)
	}
	for f := range t.fleets.from(api.Ref{Service: name}) {
		if f.Service != name {
			break
		}
		t.deleteFleet(f)
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
	switch {
	case exists && have.Equal(&i):
		return have, nil
	case exists && have.Fleet != "":
		return t.putMember(have, &i)
	case i.Fleet != "":
		return nil, api.Errorf(api.CodeConflict, "put instance %s: only scaling fleet %s:%s makes members of it", i.Ref(), i.Service, i.Fleet)
	}
	was := &api.Instance{CreatedAt: t.now, ID: i.ID}
	if exists {
		was = have
	} else if err := t.roomFor(i.Ref()); err != nil {
		return nil, err
	}
	i.Revision, i.ID, i.CreatedAt = t.at, was.ID, was.CreatedAt
	i.Node, i.Generation, i.Observed = was.Node, was.Generation, was.Observed
	i.Previous, i.DataNode = was.Previous, was.DataNode
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
	if have.Fleet != "" {
		return nil, memberConflict("delete", have)
	}
	t.deleteInstance(have)
	return have, nil
}

func (t *txn) deleteInstance(i *api.Instance) {
	t.removeInstance(i)
	t.emit(api.Event{Type: api.EventInstanceDeleted, Key: i.Ref().String()})
}

func (c *PutToken) apply(t *txn) (any, error) {
	k := c.Token
	if k.ID == "" {
		return nil, noKey("token.id")
	}
	k.CreatedAt = t.now
	have, ok := t.tokens.get(k.ID)
	if !ok {
		have = &api.Token{}
	}
	if err := match(c.IfMatch, have.Revision, "token", k.ID); err != nil {
		return nil, err
	}
	if ok {
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
