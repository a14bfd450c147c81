package service

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// secretsKey is where the private state has the names, never the values, of the variables
// that came from env_wo: reading leaves them out.
const secretsKey = "env_wo"

// secrets adds env_wo to the environment. What is there already is only written over when
// env_wo_version has changed: an ephemeral value may be another one every time.
func secrets(ctx context.Context, s managed.Secrets[api.Service]) diag.Diagnostics {
	var given types.Map
	var was, is types.Int64
	diags := s.Config.GetAttribute(ctx, path.Root("env_wo"), &given)
	diags.Append(s.Plan.GetAttribute(ctx, path.Root("env_wo_version"), &is)...)
	if s.Current != nil {
		diags.Append(s.State.GetAttribute(ctx, path.Root("env_wo_version"), &was)...)
	}
	before, problems := secretNames(ctx, s.Private)
	diags.Append(problems...)
	values := managed.Map(given)
	for name, value := range values {
		if s.Current != nil && was.Equal(is) && slices.Contains(before, name) {
			if have, ok := s.Current.Env[name]; ok {
				value = have
			}
		}
		if s.To.Env == nil {
			s.To.Env = map[string]string{}
		}
		s.To.Env[name] = value
	}
	text, err := json.Marshal(slices.Sorted(maps.Keys(values)))
	if err != nil {
		diags.AddError("Cannot note the names of env_wo", err.Error())
		return diags
	}
	diags.Append(s.Private.SetKey(ctx, secretsKey, text)...)
	return diags
}

// conceal takes out of a service what came from env_wo.
func conceal(ctx context.Context, s *api.Service, p managed.Private) diag.Diagnostics {
	names, diags := secretNames(ctx, p)
	for _, name := range names {
		delete(s.Env, name)
	}
	return diags
}

func secretNames(ctx context.Context, p managed.Private) ([]string, diag.Diagnostics) {
	text, diags := p.GetKey(ctx, secretsKey)
	var names []string
	if len(text) == 0 {
		return nil, diags
	}
	if err := json.Unmarshal(text, &names); err != nil {
		diags.AddError("Cannot read the names of env_wo", err.Error())
	}
	return names, diags
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
