package schedule

import (
	"iter"

	"github.com/tenement-fleet/tenement/api"
)

// supposed is a view with some changes that were not made.
type supposed struct {
	View
	services map[string]*api.Service
	fleets   map[api.Ref]*api.Fleet
	// instances are, by service, all that there are, where that has changed.
	instances map[string]map[string]*api.Instance
	draining  map[string]bool // ids of nodes
	asked     map[api.Ref]bool
}

// supposing returns v as if the objects of r had been put, and its nodes drained.
func supposing(v View, r api.PlanRequest) (*supposed, error) {
	o := &supposed{
		View:      v,
		services:  map[string]*api.Service{},
		fleets:    map[api.Ref]*api.Fleet{},
		instances: map[string]map[string]*api.Instance{},
		draining:  map[string]bool{},
		asked:     map[api.Ref]bool{},
	}
	if r.Service != nil {
		if err := o.putService(r.Service.Clone()); err != nil {
			return nil, err
		}
	}
	if r.Fleet != nil {
		if err := o.putFleet(r.Fleet.Clone()); err != nil {
			return nil, err
		}
	}
	for _, i := range r.Instances {
		if err := o.putInstance(i.Clone()); err != nil {
			return nil, err
		}
	}
	for _, name := range r.Drain {
		if err := o.drain(name); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *supposed) putService(s *api.Service) error {
	s.SetDefaults()
	if err := s.Validate(); err != nil {
		return err
	}
	o.services[s.Name] = s
	for i := range o.Instances(s.Name) {
		o.asked[i.Ref()] = true
	}
	return nil
}

func (o *supposed) putFleet(f *api.Fleet) error {
	f.SetDefaults()
	if err := f.Validate(); err != nil {
		return err
	}
	all, err := o.change(f.Service)
	if err != nil {
		return err
	}
	o.fleets[f.Ref()] = f
	members := make(map[string]bool, f.Replicas)
	for n := range f.Replicas {
		ref := f.Member(n)
		members[ref.ID], o.asked[ref] = true, true
		if have, ok := all[ref.ID]; ok && have.Fleet != f.Name {
			return api.Errorf(api.CodeConflict, "plan fleet %s: instance %s exists and is not the fleet's", f.Ref(), ref)
		} else if !ok {
			i := &api.Instance{Service: ref.Service, ID: ref.ID, Fleet: f.Name, Source: api.SourceFleet}
			i.SetDefaults()
			all[ref.ID] = i
		}
	}
	for id, i := range all {
		if i.Fleet == f.Name && !members[id] {
			delete(all, id)
		}
	}
	return nil
}

func (o *supposed) putInstance(i *api.Instance) error {
	i.SetDefaults()
	if err := i.Validate(); err != nil {
		return err
	}
	all, err := o.change(i.Service)
	if err != nil {
		return err
	}
	i.Node, i.Generation, i.Previous, i.DataNode, i.Observed, i.Fleet = "", 0, nil, "", nil, ""
	if have, ok := all[i.ID]; ok {
		i.Node, i.Generation, i.Previous, i.DataNode = have.Node, have.Generation, have.Previous, have.DataNode
		i.Observed, i.Fleet = have.Observed, have.Fleet
	}
	all[i.ID] = i
	o.asked[i.Ref()] = true
	return nil
}

// drain takes a node's id or its name.
func (o *supposed) drain(name string) error {
	found := ""
	for n := range o.View.Nodes() {
		if n.ID == name || n.Name == name && found == "" {
			found = n.ID
		}
	}
	if found == "" {
		return api.Errorf(api.CodeNotFound, "plan to drain node %s: it does not exist", name)
	}
	o.draining[found] = true
	return nil
}

// change returns all instances of a service, by id, to be changed.
func (o *supposed) change(service string) (map[string]*api.Instance, error) {
	if _, ok := o.Service(service); !ok {
		return nil, api.Errorf(api.CodeNotFound, "plan: service %s does not exist", service)
	}
	all, ok := o.instances[service]
	if !ok {
		all = map[string]*api.Instance{}
		for i := range o.View.Instances(service) {
			all[i.ID] = i
		}
		o.instances[service] = all
	}
	return all, nil
}

func (o *supposed) Service(name string) (*api.Service, bool) {
	if s, ok := o.services[name]; ok {
		return s, true
	}
	return o.View.Service(name)
}

func (o *supposed) Fleet(ref api.Ref) (*api.Fleet, bool) {
	if f, ok := o.fleets[ref]; ok {
		return f, true
	}
	return o.View.Fleet(ref)
}

func (o *supposed) Nodes() iter.Seq[*api.Node] {
	return func(yield func(*api.Node) bool) {
		for n := range o.View.Nodes() {
			if o.draining[n.ID] {
				n = n.Clone()
				n.Eligibility = api.EligibilityDraining
			}
			if !yield(n) {
				return
			}
		}
	}
}

// Instances yields in no order: planning needs none.
func (o *supposed) Instances(service string) iter.Seq[*api.Instance] {
	return func(yield func(*api.Instance) bool) {
		if service == "" || o.instances[service] == nil {
			for i := range o.View.Instances(service) {
				if o.instances[i.Service] == nil && !yield(i) {
					return
				}
			}
		}
		for name, all := range o.instances {
			for _, i := range all {
				if (service == "" || service == name) && !yield(i) {
					return
				}
			}
		}
	}
}

func (o *supposed) InstancesOn(node string) iter.Seq[*api.Instance] {
	return func(yield func(*api.Instance) bool) {
		for i := range o.Instances("") {
			if i.Node == node && !yield(i) {
				return
			}
		}
	}
}
