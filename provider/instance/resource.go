// Package instance is the resource ten_instance and the data sources ten_instance and
// ten_instances.
package instance

import (
	"context"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
	"github.com/tenement-fleet/tenement/provider/internal/waiting"
)

// Model is a ten_instance.
type Model struct {
	Service  types.String   `tfsdk:"service"`
	ID       types.String   `tfsdk:"id"`
	Ref      types.String   `tfsdk:"ref"`
	Desired  types.String   `tfsdk:"desired"`
	Weight   types.Int64    `tfsdk:"weight"`
	Pin      types.String   `tfsdk:"pin"`
	WaitFor  types.String   `tfsdk:"wait_for"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// Options implements managed.Model.
func (m *Model) Options() managed.Options {
	return managed.Options{WaitFor: managed.WaitFor(m.WaitFor), Timeouts: m.Timeouts}
}

// Expand implements managed.Model.
func (m *Model) Expand(context.Context) (*api.Instance, diag.Diagnostics) {
	weight := managed.IntOr(m.Weight, api.DefaultWeight)
	return &api.Instance{
		Service: m.Service.ValueString(), ID: m.ID.ValueString(), Desired: managed.TextOr(m.Desired, api.DesiredRunning),
		Weight: &weight, Pin: m.Pin.ValueString(), Source: api.SourceAPI,
	}, nil
}

// Flatten implements managed.Model.
func (m *Model) Flatten(_ context.Context, i *api.Instance) diag.Diagnostics {
	m.Service, m.ID = types.StringValue(i.Service), types.StringValue(i.ID)
	m.Ref = types.StringValue(i.Ref().String())
	m.Desired = types.StringValue(string(i.Desired))
	m.Weight = types.Int64Value(int64(i.EffectiveWeight()))
	m.Pin = managed.Text(m.Pin, i.Pin)
	return nil
}

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// kind is made once: Terraform's every call begins with New.
var kind = sync.OnceValue(func() *managed.Kind[Model, api.Instance, *Model] {
	return &managed.Kind[Model, api.Instance, *Model]{
		Type: "instance", Title: "instance", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{
			{Name: "service", About: "The service that it is a copy of."}, {Name: "id", About: "Its id within the service."},
		},
		ParseKey: managed.ParseRef,
		KeyOf:    func(i *api.Instance) managed.Key { return managed.Key{i.Service, i.ID} },
		Get: func(ctx context.Context, c *client.Client, k managed.Key) (*api.Instance, error) {
			return c.Instance(ctx, k.Ref())
		},
		Put: func(ctx context.Context, c *client.Client, i *api.Instance, ifMatch *uint64) (*api.Instance, error) {
			return c.PutInstance(ctx, i, ifMatch)
		},
		Delete: func(ctx context.Context, c *client.Client, i *api.Instance, ifMatch *uint64) error {
			return c.DeleteInstance(ctx, i.Ref(), ifMatch)
		},
		Validate: (*api.Instance).Validate,
		Revision: func(i *api.Instance) uint64 { return i.Revision },
		Same:     same, Claim: claim, Respell: respell, Plan: plan,
		Wait: waiting.Instance,
		Moves: []resource.StateMover{managed.NoMove("ten_fleet", "A fleet's instances belong to the fleet: none of them is a ten_instance. "+
			"Keep the fleet and declare the instance beside it, or destroy the fleet first.")},
	}
})

func same(a, b *api.Instance) bool {
	x, y := *a, *b
	x.Source, y.Source, x.SourceNode, y.SourceNode = "", "", "", ""
	return x.Equal(&y)
}

func claim(i *api.Instance) error {
	switch {
	case i.Fleet != "":
		return api.Errorf(api.CodeConflict, "%s exists already: it is a member of fleet %s:%s, which keeps it. Give this one another id", i.Ref(), i.Service, i.Fleet)
	case i.Source == api.SourceFile:
		return api.Errorf(api.CodeConflict, "%s is declared in the tenement.toml of a server: take it out there first", i.Ref())
	}
	return nil
}

// respell names the node that an instance is pinned to as it was written, by id or name;
// by name where nothing was.
func respell(ctx context.Context, c *client.Client, as, i *api.Instance) error {
	if i.Pin == "" || i.Pin == as.Pin {
		return nil
	}
	n, err := c.Member(ctx, i.Pin)
	if managed.IsCode(err, api.CodeNotFound) {
		return nil // it is pinned to a node that is gone
	}
	if err == nil && (as.Pin == "" || as.Pin == n.Name) {
		i.Pin = n.Name
	}
	return err
}

// plan completes ref, and asks where a new instance would go.
func plan(ctx context.Context, p managed.Planning[Model]) {
	m := p.Plan
	if m.Service.IsUnknown() || m.ID.IsUnknown() {
		return
	}
	i, _ := m.Expand(ctx)
	if ref := i.Ref().String(); m.Ref.ValueString() != ref {
		p.Response.Diagnostics.Append(p.Response.Plan.SetAttribute(ctx, path.Root("ref"), ref)...)
	}
	if m.Desired.IsUnknown() || m.Weight.IsUnknown() || m.Pin.IsUnknown() || m.WaitFor.IsUnknown() {
		return
	}
	created := p.State == nil || p.State.Ref.ValueString() != i.Ref().String()
	if !created && p.State.Pin.Equal(m.Pin) {
		return
	}
	d, err := p.Remote.PlanInstance(ctx, i)
	var decisions []api.Decision
	if d != nil {
		decisions = append(decisions, *d)
	}
	p.Remote.Judge(ctx, &p.Response.Diagnostics, remote.Subject{
		Name: "instance " + i.Ref().String(), Service: i.Service, In: p.Response.Plan.Schema,
		Firm: created && managed.WaitFor(m.WaitFor) != managed.WaitNone,
		Blame: func(string) path.Path {
			if i.Pin != "" {
				return path.Root("pin")
			}
			return path.Root("service") // whose rules they are
		},
	}, decisions, err)
}

func resourceSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "One copy of a service. Which node it is on, and how it does, are told by the data source of the same name.",
		Attributes: map[string]schema.Attribute{
			"service": managed.NameAttribute("The service that it is a copy of."),
			"id":      managed.NameAttribute("Its id within the service: 1 to 63 of `a-z 0-9 _ -`. It is served at `ID.SERVICE.DOMAIN`."),
			"ref":     managed.RefAttribute(),
			"desired": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.DesiredRunning)),
				MarkdownDescription: "`running` (the default: it has its share of the service's traffic, and sleeps when idle), `asleep` (only a request for its own host wakes it) or `stopped` (requests get 503).",
			},
			"weight": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(api.DefaultWeight),
				MarkdownDescription: "Its share, 0 to 100, of the traffic to the service. Default `100`.",
			},
			"pin":      schema.StringAttribute{Optional: true, MarkdownDescription: "The one node, by name or id, on which it may run. Left out: the cluster chooses."},
			"wait_for": managed.WaitForAttribute(),
			"timeouts": managed.TimeoutsAttribute(),
		},
	}
}
