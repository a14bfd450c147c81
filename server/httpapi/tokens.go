package httpapi

import (
	"bytes"
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
	expires, err := expiry(req.ExpiresIn, req.ExpiresAt, now)
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
	if t, err = s.cfg.Cluster.PutToken(c.ctx, t, nil); err != nil {
		return nil, err
	}
	return &api.CreatedToken{Token: *t.Redacted(), Secret: secret}, nil
}

// putToken makes a token of a secret that the client has made, or gives one that there is
// other rights and another end. Without If-Match it may be repeated.
func (s *Server) putToken(c *call, req *api.TokenPut) (*api.Token, error) {
	expires, err := expiry(req.ExpiresIn, req.ExpiresAt, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	for {
		have, exists := c.view.Token(c.name)
		if !exists {
			have = &api.Token{}
		}
		if _, err := c.args.ifMatch(have.Revision, exists); err != nil {
			return nil, err
		}
		t := &api.Token{
			ID: c.name, Role: req.Role, Tenant: req.Tenant, Description: req.Description,
			SHA256: req.SHA256, CreatedAt: c.begun.UTC(), ExpiresAt: expires,
		}
		if exists && len(t.SHA256) == 0 {
			t.SHA256 = have.SHA256
		}
		t.SetDefaults()
		if err := t.Validate(); err != nil {
			return nil, err
		}
		if exists && !bytes.Equal(t.SHA256, have.SHA256) {
			return nil, api.Errorf(api.CodeConflict, "token %s has another secret: delete it first", c.name)
		}
		t, err := s.cfg.Cluster.PutToken(c.ctx, t, &have.Revision)
		if err == nil {
			return s.shown(t), nil
		}
		view := s.cfg.Cluster.View()
		if !isStale(err) || view.Index() == c.view.Index() {
			return nil, err
		}
		c.view = view // somebody was faster: look at what he did
	}
}

const maxTokenLife = 100 * 365 * 24 * time.Hour

func expiry(in api.Duration, at, now time.Time) (time.Time, error) {
	switch {
	case in < 0 || in.Std() > maxTokenLife:
		return time.Time{}, &api.FieldError{Field: "expires_in", Got: in.String(), Want: "a positive duration up to 100 years"}
	case in > 0 && !at.IsZero():
		return time.Time{}, &api.FieldError{Field: "expires_in", Got: in.String(), Want: "expires_in or expires_at, not both"}
	case in > 0:
		return now.Add(in.Std()).UTC(), nil
	case !at.IsZero() && !at.After(now):
		return time.Time{}, &api.FieldError{Field: "expires_at", Got: at.Format(time.RFC3339), Want: "a time in the future"}
	default:
		return at.UTC(), nil
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
