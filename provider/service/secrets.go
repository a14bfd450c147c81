package service

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// planSecrets plans the names of the secret variables: one that comes or goes is a change,
// and so is what somebody else made of them.
func planSecrets(ctx context.Context, p managed.Planning[Model]) {
	var given types.Map
	p.Response.Diagnostics.Append(p.Request.Config.GetAttribute(ctx, path.Root("env_wo"), &given)...)
	names := slices.Sorted(maps.Keys(managed.Map(given)))
	if given.IsNull() && p.State != nil {
		names = without(managed.Texts(p.State.SecretEnv), managed.Map(p.Plan.Env))
	}
	planned := managed.TextList(types.ListNull(types.StringType), names)
	if given.IsUnknown() || given.IsNull() && len(names) > 0 && p.Plan.Env.IsUnknown() {
		planned = types.ListUnknown(types.StringType)
	}
	p.Response.Diagnostics.Append(p.Response.Plan.SetAttribute(ctx, path.Root("secret_env"), planned)...)
}

// secrets adds env_wo to the environment. What the service has already stays, by its name
// alone, until env_wo_version changes: an ephemeral value may be another one every time.
func secrets(ctx context.Context, s managed.Secrets[api.Service]) diag.Diagnostics {
	var given types.Map
	var was, is types.Int64
	diags := s.Config.GetAttribute(ctx, path.Root("env_wo"), &given)
	diags.Append(s.Plan.GetAttribute(ctx, path.Root("env_wo_version"), &is)...)
	var has []string
	if s.Current != nil {
		diags.Append(s.State.GetAttribute(ctx, path.Root("env_wo_version"), &was)...)
		has = s.Current.SecretEnv
	}
	if given.IsNull() {
		s.To.SecretEnv = without(has, s.To.Env)
		return diags
	}
	values := managed.Map(given)
	s.To.SecretEnv = slices.Sorted(maps.Keys(values))
	for name, value := range values {
		if slices.Contains(has, name) && was.Equal(is) {
			continue
		}
		if s.To.Env == nil {
			s.To.Env = map[string]string{}
		}
		s.To.Env[name] = value
	}
	return diags
}

// without returns the names that no plain variable has.
func without(names []string, plain map[string]string) []string {
	var left []string
	for _, name := range names {
		if _, ok := plain[name]; !ok {
			left = append(left, name)
		}
	}
	return left
}

// check refuses a variable that is both plain and secret.
func check(_ context.Context, m *Model) diag.Diagnostics {
	var diags diag.Diagnostics
	plain := managed.Map(m.Env)
	for _, name := range slices.Sorted(maps.Keys(managed.Map(m.EnvWO))) {
		if _, twice := plain[name]; twice {
			diags.AddAttributeError(path.Root("env_wo").AtMapKey(name), "Variable set twice", name+" is in env and in env_wo: keep one of the two.")
		}
	}
	return diags
}
