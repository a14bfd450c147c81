// Package fleet is the resource ten_fleet.
package fleet

import (
	"context"
	"strings"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/placement"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
	"github.com/tenement-fleet/tenement/provider/internal/waiting"
)

// Model is a ten_fleet.
type Model struct {
	Service   types.String   `tfsdk:"service"`
	Name      types.String   `tfsdk:"name"`
	Ref       types.String   `tfsdk:"ref"`
	Replicas  types.Int64    `tfsdk:"replicas"`
	Weight    types.Int64    `tfsdk:"weight"`
	Placement types.Object   `tfsdk:"placement"`
	WaitFor   types.String   `tfsdk:"wait_for"`
	Timeouts  timeouts.Value `tfsdk:"timeouts"`
}

// Options implements managed.Model.
func (m *Model) Options() managed.Options {
	return managed.Options{WaitFor: managed.WaitFor(m.WaitFor), Timeouts: m.Timeouts}
}

// Expand implements managed.Model.
func (m *Model) Expand(ctx context.Context) (*api.Fleet, diag.Diagnostics) {
	weight := managed.IntOr(m.Weight, api.DefaultWeight)
	rules, diags := placement.Expand(ctx, m.Placement)
	return &api.Fleet{
		Service: m.Service.ValueString(), Name: m.Name.ValueString(), Replicas: managed.IntOr(m.Replicas, 0),
		Weight: &weight, Placement: rules, Source: api.SourceAPI,
	}, diags
}

// Flatten implements managed.Model.
func (m *Model) Flatten(ctx context.Context, f *api.Fleet) diag.Diagnostics {
	m.Service, m.Name = types.StringValue(f.Service), types.StringValue(f.Name)
	m.Ref = types.StringValue(f.Ref().String())
	m.Replicas = types.Int64Value(int64(f.Replicas))
	m.Weight = types.Int64Value(int64(f.EffectiveWeight()))
	var diags diag.Diagnostics
	m.Placement, diags = placement.Flatten(ctx, m.Placement, f.Placement)
	return diags
}

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// kind is made once: Terraform's every call begins with New.
var kind = sync.OnceValue(func() *managed.Kind[Model, api.Fleet, *Model] {
	return &managed.Kind[Model, api.Fleet, *Model]{
		Type: "fleet", Title: "fleet", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{
			{Name: "service", About: "The service that its instances are copies of."}, {Name: "name", About: "Its name within the service."},
		},
		ParseKey: managed.ParseRef,
		KeyOf:    func(f *api.Fleet) managed.Key { return managed.Key{f.Service, f.Name} },
		Get: func(ctx context.Context, c *client.Client, k managed.Key) (*api.Fleet, error) {
			return c.Fleet(ctx, k.Ref())
		},
		Put: func(ctx context.Context, c *client.Client, f *api.Fleet, ifMatch *uint64) (*api.Fleet, error) {
			return c.PutFleet(ctx, f, ifMatch)
		},
		Delete: func(ctx context.Context, c *client.Client, f *api.Fleet, ifMatch *uint64) error {
			return c.DeleteFleet(ctx, f.Ref(), ifMatch)
		},
		Validate: (*api.Fleet).Validate,
		Revision: func(f *api.Fleet) uint64 { return f.Revision },
		Same: func(a, b *api.Fleet) bool {
			x, y := *a, *b
			x.Source, y.Source = "", ""
			return x.Equal(&y)
		},
		Claim: func(f *api.Fleet) error {
			if f.Source == api.SourceFile {
				return api.Errorf(api.CodeConflict, "fleet %s is declared in the tenement.toml of a server: take it out there first", f.Ref())
			}
			return nil
		},
		Wait: waiting.Fleet, Plan: plan,
		Moves: []resource.StateMover{managed.NoMove("ten_instance", "An instance can't become the member of a fleet: a fleet makes its own, named NAME-0, NAME-1 and so on. "+
			"Create the fleet beside the instance, move the traffic by weight, then destroy the instance.")},
	}
})

// plan completes ref, and asks where the members would go.
func plan(ctx context.Context, p managed.Planning[Model]) {
	m := p.Plan
	if m.Service.IsUnknown() || m.Name.IsUnknown() {
		return
	}
	f, _ := m.Expand(ctx)
	if ref := f.Ref().String(); m.Ref.ValueString() != ref {
		p.Response.Diagnostics.Append(p.Response.Plan.SetAttribute(ctx, path.Root("ref"), ref)...)
	}
	rules, err := m.Placement.ToTerraformValue(ctx)
	if m.Replicas.IsUnknown() || m.Weight.IsUnknown() || m.WaitFor.IsUnknown() || err != nil || !rules.IsFullyKnown() {
		return
	}
	created := p.State == nil || p.State.Ref.ValueString() != f.Ref().String()
	if !created && p.State.Replicas.ValueInt64() >= int64(f.Replicas) && p.State.Placement.Equal(m.Placement) {
		return
	}
	res, err := p.Remote.DryRun(ctx, f.Service, api.PlanRequest{Fleet: f})
	var decisions []api.Decision
	if res != nil {
		for _, d := range res.Changes {
			if d.Ref.Service == f.Service && strings.HasPrefix(d.Ref.ID, f.Name+"-") {
				decisions = append(decisions, d)
			}
		}
	}
	p.Remote.Judge(ctx, &p.Response.Diagnostics, remote.Subject{
		Name: "fleet " + f.Ref().String(), Service: f.Service, In: p.Response.Plan.Schema,
		Firm: created && managed.WaitFor(m.WaitFor) != managed.WaitNone,
		Blame: func(reason string) path.Path {
			switch {
			case f.Placement.IsZero():
			case strings.HasPrefix(reason, "anti-affinity"):
				return path.Root("placement").AtName("anti_affinity")
			default:
				for i, k := range f.Placement.Constraints {
					if string(k) == reason {
						return path.Root("placement").AtName("constraints").AtListIndex(i)
					}
				}
			}
			return path.Root("replicas")
		},
	}, decisions, err)
}

func resourceSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "A number of instances of one service that the cluster keeps: `SERVICE:NAME-0`, `SERVICE:NAME-1` and so on.",
		Attributes: map[string]schema.Attribute{
			"service":  managed.NameAttribute("The service that its instances are copies of."),
			"name":     managed.NameAttribute("Its name within the service: 1 to 57 of `a-z 0-9 _ -`."),
			"ref":      managed.RefAttribute(),
			"replicas": schema.Int64Attribute{Required: true, MarkdownDescription: "How many instances it has, 0 to 100000."},
			"weight": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(api.DefaultWeight),
				MarkdownDescription: "The share, 0 to 100, of the traffic to the service that its instances have together. Default `100`.",
			},
			"placement": placement.Attribute("Which nodes may run its instances, and which do so best, instead of what the service says."),
			"wait_for":  managed.WaitForAttribute(),
			"timeouts":  managed.TimeoutsAttribute(),
		},
	}
}
