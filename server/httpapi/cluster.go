package httpapi

import (
	"context"
	"io"

	"github.com/tenement-fleet/tenement/api"
)

// Members is the cluster as servers: which there are, and what is done to them. Every
// method works on any node, on behalf of the context's principal. Nodes are named by id.
// Errors are *api.Error or api.FieldErrors.
type Members interface {
	// Status tells what this node knows, and what the others say that answer at once.
	Status(ctx context.Context) api.ClusterStatus
	// Eligibility stores whether a node may be given instances.
	Eligibility(ctx context.Context, id string, e api.Eligibility, ifMatch *uint64) (*api.Node, error)
	// Remove takes a node out of the cluster for good.
	Remove(ctx context.Context, id string, force bool) error
	// Promote gives a node a vote.
	Promote(ctx context.Context, id string) error
	// Plan tells where instances would go. Its nodes to drain are ids; what it holds is valid.
	Plan(ctx context.Context, r api.PlanRequest) (api.PlanResult, error)

	// CreateJoinToken makes a token that others can join with, valid for r.ExpiresIn from
	// now on.
	CreateJoinToken(ctx context.Context, r api.JoinTokenRequest) (api.CreatedJoinToken, error)
	DeleteJoinToken(ctx context.Context, id string) error
	// Secret tells the phase of the rotation and the ids of the secrets; what is known from
	// the nodes is filled in here.
	Secret(ctx context.Context) (api.SecretStatus, error)
	// RotateSecret begins a rotation, which goes on by itself.
	RotateSecret(ctx context.Context) error

	// SaveSnapshot writes the whole state. An error after the first byte cuts the answer off.
	SaveSnapshot(ctx context.Context, w io.Writer) error
	// RestoreSnapshot replaces the whole state by what SaveSnapshot wrote. Unless forced it
	// refuses the snapshot of another cluster.
	RestoreSnapshot(ctx context.Context, r io.Reader, force bool) error
}

// alone is the Members of a server that is not part of a cluster.
type alone struct{ cfg *Config }

var errAlone = &api.Error{Code: api.CodeConflict, Message: "this server is not part of a cluster"}

func (a alone) Status(context.Context) api.ClusterStatus {
	v := a.cfg.Cluster.View()
	out := api.ClusterStatus{Node: a.cfg.NodeID, Leader: a.cfg.NodeID, Index: v.Index(), Members: []api.Member{}}
	for n := range v.Nodes() {
		m := api.Member{Node: *n, Role: api.MemberLeader, Index: v.Index()}
		for i := range v.Instances("") {
			if i.Node == n.ID {
				m.Instances++
			}
		}
		out.Members = append(out.Members, m)
	}
	return out
}

func (alone) Eligibility(context.Context, string, api.Eligibility, *uint64) (*api.Node, error) {
	return nil, errAlone
}
func (alone) Remove(context.Context, string, bool) error { return errAlone }
func (alone) Promote(context.Context, string) error      { return errAlone }
func (alone) Plan(context.Context, api.PlanRequest) (api.PlanResult, error) {
	return api.PlanResult{}, errAlone
}

func (alone) CreateJoinToken(context.Context, api.JoinTokenRequest) (api.CreatedJoinToken, error) {
	return api.CreatedJoinToken{}, errAlone
}
func (alone) DeleteJoinToken(context.Context, string) error { return errAlone }
func (alone) Secret(context.Context) (api.SecretStatus, error) {
	return api.SecretStatus{}, errAlone
}
func (alone) RotateSecret(context.Context) error                     { return errAlone }
func (alone) SaveSnapshot(context.Context, io.Writer) error          { return errAlone }
func (alone) RestoreSnapshot(context.Context, io.Reader, bool) error { return errAlone }
