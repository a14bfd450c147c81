// Package jointoken is the ephemeral resource ten_join_token.
package jointoken

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

const (
	defaultLife = api.Duration(time.Hour)
	timeout     = 2 * time.Minute
	idKey       = "id"
)

// Model is the ephemeral resource ten_join_token.
type Model struct {
	Description types.String `tfsdk:"description"`
	ExpiresIn   units.Value  `tfsdk:"expires_in"`
	MaxUses     types.Int64  `tfsdk:"max_uses"`
	Keep        types.Bool   `tfsdk:"keep"`
	ID          types.String `tfsdk:"id"`
	Text        types.String `tfsdk:"text"`
}

// Ephemeral is the ephemeral resource ten_join_token.
type Ephemeral struct{ remote *remote.Remote }

var (
	_ ephemeral.EphemeralResourceWithConfigure      = (*Ephemeral)(nil)
	_ ephemeral.EphemeralResourceWithValidateConfig = (*Ephemeral)(nil)
	_ ephemeral.EphemeralResourceWithClose          = (*Ephemeral)(nil)
)

// New returns the ephemeral resource.
func New() ephemeral.EphemeralResource { return &Ephemeral{} }

// Metadata implements ephemeral.EphemeralResource.
func (e *Ephemeral) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_join_token"
}

// Schema implements ephemeral.EphemeralResource.
func (e *Ephemeral) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A token with which servers join the cluster: `ten serve --token-file FILE` reads it. Every plan and every apply opens one of its own.",
		Attributes: map[string]schema.Attribute{
			"description": schema.StringAttribute{Optional: true, MarkdownDescription: "What it is for, at most 200 bytes."},
			"expires_in":  schema.StringAttribute{Optional: true, CustomType: units.DurationType, MarkdownDescription: "How long it is good for. Default `1h`."},
			"max_uses":    schema.Int64Attribute{Optional: true, MarkdownDescription: "How many servers may join by it; `0`, the default, is any number."},
			"keep": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Leave it valid until `expires_in` has passed, for servers that join after the apply. Default `false`: it is revoked when it is closed, " +
					"at the end of the run at the latest.",
			},
			"id":   schema.StringAttribute{Computed: true, MarkdownDescription: "The token's id, which tells nothing of its text."},
			"text": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "What the token file is to hold."},
		},
	}
}

// Configure implements ephemeral.EphemeralResourceWithConfigure.
func (e *Ephemeral) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	e.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// ValidateConfig implements ephemeral.EphemeralResourceWithValidateConfig.
func (e *Ephemeral) ValidateConfig(ctx context.Context, req ephemeral.ValidateConfigRequest, resp *ephemeral.ValidateConfigResponse) {
	var m Model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	var wrong api.FieldErrors
	if d := m.ExpiresIn.Duration(defaultLife); d <= 0 { // the API would take 0 for never
		wrong = append(wrong, api.FieldError{Field: "expires_in", Got: d.String(), Want: "a positive duration: it always ends"})
	}
	probe := api.JoinToken{ID: "000000000000", SHA256: make([]byte, 32), Description: m.Description.ValueString(), MaxUses: managed.IntOr(m.MaxUses, 0)}
	if wrong = append(wrong, remote.Fields(probe.Validate())...); len(wrong) > 0 {
		remote.Report(ctx, &resp.Diagnostics, req.Config.Schema, "Invalid join token", wrong)
	}
}

// Open implements ephemeral.EphemeralResource.
func (e *Ephemeral) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var m Model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	c := e.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t, err := c.CreateJoinToken(bounded, api.JoinTokenRequest{
		Description: m.Description.ValueString(), ExpiresIn: m.ExpiresIn.Duration(defaultLife), MaxUses: managed.IntOr(m.MaxUses, 0),
	})
	if err != nil {
		remote.Report(ctx, &resp.Diagnostics, req.Config.Schema, "Cannot create join token", err)
		return
	}
	m.ID, m.Text = types.StringValue(t.ID), types.StringValue(t.Text)
	resp.Diagnostics.Append(resp.Result.Set(ctx, &m)...)
	if !m.Keep.ValueBool() {
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, idKey, []byte(`"`+t.ID+`"`))...)
	}
}

// Close implements ephemeral.EphemeralResourceWithClose.
func (e *Ephemeral) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	text, diags := req.Private.GetKey(ctx, idKey)
	resp.Diagnostics.Append(diags...)
	if len(text) < 2 {
		return // kept
	}
	id := string(text[1 : len(text)-1])
	c := e.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.DeleteJoinToken(bounded, id); !managed.IsCode(err, api.CodeNotFound) {
		remote.Report(ctx, &resp.Diagnostics, nil, "Cannot revoke join token "+id, err)
	}
}
