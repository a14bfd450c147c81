package state

import (
	"github.com/tenement-fleet/tenement/api"
)

// PutFleet creates or changes a fleet, and with it its members: they are there, all of
// them and no others, as soon as the command is applied.
type PutFleet struct {
	Fleet   api.Fleet `json:"fleet"`
	IfMatch *uint64   `json:"if_match,omitempty"`
}

// DeleteFleet removes a fleet and its members.
type DeleteFleet struct {
	Ref     api.Ref `json:"ref"` // service:name
	IfMatch *uint64 `json:"if_match,omitempty"`
}

// maxReplicas bounds what one command can do, however it came into the log.
const maxReplicas = 100_000

func (c *PutFleet) apply(t *txn) (any, error) {
	f := c.Fleet
	if f.Name == "" {
		return nil, noKey("fleet.name")
	}
	if f.Replicas < 0 || f.Replicas > maxReplicas {
		return nil, api.Errorf(api.CodeInvalid, "read command: fleet.replicas is %d", f.Replicas)
	}
	ref := f.Ref()
	s, ok := t.services.get(ref.Service)
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "put fleet %s: service %s does not exist", ref, ref.Service)
	}
	have, exists := t.fleets.get(ref)
	var was api.Fleet
	if exists {
		was = *have
	}
	if err := match(c.IfMatch, was.Revision, "fleet", ref.String()); err != nil {
		return nil, err
	}
	if exists && have.Equal(&f) {
		return have, nil
	}
	if room := s.spec.MaxInstances - (s.instances - was.Replicas); f.Replicas > max(room, was.Replicas) {
		return nil, api.Errorf(api.CodeConflict,
			"scale fleet %s to %d: service %s has %d other instances, its max_instances is %d",
			ref, f.Replicas, ref.Service, s.instances-was.Replicas, s.spec.MaxInstances)
	}
	f.Service, f.CreatedAt = s.spec.Name, t.now
	if exists {
		f.Name, f.CreatedAt = have.Name, have.CreatedAt
	}
	f.Revision, f.UpdatedAt = t.at, t.now
	t.fleets = t.fleets.put(&f)
	t.emit(api.Event{Type: api.EventFleetUpdated, Key: ref.String(), Fleet: &f})
	return &f, t.scale(&f, was.Replicas)
}

// scale brings the members of f, of which there are as many as given, in line with it.
func (t *txn) scale(f *api.Fleet, members int) error {
	for n := members - 1; n >= f.Replicas; n-- {
		t.deleteMember(f, n)
	}
	for n := range f.Replicas {
		ref := f.Member(n)
		have, ok := t.instances.get(ref)
		switch {
		case !ok:
			t.createMember(f, ref)
		case have.Fleet != f.Name:
			return api.Errorf(api.CodeConflict, "scale fleet %s to %d: instance %s exists and is not the fleet's", f.Ref(), f.Replicas, ref)
		case have.EffectiveWeight() != f.EffectiveWeight():
			i := *have
			i.Weight, i.Revision = f.Weight, t.at
			t.storeInstance(&i)
		}
	}
	return nil
}

// createMember does not ask whether there is room, for all the fleet's members have been
// asked for together.
func (t *txn) createMember(f *api.Fleet, ref api.Ref) {
	weight := f.EffectiveWeight()
	t.storeInstance(&api.Instance{
		Service: ref.Service, ID: ref.ID, Fleet: f.Name, Source: api.SourceFleet,
		Desired: api.DesiredRunning, Weight: &weight, Revision: t.at, CreatedAt: t.now,
	})
}

func (t *txn) deleteMember(f *api.Fleet, n int) {
	if i, ok := t.instances.get(f.Member(n)); ok {
		t.deleteInstance(i)
	}
}

func (c *DeleteFleet) apply(t *txn) (any, error) {
	have, ok := t.fleets.get(c.Ref)
	if !ok {
		return nil, notFound("fleet", c.Ref.String())
	}
	if err := match(c.IfMatch, have.Revision, "fleet", c.Ref.String()); err != nil {
		return nil, err
	}
	for n := have.Replicas - 1; n >= 0; n-- {
		t.deleteMember(have, n)
	}
	t.deleteFleet(have)
	return have, nil
}

func (t *txn) deleteFleet(f *api.Fleet) {
	t.fleets = t.fleets.delete(f.Ref())
	t.emit(api.Event{Type: api.EventFleetDeleted, Key: f.Ref().String()})
}

// putMember stores what users may write of a fleet's member: whether it runs.
func (t *txn) putMember(have, put *api.Instance) (*api.Instance, error) {
	if put.Fleet != "" && put.Fleet != have.Fleet || put.Pin != have.Pin || put.EffectiveWeight() != have.EffectiveWeight() {
		return nil, memberConflict("change fleet, pin or weight of", have)
	}
	if put.Desired == have.Desired {
		return have, nil
	}
	i := *have
	i.Desired, i.Revision = put.Desired, t.at
	t.storeInstance(&i)
	return &i, nil
}

func memberConflict(verb string, i *api.Instance) error {
	return api.Errorf(api.CodeConflict, "%s instance %s: it is a member of fleet %s:%s: change or scale the fleet",
		verb, i.Ref(), i.Service, i.Fleet)
}
