package route

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// Spec is what a route says, in Terraform's types; see api.Route.
type Spec struct {
	Name     types.String `tfsdk:"name"`
	Hosts    types.List   `tfsdk:"hosts"`
	Paths    types.List   `tfsdk:"paths"`
	Backends types.List   `tfsdk:"backends"`
	Mode     types.String `tfsdk:"mode"`
	Message  types.String `tfsdk:"message"`
}

// Model is a ten_route.
type Model struct {
	Spec
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

type backend struct {
	Service  types.String `tfsdk:"service"`
	Instance types.String `tfsdk:"instance"`
	Fleet    types.String `tfsdk:"fleet"`
	Weight   types.Int64  `tfsdk:"weight"`
}

var backendType = types.ObjectType{AttrTypes: map[string]attr.Type{
	"service": types.StringType, "instance": types.StringType, "fleet": types.StringType, "weight": types.Int64Type,
}}

// Options implements managed.Model.
func (m *Model) Options() managed.Options { return managed.Options{Timeouts: m.Timeouts} }

// Expand implements managed.Model.
func (m *Spec) Expand(ctx context.Context) (*api.Route, diag.Diagnostics) {
	all, diags := backends(ctx, m.Backends)
	r := &api.Route{
		Name: m.Name.ValueString(), Hosts: managed.Texts(m.Hosts), Paths: managed.Texts(m.Paths),
		Mode: managed.TextOr(m.Mode, api.RouteLive), Message: m.Message.ValueString(), Source: api.SourceAPI,
	}
	for _, b := range all {
		weight := managed.IntOr(b.Weight, api.DefaultWeight)
		r.Backends = append(r.Backends, api.Backend{
			Service: b.Service.ValueString(), Instance: b.Instance.ValueString(), Fleet: b.Fleet.ValueString(), Weight: &weight,
		})
	}
	return r, diags
}

// backends returns the elements that are known.
func backends(ctx context.Context, v types.List) ([]backend, diag.Diagnostics) {
	var out []backend
	var diags diag.Diagnostics
	if v.IsNull() || v.IsUnknown() {
		return nil, nil
	}
	for _, e := range v.Elements() {
		var b backend
		if o, ok := e.(types.Object); ok && !o.IsUnknown() {
			diags.Append(o.As(ctx, &b, basetypes.ObjectAsOptions{})...)
			out = append(out, b)
		}
	}
	return out, diags
}

// Flatten implements managed.Model.
func (m *Spec) Flatten(ctx context.Context, r *api.Route) diag.Diagnostics {
	m.Name, m.Mode, m.Message = types.StringValue(r.Name), types.StringValue(string(r.Mode)), managed.Text(m.Message, r.Message)
	m.Hosts, m.Paths = managed.TextList(m.Hosts, r.Hosts), managed.TextList(m.Paths, r.Paths)
	was, diags := backends(ctx, m.Backends)
	if len(r.Backends) == 0 && (m.Backends.IsNull() || m.Backends.IsUnknown() || len(was) > 0) {
		m.Backends = types.ListNull(backendType)
		return diags
	}
	all := make([]backend, len(r.Backends))
	for i := range r.Backends {
		b := &r.Backends[i]
		before := backend{}
		if i < len(was) {
			before = was[i]
		}
		all[i] = backend{
			Service: types.StringValue(b.Service), Instance: managed.Text(before.Instance, b.Instance), Fleet: managed.Text(before.Fleet, b.Fleet),
			Weight: types.Int64Value(int64(b.EffectiveWeight())),
		}
	}
	list, more := types.ListValueFrom(ctx, backendType, all)
	diags.Append(more...)
	m.Backends = list
	return diags
}
