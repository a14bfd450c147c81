package httpapi

import (
	"cmp"
	"context"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listInstances(c *call) (list[*api.Instance], error) {
	service, node, live := c.args.text("service"), c.args.text("node"), c.args.flag("live")
	if service != "" && c.principal.Role == api.RoleAdmin {
		if _, err := serviceIn(c.view, service); err != nil {
			return nil, err
		}
	}
	if node != "" {
		n, err := nodeIn(c.view, node)
		switch {
		case err == nil:
			node = n.ID
		case c.principal.Role == api.RoleAdmin: // which nodes there are is not for tenants
			return nil, err
		}
	}
	return func(yield func(*api.Instance) bool) {
		for i := range c.view.Instances(service) {
			if !c.principal.Sees(i.ID) || node != "" && !isOn(i, node) {
				continue
			}
			if i = s.fresh(i); live && !i.State().Live() {
				continue
			}
			if !yield(i) {
				return
			}
		}
	}, nil
}

// isOn reports whether an instance depends on a node: it is placed there, is still served
// there while it moves, or has its data there.
func isOn(i *api.Instance, node string) bool {
	return i.Node == node || i.Previous != nil && i.Previous.Node == node || i.DataNode == node
}

func (s *Server) getInstance(c *call) (*api.Instance, error) {
	i, err := instanceIn(c.view, c.ref)
	if err != nil {
		return nil, err
	}
	return s.fresh(i), nil
}

func (s *Server) putInstance(c *call, i *api.Instance) (*api.Instance, error) {
	if err := agree("service", &i.Service, c.ref.Service); err != nil {
		return nil, err
	}
	if err := agree("id", &i.ID, c.ref.ID); err != nil {
		return nil, err
	}
	if _, err := serviceIn(c.view, i.Service); err != nil {
		return nil, err
	}
	if err := pinned(c.view, i); err != nil {
		return nil, err
	}
	cur, exists := c.view.Instance(c.ref)
	i.Source, i.SourceNode = api.SourceAPI, ""
	var revision uint64
	if exists {
		revision = cur.Revision
		keepOrigin(i, cur)
	}
	onlySpec(i)
	i.SetDefaults()
	if err := i.Validate(); err != nil {
		return nil, err
	}
	ifMatch, err := c.args.ifMatch(revision, exists)
	if err != nil {
		return nil, err
	}
	out, err := s.cfg.Cluster.PutInstance(c.ctx, i, ifMatch)
	return s.freshOf(out, err)
}

// keepOrigin leaves an instance that a file declared, or that is the member of a fleet,
// what it is: of the latter's fields, those that are not given.
func keepOrigin(i, cur *api.Instance) {
	switch {
	case cur.Fleet != "":
		i.Source, i.Fleet = cur.Source, cmp.Or(i.Fleet, cur.Fleet)
		if i.Weight == nil {
			i.Weight = cur.Weight
		}
	case cur.Source == api.SourceFile:
		i.Source, i.SourceNode = cur.Source, cur.SourceNode
	}
}

// stopInstance puts an instance to sleep, out of weighted traffic, or holds it down, and
// answers once its process is gone or has had its time; with ?purge it is removed, and
// there is nothing to answer with.
func (s *Server) stopInstance(c *call) (*api.Instance, error) {
	hold, purge := c.args.flag("hold"), c.args.flag("purge")
	if hold && purge {
		return nil, &api.FieldError{Field: "hold", Got: "hold and purge", Want: "one of the two"}
	}
	cur, err := instanceIn(c.view, c.ref)
	if err != nil {
		return nil, err
	}
	ifMatch, err := c.args.ifMatch(cur.Revision, true)
	if err != nil {
		return nil, err
	}
	if purge {
		if cur.Source == api.SourceFile {
			return nil, ofFile("instance " + c.ref.String())
		}
		_, err := s.cfg.Cluster.DeleteInstance(c.ctx, c.ref, ifMatch)
		return nil, err
	}
	desired := api.DesiredAsleep
	if hold {
		desired = api.DesiredStopped
	}
	if _, err := s.modify(c.ctx, c.ref, ifMatch, func(i *api.Instance) { i.Desired = desired }); err != nil {
		return nil, err
	}
	grace := api.DefaultStopTimeout
	if svc, ok := c.view.Service(c.ref.Service); ok {
		grace = svc.StopTimeout
	}
	ctx, cancel := context.WithTimeout(c.ctx, grace.Std()+waitMargin)
	defer cancel()
	// The change itself is durable: if what follows fails, the answer's state tells the rest.
	if !hold {
		// One that was to be asleep already, and that a request has woken, sees no change.
		_ = s.cfg.Runtime.Sleep(ctx, c.ref)
	}
	_, _ = s.await(ctx, c.ref, func(i *api.Instance) bool { return !i.State().Live() })
	c.view = s.cfg.Cluster.View()
	return s.getInstance(c)
}

func (s *Server) setWeight(c *call, req *api.WeightRequest) (*api.Instance, error) {
	if req.Weight == nil {
		return nil, &api.FieldError{Field: "weight", Got: "", Want: wantWeight}
	}
	if err := checkWeight(req.Weight); err != nil {
		return nil, err
	}
	cur, err := instanceIn(c.view, c.ref)
	if err != nil {
		return nil, err
	}
	ifMatch, err := c.args.ifMatch(cur.Revision, true)
	if err != nil {
		return nil, err
	}
	i, err := s.modify(c.ctx, c.ref, ifMatch, func(i *api.Instance) { i.Weight = req.Weight })
	return s.freshOf(i, err)
}

func (s *Server) getHealth(c *call) (*api.Health, error) {
	i, err := instanceIn(c.view, c.ref)
	if err != nil {
		return nil, err
	}
	i = s.fresh(i)
	h := &api.Health{Service: i.Service, ID: i.ID, State: i.State(), Healthy: healthy(i)}
	if i.Observed != nil {
		h.Reason, h.Since = i.Observed.Reason, i.Observed.Since
	}
	return h, nil
}

func (s *Server) getStorage(c *call) (*api.Storage, error) {
	if _, err := instanceIn(c.view, c.ref); err != nil {
		return nil, err
	}
	svc, err := serviceIn(c.view, c.ref.Service)
	if err != nil {
		return nil, err
	}
	u, err := s.cfg.Runtime.StorageUsage(c.ctx, c.ref)
	if err != nil {
		return nil, err
	}
	u.Service, u.ID, u.Quota, u.Persist = c.ref.Service, c.ref.ID, svc.StorageQuota, svc.Persist()
	u.Over = u.Quota > 0 && u.Used > u.Quota
	return &u, nil
}

const wantWeight = "0 to 100"

// checkWeight checks a weight in the body; null is left to the caller.
func checkWeight(w *int) error {
	if w != nil && (*w < 0 || *w > api.MaxWeight) {
		return &api.FieldError{Field: "weight", Got: intText(*w), Want: wantWeight}
	}
	return nil
}

func instanceIn(view View, ref api.Ref) (*api.Instance, error) {
	if i, ok := view.Instance(ref); ok {
		return i, nil
	}
	return nil, api.Errorf(api.CodeNotFound, "no instance %q", ref)
}

// onlySpec drops what the cluster and the nodes write.
func onlySpec(i *api.Instance) {
	i.Revision, i.CreatedAt, i.Node, i.Generation, i.Observed = 0, time.Time{}, "", 0, nil
	i.Previous, i.DataNode = nil, ""
}

// modify changes an instance's specification. Without a revision to match it starts over
// when somebody else was faster, so that no change is lost.
func (s *Server) modify(ctx context.Context, ref api.Ref, ifMatch *uint64, change func(*api.Instance)) (*api.Instance, error) {
	const attempts = 8
	for attempt := 1; ; attempt++ {
		cur, err := instanceIn(s.cfg.Cluster.View(), ref)
		if err != nil {
			return nil, err
		}
		next := cur.Clone()
		onlySpec(next)
		next.CreatedAt = cur.CreatedAt
		change(next)
		match := ifMatch
		if match == nil {
			match = &cur.Revision
		}
		out, err := s.cfg.Cluster.PutInstance(ctx, next, match)
		if isStale(err) && ifMatch == nil && attempt < attempts {
			continue
		}
		return out, err
	}
}

// fresh returns the instance with what this node knows about it by now, which the
// cluster hears in the next batch of reports. The instance itself is left as it is.
func (s *Server) fresh(i *api.Instance) *api.Instance {
	if i.Node != s.cfg.NodeID {
		return i
	}
	o, ok := s.cfg.Runtime.Observed(i.Ref())
	if !ok || o.Generation != i.Generation {
		return i
	}
	c := *i
	c.Observed = &o
	return &c
}

func (s *Server) freshOf(i *api.Instance, err error) (*api.Instance, error) {
	if err != nil {
		return nil, err
	}
	return s.fresh(i), nil
}
