package httpapi

import (
	"cmp"
	"context"
	"iter"

	"github.com/tenement-fleet/tenement/api"
)

func (v *fakeView) Route(name string) (*api.Route, bool) { r, ok := v.routes[name]; return r, ok }
func (v *fakeView) Routes() iter.Seq[*api.Route]         { return byKey(v.routes, cmp.Compare) }

func (c *fakeCluster) PutRoute(_ context.Context, r *api.Route, ifMatch *uint64) (out *api.Route, err error) {
	err = c.change(func(v *fakeView) ([]api.Event, error) {
		var have uint64
		if cur, ok := v.routes[r.Name]; ok {
			have = cur.Revision
		}
		if err := checkMatch(ifMatch, have); err != nil {
			return nil, err
		}
		out = r.Clone()
		out.Revision = v.index
		v.routes[r.Name] = out
		return []api.Event{{Type: api.EventRouteUpdated, Key: r.Name, Route: out}}, nil
	})
	return out, err
}

func (c *fakeCluster) DeleteRoute(_ context.Context, name string, ifMatch *uint64) (uint64, error) {
	err := c.change(func(v *fakeView) ([]api.Event, error) {
		if err := checkMatch(ifMatch, v.routes[name].Revision); err != nil {
			return nil, err
		}
		delete(v.routes, name)
		return []api.Event{{Type: api.EventRouteDeleted, Key: name}}, nil
	})
	return c.View().Index(), err
}
