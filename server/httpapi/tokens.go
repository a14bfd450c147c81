package httpapi

import (
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listTokens(c *call) (list[*api.Token], error) {
	return func(yield func(*api.Token) bool) {
		for t := range c.view.Tokens() {
			if !yield(s.shown(t)) {
				return
			}
		}
	}, nil
}

// shown returns a token as answers show it.
func (s *Server) shown(t *api.Token) *api.Token {
	t = t.Redacted()
	t.LastUsedAt = s.auth.LastUsed(t.ID)
	return t
}

func (s *Server) createToken(c *call, req *api.TokenRequest) (*api.CreatedToken, error) {
	now := s.cfg.Now()
	expires, err := expiry(req, now)
	if err != nil {
		return nil, err
	}
	secret, id, hash, err := api.NewSecret(s.cfg.Rand)
	if err != nil {
		return nil, err
	}
	c.object = id
	t := &api.Token{
		ID: id, Role: req.Role, Tenant: req.Tenant, Description: req.Description,
		SHA256: hash[:], CreatedAt: now.UTC(), ExpiresAt: expires,
	}
	t.SetDefaults()
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if t, err = s.cfg.Cluster.PutToken(c.ctx, t); err != nil {
		return nil, err
	}
	return &api.CreatedToken{Token: *t.Redacted(), Secret: secret}, nil
}

const maxTokenLife = 100 * 365 * 24 * time.Hour

func expiry(req *api.TokenRequest, now time.Time) (time.Time, error) {
	in := req.ExpiresIn.Std()
	switch {
	case in < 0 || in > maxTokenLife:
		return time.Time{}, &api.FieldError{Field: "expires_in", Got: req.ExpiresIn.String(), Want: "a positive duration up to 100 years"}
	case in > 0 && !req.ExpiresAt.IsZero():
		return time.Time{}, &api.FieldError{Field: "expires_in", Got: req.ExpiresIn.String(), Want: "expires_in or expires_at, not both"}
	case in > 0:
		return now.Add(in).UTC(), nil
	case !req.ExpiresAt.IsZero() && !req.ExpiresAt.After(now):
		return time.Time{}, &api.FieldError{Field: "expires_at", Got: req.ExpiresAt.Format(time.RFC3339), Want: "a time in the future"}
	default:
		return req.ExpiresAt.UTC(), nil
	}
}

func (s *Server) deleteToken(c *call) (none, error) {
	if _, ok := c.view.Token(c.name); !ok {
		return none{}, api.Errorf(api.CodeNotFound, "no token %q", clip(c.name))
	}
	if _, err := s.cfg.Cluster.DeleteToken(c.ctx, c.name); err != nil {
		return none{}, err
	}
	s.auth.Forget(c.name)
	return none{}, nil
}
