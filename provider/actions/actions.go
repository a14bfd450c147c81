// Package actions is what can be done to a cluster without changing what is declared:
// restart an instance, drain a node, promote a node. Terraform 1.14 invokes them.
package actions

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/action/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
	"github.com/tenement-fleet/tenement/provider/internal/units"
	"github.com/tenement-fleet/tenement/provider/internal/waiting"
)

// kind is what is particular to an action whose configuration is an M.
type kind[M any] struct {
	name   string
	schema schema.Schema
	// check finds what is wrong with a configuration; what is not known yet is empty. May
	// be nil.
	check func(*M) error
	// summary says what could not be done; timeout is the bound that was configured.
	summary func(*M) string
	timeout func(*M) units.Value
	run     func(ctx context.Context, c *client.Client, m *M, say func(string)) error
}

// simple is an action of some kind.
type simple[M any] struct {
	kind   *kind[M]
	remote *remote.Remote
}

// defaultTimeout bounds an action of which the configuration says no bound.
const defaultTimeout = 10 * time.Minute

// Metadata implements action.Action.
func (a *simple[M]) Metadata(_ context.Context, req action.MetadataRequest, resp *action.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + a.kind.name
}

// Schema implements action.Action.
func (a *simple[M]) Schema(_ context.Context, _ action.SchemaRequest, resp *action.SchemaResponse) {
	resp.Schema = a.kind.schema
	resp.Schema.Attributes["timeout"] = schema.StringAttribute{
		Optional: true, CustomType: units.DurationType, MarkdownDescription: "How long it may take. Default `10m`.",
	}
}

// Configure implements action.ActionWithConfigure.
func (a *simple[M]) Configure(_ context.Context, req action.ConfigureRequest, resp *action.ConfigureResponse) {
	a.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// ValidateConfig implements action.ActionWithValidateConfig.
func (a *simple[M]) ValidateConfig(ctx context.Context, req action.ValidateConfigRequest, resp *action.ValidateConfigResponse) {
	var m M
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if a.kind.check == nil || resp.Diagnostics.HasError() || !req.Config.Raw.IsFullyKnown() {
		return
	}
	remote.Report(ctx, &resp.Diagnostics, a.kind.schema, "Invalid ten_"+a.kind.name, a.kind.check(&m))
}

// Invoke implements action.Action.
func (a *simple[M]) Invoke(ctx context.Context, req action.InvokeRequest, resp *action.InvokeResponse) {
	m := a.get(ctx, req.Config, resp)
	c := a.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.kind.timeout(m).Duration(api.Duration(defaultTimeout)).Std())
	defer cancel()
	say := func(text string) { resp.SendProgress(action.InvokeProgressEvent{Message: text}) }
	if err := a.kind.run(ctx, c, m, say); err != nil {
		remote.Report(ctx, &resp.Diagnostics, a.kind.schema, a.kind.summary(m), err)
	}
}

func (a *simple[M]) get(ctx context.Context, config tfsdk.Config, resp *action.InvokeResponse) *M {
	m := new(M)
	resp.Diagnostics.Append(config.Get(ctx, m)...)
	return m
}

// RestartModel is the action ten_restart.
type RestartModel struct {
	Instance types.String `tfsdk:"instance"`
	Timeout  units.Value  `tfsdk:"timeout"`
}

// NewRestart returns the action ten_restart.
func NewRestart() action.Action {
	return &simple[RestartModel]{kind: &kind[RestartModel]{
		name: "restart",
		schema: schema.Schema{
			MarkdownDescription: "Restarts an instance, and waits until it accepts connections; requests that come meanwhile wait. Needs Terraform 1.14.",
			Attributes: map[string]schema.Attribute{
				"instance": schema.StringAttribute{Required: true, MarkdownDescription: "`service:id`, the `ref` of a `ten_instance`."},
			},
		},
		check:   func(m *RestartModel) error { _, err := api.ParseRef(m.Instance.ValueString()); return err },
		summary: func(m *RestartModel) string { return "Cannot restart " + m.Instance.ValueString() },
		timeout: func(m *RestartModel) units.Value { return m.Timeout },
		run: func(ctx context.Context, c *client.Client, m *RestartModel, say func(string)) error {
			ref, err := api.ParseRef(m.Instance.ValueString())
			if err != nil {
				return err
			}
			say("restarting " + ref.String())
			i, err := c.Restart(ctx, ref)
			if err == nil {
				say(fmt.Sprintf("%s is %s", ref, i.State()))
			}
			return err
		},
	}}
}

// DrainModel is the action ten_drain.
type DrainModel struct {
	Node    types.String `tfsdk:"node"`
	Wait    types.Bool   `tfsdk:"wait"`
	Timeout units.Value  `tfsdk:"timeout"`
}

// NewDrain returns the action ten_drain.
func NewDrain() action.Action {
	return &simple[DrainModel]{kind: &kind[DrainModel]{
		name: "drain",
		schema: schema.Schema{
			MarkdownDescription: "Moves all instances of a node to others; it is given none until it is made eligible again " +
				"(`ten node uncordon`). A node that Terraform is to keep drained is a `ten_node`. Needs Terraform 1.14.",
			Attributes: map[string]schema.Attribute{
				"node": schema.StringAttribute{Required: true, MarkdownDescription: "The node's name or id."},
				"wait": schema.BoolAttribute{Optional: true, MarkdownDescription: "Wait until no instance is left on it. Default `true`."},
			},
		},
		summary: func(m *DrainModel) string { return "Cannot drain node " + m.Node.ValueString() },
		timeout: func(m *DrainModel) units.Value { return m.Timeout },
		run: func(ctx context.Context, c *client.Client, m *DrainModel, say func(string)) error {
			n, err := c.SetEligibility(ctx, m.Node.ValueString(), api.EligibilityDraining, nil)
			if err != nil {
				return err
			}
			say("draining " + n.Name)
			if !m.Wait.IsNull() && !m.Wait.ValueBool() {
				return nil
			}
			return waiting.Drained(ctx, c, n.ID, say)
		},
	}}
}

// PromoteModel is the action ten_promote.
type PromoteModel struct {
	Node    types.String `tfsdk:"node"`
	Timeout units.Value  `tfsdk:"timeout"`
}

// NewPromote returns the action ten_promote.
func NewPromote() action.Action {
	return &simple[PromoteModel]{kind: &kind[PromoteModel]{
		name: "promote",
		schema: schema.Schema{
			MarkdownDescription: "Gives a node a vote in the cluster. Needs Terraform 1.14.",
			Attributes: map[string]schema.Attribute{
				"node": schema.StringAttribute{Required: true, MarkdownDescription: "The node's name or id."},
			},
		},
		summary: func(m *PromoteModel) string { return "Cannot promote node " + m.Node.ValueString() },
		timeout: func(m *PromoteModel) units.Value { return m.Timeout },
		run: func(ctx context.Context, c *client.Client, m *PromoteModel, say func(string)) error {
			n, err := c.Promote(ctx, m.Node.ValueString())
			if err == nil {
				say(fmt.Sprintf("node %s is a %s", n.Name, n.Role))
			}
			return err
		},
	}}
}
