package managed

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// ValidateConfig implements resource.ResourceWithValidateConfig: the API's own rules, and
// what Kind.Check adds.
func (r *Resource[M, O, P]) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m M
	resp.Diagnostics.Append(r.kind.get(ctx, req.Config.Raw, &m, req.Config.Get)...)
	if resp.Diagnostics.HasError() {
		return
	}
	o := r.expand(ctx, &m, &resp.Diagnostics)
	if o == nil {
		return
	}
	if r.kind.Check != nil {
		resp.Diagnostics.Append(r.kind.Check(ctx, &m)...)
	}
	err := r.kind.Validate(o)
	for _, f := range remote.Fields(err) {
		p, ok := remote.Locate(ctx, r.kind.Schema, f.Field)
		if ok && unknown(req.Config, p) {
			continue
		}
		detail := fmt.Sprintf("Got %q, want %s.", f.Got, f.Want)
		if !ok {
			resp.Diagnostics.AddError("Invalid "+r.kind.Title, f.Field+": "+detail)
			continue
		}
		resp.Diagnostics.AddAttributeError(p, "Invalid "+f.Field, detail)
	}
}

// unknown reports whether the attribute that a path begins with, or a part of it, is not
// known yet.
func unknown(config tfsdk.Config, p path.Path) bool {
	name, ok := p.Steps()[0].(path.PathStepAttributeName)
	var all map[string]tftypes.Value
	if !ok || config.Raw.As(&all) != nil {
		return false
	}
	v, ok := all[string(name)]
	return ok && !v.IsFullyKnown()
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *Resource[M, O, P]) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if r.kind.Plan == nil || req.Plan.Raw.IsNull() {
		return
	}
	p := Planning[M]{Remote: r.remote, Plan: new(M), Request: req, Response: resp}
	resp.Diagnostics.Append(r.kind.get(ctx, req.Plan.Raw, p.Plan, req.Plan.Get)...)
	if !req.State.Raw.IsNull() {
		p.State = new(M)
		resp.Diagnostics.Append(r.kind.get(ctx, req.State.Raw, p.State, req.State.Get)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	r.kind.Plan(ctx, p)
}

// ImportState implements resource.ResourceWithImportState: by the name of the object, or
// by its identity.
func (r *Resource[M, O, P]) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	key, ok := r.importKey(ctx, req, &resp.Diagnostics)
	if !ok {
		return
	}
	for i, part := range key {
		at := path.Root(r.kind.Identity[i].Name)
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, at, part)...)
		if resp.Identity != nil {
			resp.Diagnostics.Append(resp.Identity.SetAttribute(ctx, at, part)...)
		}
	}
}

func (r *Resource[M, O, P]) importKey(ctx context.Context, req resource.ImportStateRequest, diags *diag.Diagnostics) (Key, bool) {
	if req.ID != "" {
		key, err := r.kind.ParseKey(req.ID)
		if err != nil {
			remote.Report(ctx, diags, nil, fmt.Sprintf("Cannot import %s %q", r.kind.Title, req.ID), err)
		}
		return key, err == nil
	}
	var key Key
	for _, a := range r.kind.Identity {
		var part types.String
		diags.Append(req.Identity.GetAttribute(ctx, path.Root(a.Name), &part)...)
		key = append(key, part.ValueString())
	}
	return key, !diags.HasError()
}

// NoMove refuses a moved block from another type of resource, and says why and what to do.
func NoMove(from, why string) resource.StateMover {
	return resource.StateMover{StateMover: func(_ context.Context, req resource.MoveStateRequest, resp *resource.MoveStateResponse) {
		if req.SourceTypeName == from && strings.HasSuffix(req.SourceProviderAddress, "/ten") {
			resp.Diagnostics.AddError("A "+from+" can't be moved here", why)
		}
	}}
}
