package httpapi

import (
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) getCluster(c *call) (api.ClusterStatus, error) { return s.cluster(c), nil }

func (s *Server) cluster(c *call) api.ClusterStatus {
	status := s.cfg.Members.Status(c.ctx)
	slices.SortStableFunc(status.Members, func(a, b api.Member) int { return strings.Compare(a.Name, b.Name) })
	return status
}

func (s *Server) listNodes(c *call) (list[api.Member], error) {
	return list[api.Member](slices.Values(s.cluster(c).Members)), nil
}

func (s *Server) getMember(c *call) (*api.Member, error) {
	return memberIn(s.cluster(c).Members, c.name)
}

func (s *Server) putNode(c *call, req *api.NodeRequest) (*api.Node, error) {
	if !slices.Contains(api.Eligibilities(), req.Eligibility) {
		want := make([]string, 0, len(api.Eligibilities()))
		for _, e := range api.Eligibilities() {
			want = append(want, string(e))
		}
		return nil, &api.FieldError{Field: "eligibility", Got: clip(string(req.Eligibility)), Want: "one of " + strings.Join(want, ", ")}
	}
	n, err := nodeIn(c.view, c.name)
	if err != nil {
		return nil, err
	}
	ifMatch, err := c.args.ifMatch(n.Revision, true)
	if err != nil {
		return nil, err
	}
	return s.cfg.Members.Eligibility(c.ctx, n.ID, req.Eligibility, ifMatch)
}

func (s *Server) removeNode(c *call) (none, error) {
	n, err := nodeIn(c.view, c.name)
	if err != nil {
		return none{}, err
	}
	return none{}, s.cfg.Members.Remove(c.ctx, n.ID, c.args.flag("force"))
}

func (s *Server) promoteNode(c *call) (*api.Member, error) {
	n, err := nodeIn(c.view, c.name)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Members.Promote(c.ctx, n.ID); err != nil {
		return nil, err
	}
	return memberIn(s.cluster(c).Members, n.ID)
}

// plan tells where instances would go if what the request holds were put first.
func (s *Server) plan(c *call, req *api.PlanRequest) (api.PlanResult, error) {
	for n, name := range req.Drain {
		node, err := nodeIn(c.view, name)
		if err != nil {
			return api.PlanResult{}, err
		}
		req.Drain[n] = node.ID
	}
	if svc := req.Service; svc != nil {
		if cur, ok := c.view.Service(svc.Name); ok {
			svc.KeepSecrets(cur)
		}
	}
	for _, i := range req.Instances {
		if i == nil {
			return api.PlanResult{}, &api.FieldError{Field: "instances", Got: "null", Want: "an instance"}
		}
		if err := pinned(c.view, i); err != nil {
			return api.PlanResult{}, err
		}
	}
	out, err := s.cfg.Members.Plan(c.ctx, *req)
	if out.Changes == nil {
		out.Changes = []api.Decision{}
	}
	return out, err
}

// pinned turns the name of the node that an instance is pinned to into the node's id.
func pinned(view View, i *api.Instance) error {
	if i.Pin == "" {
		return nil
	}
	n, err := nodeIn(view, i.Pin)
	if api.CodeOf(err) == api.CodeNotFound {
		return &api.FieldError{Field: "pin", Got: clip(i.Pin), Want: "the id or name of a node"}
	}
	if err != nil {
		return err
	}
	i.Pin = n.ID
	return nil
}

// nodeIn finds a node by its id or name.
func nodeIn(view View, name string) (*api.Node, error) {
	if n, ok := view.Node(name); ok {
		return n, nil
	}
	return nodeNamed(slices.Collect(view.Nodes()), func(n *api.Node) *api.Node { return n }, name)
}

// memberIn finds a member by its id or name.
func memberIn(members []api.Member, name string) (*api.Member, error) {
	all := make([]*api.Member, len(members))
	for i := range members {
		if all[i] = &members[i]; members[i].ID == name {
			return all[i], nil
		}
	}
	return nodeNamed(all, func(m *api.Member) *api.Node { return &m.Node }, name)
}

// nodeNamed finds the one node that has a name. Only a node that is down can have the name of
// another: the one that can be reached is meant.
func nodeNamed[T any](all []T, node func(T) *api.Node, name string) (found T, err error) {
	var names []string
	matches, reachable := 0, 0
	for _, n := range all {
		names = append(names, node(n).Name)
		if node(n).Name != name {
			continue
		}
		matches++
		if node(n).Reachable() {
			reachable++
			found = n
		} else if reachable == 0 {
			found = n
		}
	}
	switch {
	case matches == 1, reachable == 1:
		return found, nil
	case matches > 1:
		return found, api.Errorf(api.CodeConflict, "%d nodes are called %q: name one by its id", matches, clip(name))
	}
	if near := closest(name, names); near != "" {
		return found, api.Errorf(api.CodeNotFound, "no node %q; perhaps %q", clip(name), near)
	}
	return found, api.Errorf(api.CodeNotFound, "no node %q", clip(name))
}
