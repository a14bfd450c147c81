package route

import (
	"context"
	"fmt"
	"iter"

	"github.com/tenement-fleet/tenement/api"
)

// PutService adds or changes a service.
func (r *Router) PutService(spec *api.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.service(spec.Name); s.spec.Swap(spec) == nil {
		s.version.Add(1)
	}
}

// DeleteService removes a service with its instances.
func (r *Router) DeleteService(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.services.Load().get(r.hasher(name), name)
	if !ok {
		return
	}
	s.spec.Store(nil)
	s.version.Add(1)
	for t := range s.instances.Load().all() {
		r.undeclare(t)
		r.prune(t)
	}
	r.pruneService(s)
}

// PutInstance adds or changes an instance. The gate of a new one is asleep until the
// agent moves it.
func (r *Router) PutInstance(inst *api.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.declare(r.target(inst.Ref()), inst)
	if ch, ok := r.awaited[inst.Ref()]; ok {
		delete(r.awaited, inst.Ref())
		close(ch)
	}
}

// DeleteInstance removes an instance: it gets no more requests. Those that are open go
// on and may be drained.
func (r *Router) DeleteInstance(ref api.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.find(ref); ok {
		r.undeclare(t)
		r.prune(t)
	}
}

// Reset makes the router hold exactly these services and instances. Gates of
// instances that stay are not touched.
func (r *Router) Reset(services iter.Seq[*api.Service], instances iter.Seq[*api.Instance]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.services.Load()
	next := make(map[string]*Service)
	take := func(name string) *Service {
		s, ok := next[name]
		if !ok {
			if s, ok = old.get(r.hasher(name), name); !ok {
				s = &Service{name: name, router: r}
			}
			next[name] = s
		}
		return s
	}
	declared := make(map[*Service]bool)
	for spec := range services {
		s := take(spec.Name)
		s.spec.Store(spec)
		declared[s] = true
	}
	targets := make(map[*Service][]*Target)
	kept := make(map[*Target]bool)
	for inst := range instances {
		s := take(inst.Service)
		t, ok := s.instances.Load().get(r.hasher(inst.ID), inst.ID)
		if !ok {
			t = &Target{id: inst.ID, service: s}
		}
		kept[t] = true
		targets[s] = append(targets[s], t)
		r.declare(t, inst)
	}
	for s := range old.all() {
		if !declared[s] {
			s.spec.Store(nil)
		}
		for t := range s.instances.Load().all() {
			if kept[t] {
				continue
			}
			if r.undeclare(t); !t.forgettable() {
				targets[take(s.name)] = append(targets[s], t)
			}
		}
	}
	r.install(old, next, targets)
}

// install publishes the outcome of Reset.
func (r *Router) install(old *node[*Service], next map[string]*Service, targets map[*Service][]*Target) {
	all := make([]*Service, 0, len(next))
	for _, s := range next {
		s.instances.Store(build(r.hasher, targets[s]))
		s.version.Add(1)
		all = append(all, s)
	}
	r.services.Store(build(r.hasher, all))
	r.made.Add(1)
	for s := range old.all() {
		if next[s.name] == nil {
			s.attached.close()
		}
	}
	for ref, ch := range r.awaited {
		if _, ok := r.find(ref); ok {
			delete(r.awaited, ref)
			close(ch)
		}
	}
}

// Await returns the instance once it is declared.
func (r *Router) Await(ctx context.Context, ref api.Ref) (*Target, error) {
	for {
		r.mu.Lock()
		if t, ok := r.find(ref); ok && t.Declared() {
			r.mu.Unlock()
			return t, nil
		}
		ch, ok := r.awaited[ref]
		if !ok {
			ch = make(chan struct{})
			r.awaited[ref] = ch
		}
		r.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, fmt.Errorf("await instance %s: %w", ref, context.Cause(ctx))
		}
	}
}

// service returns the service of that name, made when there is none.
func (r *Router) service(name string) *Service {
	root := r.services.Load()
	s, ok := root.get(r.hasher(name), name)
	if !ok {
		s = &Service{name: name, router: r}
		r.services.Store(root.with(r.hasher, s))
		r.made.Add(1)
	}
	return s
}

// target returns the instance of that name, made when there is none.
func (r *Router) target(ref api.Ref) *Target {
	if t, ok := r.find(ref); ok {
		return t
	}
	s := r.service(ref.Service)
	t := &Target{id: ref.ID, service: s}
	s.instances.Store(s.instances.Load().with(r.hasher, t))
	return t
}

// find returns the instance of that name, declared or not.
func (r *Router) find(ref api.Ref) (*Target, bool) {
	s, ok := r.services.Load().get(r.hasher(ref.Service), ref.Service)
	if !ok {
		return nil, false
	}
	return s.instances.Load().get(r.hasher(ref.ID), ref.ID)
}

// declare takes over what is written about an instance.
func (r *Router) declare(t *Target, inst *api.Instance) {
	before, _ := t.share()
	in := t.weighted()
	old := t.instance.Swap(inst)
	now, fleet := t.share()
	// Where a member of a fleet runs decides how near it is.
	if now != before || in != t.weighted() || fleet != "" && (old == nil || old.Fleet != fleet || owner(old) != owner(inst)) {
		t.service.version.Add(1)
	}
}

// undeclare ends a target's routing. The gate is the agent's alone to close: if the
// instance comes back before the agent noticed, its gate must be as the agent thinks.
func (r *Router) undeclare(t *Target) {
	if t.weighted() {
		defer t.service.version.Add(1)
	}
	t.instance.Store(nil)
}

// prune drops a target of which nothing needs to be known any more.
func (r *Router) prune(t *Target) {
	if !t.forgettable() || r.drains[t] != nil {
		return
	}
	s := t.service
	s.instances.Store(s.instances.Load().without(r.hasher, t.id))
	r.pruneService(s)
}

// pruneService forgets a service that is not declared and has no instances.
func (r *Router) pruneService(s *Service) {
	if s.Spec() != nil || s.instances.Load() != nil {
		return
	}
	root := r.services.Load()
	if known, ok := root.get(r.hasher(s.name), s.name); ok && known == s {
		r.services.Store(root.without(r.hasher, s.name))
		s.attached.close()
	}
}
