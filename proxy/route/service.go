package route

import (
	"io"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Service is one service as the proxy sees it, with its instances.
type Service struct {
	name      string
	router    *Router
	spec      atomic.Pointer[api.Service] // nil: not declared, or not any more
	instances atomic.Pointer[node[*Target]]

	// version counts the changes of who is in weighted traffic with what weight; the
	// balancer is rebuilt by the first weighted request that finds it outdated.
	version  atomic.Uint64
	balancer atomic.Pointer[balancer]
	cursor   atomic.Uint64

	attached attachment
}

func (s *Service) key() string { return s.name }

// Name returns the service's name.
func (s *Service) Name() string { return s.name }

// Spec returns the service's declaration, shared and not to be changed. It is nil once
// the service is gone.
func (s *Service) Spec() *api.Service { return s.spec.Load() }

// Attached returns what the proxy keeps for the service, made by open the first time.
// It is closed when the service is deleted.
func (s *Service) Attached(open func(name string) io.Closer) io.Closer {
	if v := s.attached.value.Load(); v != nil {
		return *v
	}
	return s.attached.get(func() io.Closer { return open(s.name) })
}

// Target returns the instance of that id.
func (s *Service) Target(id string) (*Target, bool) {
	t, ok := s.instances.Load().get(s.router.hasher(id), id)
	if !ok || !t.Declared() {
		return nil, false
	}
	return t, true
}

// Pick chooses the instance for the next weighted request by the weights. It steps past
// those that are down or held, and past avoid (which may be nil) if another one will do.
// When all are down it returns one of them, to be waited for; nil when no instance
// takes weighted traffic.
func (s *Service) Pick(avoid *Target) *Target {
	b := s.current()
	if b.total == 0 {
		return nil
	}
	var fallback *Target
	consider := func(t *Target) bool {
		state := t.State()
		if t != avoid && (state == Open || state == Asleep) {
			return true
		}
		// Better one that is merely to be avoided than one that is down; better any than a held one.
		if fallback == nil || fallback.State() == Held || t == avoid && state == Open {
			fallback = t
		}
		return false
	}
	for range min(window, 2*len(b.targets)) {
		if t := b.at(s.cursor.Add(1) - 1); consider(t) {
			return t
		}
	}
	for _, t := range b.targets {
		if consider(t) {
			return t
		}
	}
	return fallback
}

// current returns the balancer for the weights of now. Several requests may build it at
// once after a change; none of them waits.
func (s *Service) current() *balancer {
	old := s.balancer.Load()
	version := s.version.Load()
	if old != nil && old.version == version {
		return old
	}
	var (
		targets []*Target
		weights []uint64
	)
	for t := range s.instances.Load().all() {
		if w := t.weight(); w > 0 {
			targets, weights = append(targets, t), append(weights, w)
		}
	}
	b := newBalancer(version, targets, weights)
	s.balancer.CompareAndSwap(old, b)
	return b
}
