package httpapi

import (
	"errors"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listServices(c *call) (list[*api.Service], error) {
	return list[*api.Service](c.view.Services()), nil
}

func (s *Server) getService(c *call) (*api.Service, error) { return serviceIn(c.view, c.name) }

func (s *Server) putService(c *call, svc *api.Service) (*api.Service, error) {
	if err := agree("name", &svc.Name, c.name); err != nil {
		return nil, err
	}
	cur, exists := c.view.Service(c.name)
	if exists && cur.Source == api.SourceFile {
		return nil, ofFile("service " + c.name)
	}
	// What the cluster writes is not the client's to set.
	svc.Source, svc.Revision, svc.CreatedAt, svc.UpdatedAt = api.SourceAPI, 0, time.Time{}, time.Time{}
	svc.SetDefaults()
	if err := svc.Validate(); err != nil {
		return nil, err
	}
	var revision uint64
	if exists {
		revision = cur.Revision
	}
	ifMatch, err := c.args.ifMatch(revision, exists)
	if err != nil {
		return nil, err
	}
	return s.cfg.Cluster.PutService(c.ctx, svc, ifMatch)
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
