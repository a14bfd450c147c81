package httpapi

import (
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func (s *Server) listFleets(c *call) (list[*api.Fleet], error) {
	service := c.args.text("service")
	if service != "" {
		if _, err := serviceIn(c.view, service); err != nil {
			return nil, err
		}
	}
	return list[*api.Fleet](c.view.Fleets(service)), nil
}

func (s *Server) getFleet(c *call) (*api.Fleet, error) { return fleetIn(c.view, c.ref) }

func (s *Server) putFleet(c *call, f *api.Fleet) (*api.Fleet, error) {
	if err := agree("service", &f.Service, c.ref.Service); err != nil {
		return nil, err
	}
	if err := agree("name", &f.Name, c.ref.ID); err != nil {
		return nil, err
	}
	if _, err := serviceIn(c.view, f.Service); err != nil {
		return nil, err
	}
	// What the cluster writes is not the client's to set.
	f.Source, f.Revision, f.CreatedAt, f.UpdatedAt = api.SourceAPI, 0, time.Time{}, time.Time{}
	f.SetDefaults()
	if err := f.Validate(); err != nil {
		return nil, err
	}
	var revision uint64
	cur, exists := c.view.Fleet(c.ref)
	if exists {
		if cur.Source == api.SourceFile {
			return nil, ofFile("fleet " + c.ref.String())
		}
		revision = cur.Revision
	}
	ifMatch, err := c.args.ifMatch(revision, exists)
	if err != nil {
		return nil, err
	}
	return s.cfg.Cluster.PutFleet(c.ctx, f, ifMatch)
}

func (s *Server) deleteFleet(c *call) (none, error) {
	cur, err := fleetIn(c.view, c.ref)
	if err != nil {
		return none{}, err
	}
	if cur.Source == api.SourceFile {
		return none{}, ofFile("fleet " + c.ref.String())
	}
	ifMatch, err := c.args.ifMatch(cur.Revision, true)
	if err != nil {
		return none{}, err
	}
	_, err = s.cfg.Cluster.DeleteFleet(c.ctx, c.ref, ifMatch)
	return none{}, err
}

func fleetIn(view View, ref api.Ref) (*api.Fleet, error) {
	if f, ok := view.Fleet(ref); ok {
		return f, nil
	}
	return nil, api.Errorf(api.CodeNotFound, "no fleet %q", ref)
}
