package server

import (
	"context"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/server/auth"
	"github.com/tenement-fleet/tenement/server/httpapi"
)

// cluster is consensus as the HTTP API wants it.
type cluster struct {
	*consensus.Node
	drivers map[api.Isolation]driver.Driver
	pump    *pump
}

// routeWait bounds how long an answer to a write waits for the routing table.
const routeWait = time.Second

// routed returns once this node routes requests by what a write has changed at index, so
// that whoever hears the answer finds it so.
func (c cluster) routed(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, routeWait)
	defer cancel()
	_ = c.pump.waitFor(ctx, index) // the write is done, and will be routed by
}

// View implements httpapi.Cluster.
func (c cluster) View() httpapi.View { return c.Node.View() }

// PutService implements httpapi.Cluster. An isolation level that this node can't
// provide is refused here, before anything is stored.
func (c cluster) PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error) {
	if err := checkIsolation(ctx, c.drivers, s); err != nil {
		return nil, err
	}
	out, err := c.Node.PutService(asCaller(ctx, c.Node), s, ifMatch)
	if err == nil {
		c.routed(ctx, out.Revision)
	}
	return out, err
}

// DeleteService implements httpapi.Cluster.
func (c cluster) DeleteService(ctx context.Context, name string, ifMatch *uint64) (uint64, error) {
	index, err := c.Node.DeleteService(asCaller(ctx, c.Node), name, ifMatch)
	if err == nil {
		c.routed(ctx, index)
	}
	return index, err
}

// PutInstance implements httpapi.Cluster.
func (c cluster) PutInstance(ctx context.Context, i *api.Instance, ifMatch *uint64) (*api.Instance, error) {
	out, err := c.Node.PutInstance(asCaller(ctx, c.Node), i, ifMatch)
	if err == nil {
		c.routed(ctx, out.Revision)
	}
	return out, err
}

// DeleteInstance implements httpapi.Cluster.
func (c cluster) DeleteInstance(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	index, err := c.Node.DeleteInstance(asCaller(ctx, c.Node), ref, ifMatch)
	if err == nil {
		c.routed(ctx, index)
	}
	return index, err
}

// PutToken implements httpapi.Cluster.
func (c cluster) PutToken(ctx context.Context, t *api.Token, ifMatch *uint64) (*api.Token, error) {
	return c.Node.PutToken(asCaller(ctx, c.Node), t, ifMatch)
}

// DeleteToken implements httpapi.Cluster.
func (c cluster) DeleteToken(ctx context.Context, id string) (uint64, error) {
	return c.Node.DeleteToken(asCaller(ctx, c.Node), id)
}

// PutFleet implements httpapi.Cluster.
func (c cluster) PutFleet(ctx context.Context, f *api.Fleet, ifMatch *uint64) (*api.Fleet, error) {
	out, err := c.Node.PutFleet(asCaller(ctx, c.Node), f, ifMatch)
	if err == nil {
		c.routed(ctx, out.Revision)
	}
	return out, err
}

// DeleteFleet implements httpapi.Cluster.
func (c cluster) DeleteFleet(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	index, err := c.Node.DeleteFleet(asCaller(ctx, c.Node), ref, ifMatch)
	if err == nil {
		c.routed(ctx, index)
	}
	return index, err
}

// PutRoute implements httpapi.Cluster.
func (c cluster) PutRoute(ctx context.Context, r *api.Route, ifMatch *uint64) (*api.Route, error) {
	out, err := c.Node.PutRoute(asCaller(ctx, c.Node), r, ifMatch)
	if err == nil {
		c.routed(ctx, out.Revision)
	}
	return out, err
}

// DeleteRoute implements httpapi.Cluster.
func (c cluster) DeleteRoute(ctx context.Context, name string, ifMatch *uint64) (uint64, error) {
	index, err := c.Node.DeleteRoute(asCaller(ctx, c.Node), name, ifMatch)
	if err == nil {
		c.routed(ctx, index)
	}
	return index, err
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
type specs struct {
	*consensus.Node
	lease *lease
}

// Assignment implements agent.Specs.
func (s specs) Assignment(ref api.Ref) (api.Assignment, bool) {
	v := s.View()
	in, ok := v.Instance(ref)
	if !ok {
		return api.Assignment{}, false
	}
	svc, ok := v.Service(ref.Service)
	if !ok {
		return api.Assignment{}, false
	}
	return s.assign(in, svc)
}

// Assigned implements agent.Specs.
func (s specs) Assigned(yield func(api.Assignment) bool) {
	v := s.View()
	offer := func(in *api.Instance) bool {
		svc, ok := v.Service(in.Service)
		if !ok {
			return true
		}
		a, ok := s.assign(in, svc)
		return !ok || yield(a)
	}
	for in := range v.InstancesOn(s.ID()) {
		if !offer(in) {
			return
		}
	}
	for in := range v.Moving() {
		if in.Node != s.ID() && !offer(in) {
			return
		}
	}
}

// assign returns what this node has to do with an instance, if anything: it owns it, or
// goes on serving until another node does.
func (s specs) assign(in *api.Instance, svc *api.Service) (api.Assignment, bool) {
	leaving := false
	if in.Node != s.ID() {
		if in.Previous == nil || in.Previous.Node != s.ID() {
			return api.Assignment{}, false
		}
		before := *in
		before.Node, before.Generation, before.Previous = in.Previous.Node, in.Previous.Generation, nil
		before.DataNode, before.Observed = "", nil // the other node's
		in, leaving = &before, true
	}
	fenced := svc.Disconnect() == api.DisconnectStop && !s.lease.held()
	if fenced {
		// Cut off: another node may start it soon.
		quick := *svc
		quick.StopTimeout = min(quick.StopTimeout, api.Duration(leaseGrace))
		svc = &quick
	}
	return api.Assignment{Instance: in, Service: svc, Fenced: fenced, Leaving: leaving}, true
}

// Exists implements agent.Specs.
func (s specs) Exists(ref api.Ref) bool {
	_, ok := s.View().Instance(ref)
	return ok
}

// leased calls f with every instance here that needs a lease.
func (s specs) leased(f func(api.Ref)) {
	for a := range s.Assigned {
		if a.Service.Disconnect() == api.DisconnectStop {
			f(a.Instance.Ref())
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
	node   *consensus.Node
	router *route.Router
	pump   *pump
	agent  *agent.Agent
}

// Create implements proxy.Creator: it returns once the new instance is placed and the
// routing table knows it.
func (r requests) Create(ctx context.Context, ref api.Ref) error {
	in := &api.Instance{Service: ref.Service, ID: ref.ID, Source: api.SourceRequest}
	if _, err := r.node.PutInstance(asNode(ctx, r.node), in, nil); err != nil {
		return err
	}
	_, index, err := placed(ctx, r.node, ref)
	if err != nil {
		return err
	}
	return r.pump.waitFor(ctx, index)
}

// Wake implements proxy.Waker. An instance that was declared a moment ago is waited for
// until the leader has placed it; one that is on another node, until that can be asked.
func (r requests) Wake(ctx context.Context, ref api.Ref) error {
	id, _, err := placed(ctx, r.node, ref)
	if err != nil {
		return err
	}
	if id != r.node.ID() {
		return awaitRoute(ctx, r.node, r.router, ref)
	}
	return r.agent.Wake(ctx, ref)
}

// asNode makes writes those of the node itself.
func asNode(ctx context.Context, node *consensus.Node) context.Context {
	return consensus.WithActor(ctx, consensus.Actor{Node: node.ID()})
}

// asCaller makes writes those of the one who sent an API request.
func asCaller(ctx context.Context, node *consensus.Node) context.Context {
	p, ok := auth.PrincipalOf(ctx)
	if !ok {
		return ctx
	}
	actor := consensus.Actor{TokenID: p.TokenID, Role: p.Role, Tenant: p.Tenant}
	if p.Local {
		actor.Node = node.ID()
	}
	return consensus.WithActor(ctx, actor)
}
