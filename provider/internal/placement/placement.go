// Package placement is the attribute placement of services and fleets.
package placement

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

type model struct {
	Strategy     types.String `tfsdk:"strategy"`
	SpreadBy     types.String `tfsdk:"spread_by"`
	Constraints  types.List   `tfsdk:"constraints"`
	Affinities   types.List   `tfsdk:"affinities"`
	AntiAffinity types.List   `tfsdk:"anti_affinity"`
}

type affinity struct {
	Match  units.Value `tfsdk:"match"`
	Weight types.Int64 `tfsdk:"weight"`
}

var (
	affinityType = types.ObjectType{AttrTypes: map[string]attr.Type{"match": units.ConstraintType, "weight": types.Int64Type}}
	objectTypes  = map[string]attr.Type{
		"strategy": types.StringType, "spread_by": types.StringType,
		"constraints":   types.ListType{ElemType: units.ConstraintType},
		"affinities":    types.ListType{ElemType: affinityType},
		"anti_affinity": types.ListType{ElemType: types.StringType},
	}
)

const syntax = "`zone = eu-1|eu-2`, `provider != acme`, `label.gpu` or `!label.old`"

// Attribute is the attribute, optional.
func Attribute(about string) schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true, MarkdownDescription: about,
		PlanModifiers: []planmodifier.Object{sameMeaning{}},
		Attributes: map[string]schema.Attribute{
			"strategy": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.StrategySpread)),
				MarkdownDescription: "`spread` (the default: the emptiest node) or `binpack` (the fullest, so that others stay free).",
			},
			"spread_by": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.SpreadByNode)),
				MarkdownDescription: "What instances are spread over: `node` (the default), `zone` or `region`.",
			},
			"constraints": schema.ListAttribute{
				Optional: true, ElementType: units.ConstraintType,
				MarkdownDescription: "Conditions that must all hold of a node: " + syntax + ". The attributes are `node`, `region`, `zone`, `provider`, `version` and `label.NAME`.",
			},
			"affinities": schema.ListNestedAttribute{
				Optional: true, MarkdownDescription: "Conditions that make a node better, or worse.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"match":  schema.StringAttribute{Required: true, CustomType: units.ConstraintType, MarkdownDescription: "The condition, such as " + syntax + "."},
					"weight": schema.Int64Attribute{Required: true, MarkdownDescription: "-100 (avoid) to 100 (prefer), not 0."},
				}},
			},
			"anti_affinity": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Services whose instances it never shares a node with; its own name means at most one of its instances on a node.",
			},
		},
	}
}

// Null is the value of the attribute when it is left out.
func Null() types.Object { return types.ObjectNull(objectTypes) }

// Expand returns the rules, nil when the attribute is left out or unknown.
func Expand(ctx context.Context, v types.Object) (*api.PlacementRules, diag.Diagnostics) {
	if v.IsNull() || v.IsUnknown() {
		return nil, nil
	}
	var m model
	diags := v.As(ctx, &m, basetypes.ObjectAsOptions{})
	p := &api.PlacementRules{
		Strategy: api.Strategy(m.Strategy.ValueString()), SpreadBy: api.SpreadBy(m.SpreadBy.ValueString()),
		AntiAffinity: managed.Texts(m.AntiAffinity),
	}
	for _, s := range managed.Texts(m.Constraints) {
		p.Constraints = append(p.Constraints, canonical(s))
	}
	if m.Affinities.IsNull() || m.Affinities.IsUnknown() {
		return p, diags
	}
	for _, e := range m.Affinities.Elements() {
		o, ok := e.(types.Object)
		if !ok || o.IsUnknown() {
			continue
		}
		var a affinity
		diags.Append(o.As(ctx, &a, basetypes.ObjectAsOptions{})...)
		p.Affinities = append(p.Affinities, api.Affinity{Match: canonical(a.Match.ValueString()), Weight: int(a.Weight.ValueInt64())})
	}
	return p, diags
}

// canonical is a constraint as the API spells it; one that can't be read stays as it is.
func canonical(s string) api.Constraint {
	if k, err := api.ParseConstraint(s); err == nil {
		return k
	}
	return api.Constraint(s)
}

// Flatten returns the rules, spelled as in was if that means the same.
func Flatten(ctx context.Context, was types.Object, p *api.PlacementRules) (types.Object, diag.Diagnostics) {
	before, diags := Expand(ctx, was)
	if before.Equal(p) && !was.IsUnknown() {
		if was.IsNull() {
			return Null(), diags
		}
		return was, diags
	}
	if p.IsZero() {
		return Null(), diags
	}
	p = p.WithDefaults()
	m := model{
		Strategy: types.StringValue(string(p.Strategy)), SpreadBy: types.StringValue(string(p.SpreadBy)),
		Constraints: types.ListNull(units.ConstraintType), Affinities: types.ListNull(affinityType),
		AntiAffinity: managed.TextList(types.ListNull(types.StringType), p.AntiAffinity),
	}
	if len(p.Constraints) > 0 {
		all := make([]attr.Value, len(p.Constraints))
		for i, k := range p.Constraints {
			all[i] = units.FromConstraint(units.Null(units.ConstraintKind), k)
		}
		m.Constraints = types.ListValueMust(units.ConstraintType, all)
	}
	if len(p.Affinities) > 0 {
		all := make([]affinity, len(p.Affinities))
		for i, a := range p.Affinities {
			all[i] = affinity{Match: units.FromConstraint(units.Null(units.ConstraintKind), a.Match), Weight: types.Int64Value(int64(a.Weight))}
		}
		list, d := types.ListValueFrom(ctx, affinityType, all)
		diags.Append(d...)
		m.Affinities = list
	}
	out, d := types.ObjectValueFrom(ctx, objectTypes, m)
	diags.Append(d...)
	return out, diags
}

// sameMeaning plans the rules of the state when those of the configuration mean the same.
type sameMeaning struct{}

func (sameMeaning) Description(context.Context) string { return "another spelling is no change" }

func (m sameMeaning) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

func (sameMeaning) PlanModifyObject(ctx context.Context, req planmodifier.ObjectRequest, resp *planmodifier.ObjectResponse) {
	if req.StateValue.IsNull() || req.PlanValue.IsNull() || req.PlanValue.IsUnknown() {
		return
	}
	if raw, err := req.PlanValue.ToTerraformValue(ctx); err != nil || !raw.IsFullyKnown() {
		return
	}
	was, diags := Expand(ctx, req.StateValue)
	is, more := Expand(ctx, req.PlanValue)
	resp.Diagnostics.Append(diags...)
	resp.Diagnostics.Append(more...)
	if was.Equal(is) {
		resp.PlanValue = req.StateValue
	}
}
