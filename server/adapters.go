package server

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/server/httpapi"
)

// cluster is consensus as the HTTP API wants it.
type cluster struct {
	*consensus.Node
	drivers map[api.Isolation]driver.Driver
}

// View implements httpapi.Cluster.
func (c cluster) View() httpapi.View { return c.Node.View() }

// PutService implements httpapi.Cluster. An isolation level that this node can't
// provide is refused here, before anything is stored.
func (c cluster) PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error) {
	if err := checkIsolation(ctx, c.drivers, s); err != nil {
		return nil, err
	}
	return c.Node.PutService(ctx, s, ifMatch)
}

// checkIsolation says whether the node can run the service at its isolation level.
func checkIsolation(ctx context.Context, drivers map[api.Isolation]driver.Driver, s *api.Service) error {
	level := s.Isolation
	if level == "" {
		level = api.DefaultIsolation
	}
	if !slices.Contains(api.Isolations(), level) {
		return nil // Validate has the words for this
	}
	d, ok := drivers[level]
	if !ok {
		return api.FieldErrors{{Field: "isolation", Got: string(level), Want: "a level that this build provides: " + provided(drivers)}}
	}
	if err := d.Probe(ctx); err != nil {
		return api.FieldErrors{{
			Field: "isolation", Got: string(level),
			Want: `a level that works on this machine (` + err.Error() + `); isolation = "process" works everywhere and is for trusted code`,
		}}
	}
	return nil
}

func provided(drivers map[api.Isolation]driver.Driver) string {
	var text string
	for _, level := range api.Isolations() {
		if _, ok := drivers[level]; ok {
			if text != "" {
				text += ", "
			}
			text += string(level)
		}
	}
	return text
}

// specs is the local state as the agent wants it: this node's share.
type specs struct{ *consensus.Node }

// Assignment implements agent.Specs.
func (s specs) Assignment(ref api.Ref) (api.Assignment, bool) {
	v := s.View()
	in, ok := v.Instance(ref)
	if !ok || in.Node != s.ID() {
		return api.Assignment{}, false
	}
	svc, ok := v.Service(ref.Service)
	if !ok {
		return api.Assignment{}, false
	}
	return api.Assignment{Instance: in, Service: svc}, true
}

// Assigned implements agent.Specs.
func (s specs) Assigned(yield func(api.Assignment) bool) {
	v := s.View()
	for svc := range v.Services() {
		for a := range onNode(v.Instances(svc.Name), s.ID()) {
			if !yield(api.Assignment{Instance: a, Service: svc}) {
				return
			}
		}
	}
}

func onNode(instances iter.Seq[*api.Instance], node string) iter.Seq[*api.Instance] {
	return func(yield func(*api.Instance) bool) {
		for in := range instances {
			if in.Node == node && !yield(in) {
				return
			}
		}
	}
}

// gate is the routing table as the agent wants it. An instance whose requests under way
// it can't count is not idle.
type gate struct {
	*route.Router
	elsewhere func(api.Ref) bool
}

// TryClose implements agent.Gate.
func (g gate) TryClose(ref api.Ref, idle time.Duration) (wait time.Duration, closed bool) {
	if g.elsewhere(ref) {
		return min(idle, time.Second), false
	}
	return g.Router.TryClose(ref, idle)
}

// requests is what the proxy asks for on behalf of a request.
type requests struct {
	node  *consensus.Node
	pump  *pump
	agent *agent.Agent
}

// Create implements proxy.Creator: it returns once the new instance is placed and the
// routing table knows it.
func (r requests) Create(ctx context.Context, ref api.Ref) error {
	in := &api.Instance{Service: ref.Service, ID: ref.ID, Source: api.SourceRequest}
	if _, err := r.node.PutInstance(ctx, in, nil); err != nil {
		return err
	}
	index, err := r.placed(ctx, ref)
	if err != nil {
		return err
	}
	return r.pump.waitFor(ctx, index)
}

// Wake implements proxy.Waker. An instance that was declared a moment ago is waited for
// until the leader has placed it.
func (r requests) Wake(ctx context.Context, ref api.Ref) error {
	if _, err := r.placed(ctx, ref); err != nil {
		return err
	}
	return r.agent.Wake(ctx, ref)
}

// placed waits until the instance has a node and returns an index at which it has.
func (r requests) placed(ctx context.Context, ref api.Ref) (uint64, error) {
	for {
		v := r.node.View()
		in, ok := v.Instance(ref)
		if !ok {
			return 0, api.Errorf(api.CodeNotFound, "wait for instance %s: there is none", ref)
		}
		if in.Node != "" {
			return v.Index(), nil
		}
		select {
		case <-v.Changed():
		case <-ctx.Done():
			return 0, api.Errorf(api.CodeTimeout, "wait for instance %s: it is not placed yet: %w", ref, context.Cause(ctx))
		}
	}
}
