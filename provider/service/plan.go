package service

import (
	"context"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// plan tells the dry runs of the service's instances what it will be, and those who
// change it whether the instances that there are would still find a node.
func plan(ctx context.Context, p managed.Planning[Model]) {
	planSecrets(ctx, p)
	m := p.Plan
	if m.Name.IsUnknown() || !p.Remote.Known() {
		return
	}
	s, diags := m.Expand(ctx)
	s.SecretEnv = nil // the values are not known before the apply, and have no say in where
	p.Response.Diagnostics.Append(diags...)
	if !known(p.Request.Plan) {
		p.Remote.WillPut(s.Name, nil)
		return
	}
	p.Remote.WillPut(s.Name, s)
	if p.State == nil || p.State.Name.ValueString() != s.Name {
		return
	}
	was, _ := p.State.Expand(ctx)
	if was.SecretEnv = nil; same(was, s) {
		return
	}
	res, err := p.Remote.DryRun(ctx, s.Name, api.PlanRequest{Service: s})
	var decisions []api.Decision
	if res != nil {
		for _, d := range res.Changes {
			if d.Ref.Service == s.Name {
				decisions = append(decisions, d)
			}
		}
	}
	p.Remote.Judge(ctx, &p.Response.Diagnostics, remote.Subject{
		Name: "all instances of service " + s.Name, Service: s.Name, In: p.Response.Plan.Schema,
		Blame: func(reason string) path.Path { return blame(s, reason) },
	}, decisions, err)
}

// blame tells which attribute of a service has to do with a reason.
func blame(s *api.Service, reason string) path.Path {
	name, _, _ := strings.Cut(reason, " ")
	switch name {
	case "memory":
		return path.Root("memory_limit")
	case "cpu":
		return path.Root("cpu_shares")
	case "storage":
		return path.Root("storage_quota")
	case "isolation":
		return path.Root("isolation")
	case "anti-affinity":
		return path.Root("placement").AtName("anti_affinity")
	}
	if s.Placement != nil {
		for i, k := range s.Placement.Constraints {
			if string(k) == reason {
				return path.Root("placement").AtName("constraints").AtListIndex(i)
			}
		}
	}
	return path.Root("name")
}

// known reports whether all is known that counts when a node is chosen. The environment
// does not: it often has what only an apply tells.
func known(plan tfsdk.Plan) bool {
	var all map[string]tftypes.Value
	if plan.Raw.As(&all) != nil {
		return false
	}
	for name, v := range all {
		if !strings.HasPrefix(name, "env") && name != "secret_env" && !v.IsFullyKnown() {
			return false
		}
	}
	return true
}
