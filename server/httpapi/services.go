package httpapi

import (
	"errors"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listServices(c *call) (list[*api.Service], error) {
	return func(yield func(*api.Service) bool) {
		for svc := range c.view.Services() {
			if !yield(svc.Redacted()) {
				return
			}
		}
	}, nil
}

func (s *Server) getService(c *call) (*api.Service, error) {
	return redacted(serviceIn(c.view, c.name))
}

// redacted is a service as it is answered: no secret leaves by the API, whoever asks.
func redacted(svc *api.Service, err error) (*api.Service, error) {
	if err != nil {
		return nil, err
	}
	return svc.Redacted(), nil
}

// putService keeps the values of secret variables that are named without one: what was
// read can be put back. Those that it keeps are the newest.
func (s *Server) putService(c *call, svc *api.Service) (*api.Service, error) {
	if err := agree("name", &svc.Name, c.name); err != nil {
		return nil, err
	}
	// What the cluster writes is not the client's to set.
	svc.Source, svc.Revision, svc.CreatedAt, svc.UpdatedAt = api.SourceAPI, 0, time.Time{}, time.Time{}
	keeps := slices.ContainsFunc(svc.SecretEnv, func(k string) bool { _, given := svc.Env[k]; return !given })
	const attempts = 8
	for attempt := 1; ; attempt++ {
		if keeps {
			view, err := s.cfg.Consistent(c.ctx)
			if err != nil {
				return nil, err
			}
			c.view = view
		}
		next := svc.Clone()
		cur, exists := c.view.Service(c.name)
		var revision uint64
		if exists {
			if cur.Source == api.SourceFile {
				return nil, ofFile("service " + c.name)
			}
			revision = cur.Revision
			next.KeepSecrets(cur)
		}
		next.SetDefaults()
		if err := next.Validate(); err != nil {
			return nil, err
		}
		ifMatch, err := c.args.ifMatch(revision, exists)
		if err != nil {
			return nil, err
		}
		again := keeps && ifMatch == nil && attempt < attempts
		if keeps {
			ifMatch = &revision
		}
		out, err := s.cfg.Cluster.PutService(c.ctx, next, ifMatch)
		if !again || !isStale(err) {
			return redacted(out, err)
		}
	}
}

func (s *Server) deleteService(c *call) (none, error) {
	cur, err := serviceIn(c.view, c.name)
	if err != nil {
		return none{}, err
	}
	if cur.Source == api.SourceFile {
		return none{}, ofFile("service " + c.name)
	}
	ifMatch, err := c.args.ifMatch(cur.Revision, true)
	if err != nil {
		return none{}, err
	}
	_, err = s.cfg.Cluster.DeleteService(c.ctx, c.name, ifMatch)
	return none{}, err
}

// serviceIn finds a service; without one the error suggests a similar name.
func serviceIn(view View, name string) (*api.Service, error) {
	if svc, ok := view.Service(name); ok {
		return svc, nil
	}
	var names []string
	for svc := range view.Services() {
		names = append(names, svc.Name)
	}
	if near := closest(name, names); near != "" {
		return nil, api.Errorf(api.CodeNotFound, "no service %q; perhaps %q", clip(name), near)
	}
	return nil, api.Errorf(api.CodeNotFound, "no service %q", clip(name))
}

// agree fills a name in the body from the path, which has the last word.
func agree(field string, got *string, want string) error {
	if *got != "" && *got != want {
		return &api.FieldError{Field: field, Got: clip(*got), Want: want + ", as in the path"}
	}
	*got = want
	return nil
}

// ofFile refuses to change by API what tenement.toml would bring back.
func ofFile(what string) error {
	return api.Errorf(api.CodeConflict, "%s is declared in tenement.toml: change it there", what)
}

// named checks a name in the body.
func named(field, got string) *api.FieldError {
	if api.ValidName(got) {
		return nil
	}
	return &api.FieldError{Field: field, Got: clip(got), Want: wantName}
}

// allOf joins the checks that failed; nil when none did.
func allOf(checks ...*api.FieldError) error {
	var errs api.FieldErrors
	for _, c := range checks {
		if c != nil {
			errs = append(errs, *c)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

func isStale(err error) bool { return errors.Is(err, &api.Error{Code: api.CodeStaleRevision}) }
