package httpapi

import (
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listJoinTokens(c *call) (list[*api.JoinToken], error) {
	return func(yield func(*api.JoinToken) bool) {
		for t := range c.view.JoinTokens() {
			shown := *t
			shown.SHA256 = nil
			if !yield(&shown) {
				return
			}
		}
	}, nil
}

func (s *Server) createJoinToken(c *call, req *api.JoinTokenRequest) (*api.CreatedJoinToken, error) {
	in := req.ExpiresIn.Std()
	switch {
	case in < 0 || in > maxTokenLife:
		return nil, &api.FieldError{Field: "expires_in", Got: req.ExpiresIn.String(), Want: "a positive duration up to 100 years"}
	case req.MaxUses < 0:
		return nil, &api.FieldError{Field: "max_uses", Got: intText(req.MaxUses), Want: "0 (any number) or more"}
	case len(req.Description) > 200:
		return nil, &api.FieldError{Field: "description", Got: clip(req.Description), Want: "at most 200 bytes"}
	}
	t, err := s.cfg.Members.CreateJoinToken(c.ctx, *req)
	if err != nil {
		return nil, err
	}
	c.object = t.ID
	t.SHA256 = nil
	return &t, nil
}

func (s *Server) deleteJoinToken(c *call) (none, error) {
	if _, ok := c.view.JoinToken(c.name); !ok {
		return none{}, api.Errorf(api.CodeNotFound, "no join token %q", clip(c.name))
	}
	return none{}, s.cfg.Members.DeleteJoinToken(c.ctx, c.name)
}

func (s *Server) getSecret(c *call) (*api.SecretStatus, error) { return s.secretStatus(c) }

func (s *Server) rotateSecret(c *call) (*api.SecretStatus, error) {
	c.object = s.cfg.NodeID
	if err := s.cfg.Members.RotateSecret(c.ctx); err != nil {
		return nil, err
	}
	c.view = s.cfg.Cluster.View()
	return s.secretStatus(c)
}

// secretStatus adds to the phase of the rotation how far each node is.
func (s *Server) secretStatus(c *call) (*api.SecretStatus, error) {
	out, err := s.cfg.Members.Secret(c.ctx)
	if err != nil {
		return nil, err
	}
	if out.Secrets == nil {
		out.Secrets = []string{}
	}
	out.Nodes = []api.SecretNode{}
	confirmed := 0
	for n := range c.view.Nodes() {
		node := api.SecretNode{
			ID: n.ID, Name: n.Name, Secrets: append([]string{}, n.SecretIDs...), Confirmed: slices.Equal(n.SecretIDs, out.Secrets),
		}
		if node.Confirmed {
			confirmed++
		}
		out.Nodes = append(out.Nodes, node)
	}
	slices.SortStableFunc(out.Nodes, func(a, b api.SecretNode) int { return strings.Compare(a.Name, b.Name) })
	out.Complete = out.Phase == "" || out.Phase == api.SecretRemove && confirmed == len(out.Nodes)
	return &out, nil
}
