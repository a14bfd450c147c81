package consensus

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// PutService creates or replaces a service, after defaults and checks, and returns it as
// stored. A put of what is already there writes nothing. IfMatch, where given, must be
// the revision that it replaces, 0 for none.
func (n *Node) PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error) {
	c := *s
	c.SetDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Service](n.submit(ctx, &state.Command{PutService: &state.PutService{Service: c, IfMatch: ifMatch}}, n.propose))
}

// DeleteService removes a service and its instances, and returns the index at which
// they are gone.
func (n *Node) DeleteService(ctx context.Context, name string, ifMatch *uint64) (uint64, error) {
	res, err := n.submit(ctx, &state.Command{DeleteService: &state.DeleteService{Name: name, IfMatch: ifMatch}}, n.propose)
	return res.Index, err
}

// PutInstance creates an instance or replaces what users write of it; see
// [Node.PutService].
func (n *Node) PutInstance(ctx context.Context, i *api.Instance, ifMatch *uint64) (*api.Instance, error) {
	c := *i
	c.SetDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Instance](n.submit(ctx, &state.Command{PutInstance: &state.PutInstance{Instance: c, IfMatch: ifMatch}}, n.propose))
}

// DeleteInstance removes an instance, and returns the index at which it is gone.
func (n *Node) DeleteInstance(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error) {
	if err := ref.Validate(); err != nil {
		return 0, err
	}
	res, err := n.submit(ctx, &state.Command{DeleteInstance: &state.DeleteInstance{Ref: ref, IfMatch: ifMatch}}, n.propose)
	return res.Index, err
}

// PutToken creates or replaces a token; see [Node.PutService].
func (n *Node) PutToken(ctx context.Context, t *api.Token, ifMatch *uint64) (*api.Token, error) {
	c := *t
	c.SetDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return stored[*api.Token](n.submit(ctx, &state.Command{PutToken: &state.PutToken{Token: c, IfMatch: ifMatch}}, n.propose))
}

// DeleteToken removes a token, and returns the index at which it is gone.
func (n *Node) DeleteToken(ctx context.Context, id string) (uint64, error) {
	res, err := n.submit(ctx, &state.Command{DeleteToken: &state.DeleteToken{ID: id}}, n.propose)
	return res.Index, err
}

// Place puts instances on nodes, those whose generation still fits.
func (n *Node) Place(ctx context.Context, placements []state.Placement) error {
	if len(placements) == 0 {
		return nil
	}
	for i := range placements {
		if err := placements[i].Ref.Validate(); err != nil {
			return err
		}
	}
	_, err := n.commit(ctx, &state.Command{Place: &state.Place{Placements: placements}})
	return err
}

// Report stores what this node has observed of its instances. Reports about instances
// that are no longer its own have no effect.
func (n *Node) Report(ctx context.Context, reports []api.Report) error {
	if len(reports) == 0 {
		return nil
	}
	for i := range reports {
		if err := reports[i].Ref.Validate(); err != nil {
			return err
		}
	}
	_, err := n.submit(ctx, &state.Command{Report: &state.Report{Node: n.id.ID, Reports: reports}}, n.commit)
	return err
}

// SyncFile makes the state hold what this node's tenement.toml declares, in one step; see
// [state.SyncFile].
func (n *Node) SyncFile(ctx context.Context, services []*api.Service, instances []api.Ref) error {
	c := &state.SyncFile{Node: n.id.ID, Services: make([]api.Service, len(services)), Instances: instances}
	for i, s := range services {
		c.Services[i] = *s
		c.Services[i].SetDefaults()
		c.Services[i].Source = api.SourceFile
		if err := c.Services[i].Validate(); err != nil {
			return err
		}
	}
	for _, ref := range instances {
		if err := ref.Validate(); err != nil {
			return err
		}
	}
	_, err := n.submit(ctx, &state.Command{SyncFile: c}, n.propose)
	return err
}
