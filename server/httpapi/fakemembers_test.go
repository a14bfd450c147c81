package httpapi

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// many is the fleet of every test's cluster.
var many = api.Ref{Service: "notes", ID: "many"}

// firstJoin is the id of the join token that every test's cluster holds.
const firstJoin = "000000000001"

// fakeMembers notes what is done to the cluster's servers.
type fakeMembers struct {
	cluster *fakeCluster

	mu       sync.Mutex
	calls    []string
	callers  []auth.Principal
	planned  []api.PlanRequest
	secret   api.SecretStatus
	snapshot []string // parts that SaveSnapshot writes; "" is an error there
	restored string
	err      error // of whatever changes something
}

func (m *fakeMembers) Status(context.Context) api.ClusterStatus {
	v := m.cluster.View()
	out := api.ClusterStatus{ID: "cluster-1", Node: thisNode, Leader: thisNode, Index: v.Index()}
	for n := range v.Nodes() {
		out.Members = append(out.Members, api.Member{Node: *n, Role: api.MemberVoter})
	}
	slices.Reverse(out.Members)
	return out
}

// note records a call, and changes the state so that what is refused can be told.
func (m *fakeMembers) note(ctx context.Context, call string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, _ := auth.PrincipalOf(ctx)
	m.calls, m.callers = append(m.calls, call), append(m.callers, p)
	if m.err != nil {
		return m.err
	}
	return m.cluster.change(func(*fakeView) ([]api.Event, error) {
		return []api.Event{{Type: api.EventNodeUpdated, Key: thisNode}}, nil
	})
}

func (m *fakeMembers) Eligibility(ctx context.Context, id string, e api.Eligibility, ifMatch *uint64) (*api.Node, error) {
	if err := m.note(ctx, string(e)+" "+id); err != nil {
		return nil, err
	}
	n, _ := m.cluster.View().Node(id)
	n = n.Clone()
	n.Eligibility = e
	return n, nil
}

func (m *fakeMembers) Remove(ctx context.Context, id string, force bool) error {
	if force {
		id += " by force"
	}
	return m.note(ctx, "remove "+id)
}

func (m *fakeMembers) Promote(ctx context.Context, id string) error {
	return m.note(ctx, "promote "+id)
}

func (m *fakeMembers) Plan(_ context.Context, r api.PlanRequest) (api.PlanResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned = append(m.planned, r)
	return api.PlanResult{Index: m.cluster.View().Index()}, m.err
}

func (m *fakeMembers) CreateJoinToken(ctx context.Context, r api.JoinTokenRequest) (api.CreatedJoinToken, error) {
	if err := m.note(ctx, "join token"); err != nil {
		return api.CreatedJoinToken{}, err
	}
	t := api.JoinToken{ID: firstJoin, Description: r.Description, MaxUses: r.MaxUses, SHA256: make([]byte, 32)}
	err := m.cluster.change(func(v *fakeView) ([]api.Event, error) {
		v.joins[t.ID] = &t
		return []api.Event{{Type: api.EventNodeUpdated, Key: thisNode}}, nil
	})
	return api.CreatedJoinToken{JoinToken: t, Text: "tenj_text"}, err
}

func (m *fakeMembers) DeleteJoinToken(ctx context.Context, id string) error {
	return m.note(ctx, "revoke "+id)
}

func (m *fakeMembers) Secret(context.Context) (api.SecretStatus, error) { return m.secret, nil }

func (m *fakeMembers) RotateSecret(ctx context.Context) error { return m.note(ctx, "rotate") }

func (m *fakeMembers) SaveSnapshot(_ context.Context, w io.Writer) error {
	for _, part := range m.snapshot {
		if part == "" {
			return errors.New("disk broke")
		}
		if _, err := io.WriteString(w, part); err != nil {
			return err
		}
	}
	return nil
}

func (m *fakeMembers) RestoreSnapshot(ctx context.Context, r io.Reader, force bool) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.restored = string(b)
	if force {
		m.restored += " by force"
	}
	return m.note(ctx, "restore")
}
