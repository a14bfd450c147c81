package token

import (
	"context"
	"crypto/rand"
	"encoding/json"
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
	// defaultLife is how long an ephemeral token is valid without being renewed: what
	// Terraform could not revoke ends by itself.
	defaultLife = api.Duration(time.Hour)
	// shortest is the least that leaves time to renew.
	shortest = api.Duration(time.Minute)
	// timeout bounds each call.
	timeout = 2 * time.Minute
)

// leaseKey is where the private data of an open token are.
const leaseKey = "lease"

// lease is what renewing and revoking take. The secret is not in it.
type lease struct {
	ID  string
	Put api.TokenPut
}

// renewAt leaves a third of its life to renew a token.
func (l *lease) renewAt(now time.Time) time.Time { return now.Add(l.Put.ExpiresIn.Std() * 2 / 3) }

// EphemeralModel is the ephemeral resource ten_token.
type EphemeralModel struct {
	Role        types.String `tfsdk:"role"`
	Tenant      types.String `tfsdk:"tenant"`
	Description types.String `tfsdk:"description"`
	ExpiresIn   units.Value  `tfsdk:"expires_in"`
	ID          types.String `tfsdk:"id"`
	Secret      types.String `tfsdk:"secret"`
}

// Ephemeral is the ephemeral resource ten_token: a token for one run of Terraform.
type Ephemeral struct{ remote *remote.Remote }

var (
	_ ephemeral.EphemeralResourceWithConfigure      = (*Ephemeral)(nil)
	_ ephemeral.EphemeralResourceWithValidateConfig = (*Ephemeral)(nil)
	_ ephemeral.EphemeralResourceWithRenew          = (*Ephemeral)(nil)
	_ ephemeral.EphemeralResourceWithClose          = (*Ephemeral)(nil)
)

// NewEphemeral returns the ephemeral resource ten_token.
func NewEphemeral() ephemeral.EphemeralResource { return &Ephemeral{} }

// Metadata implements ephemeral.EphemeralResource.
func (e *Ephemeral) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_token"
}

// Schema implements ephemeral.EphemeralResource.
func (e *Ephemeral) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A token for one run of Terraform: made when it is opened, renewed while it is needed, revoked when it is closed.",
		Attributes: map[string]schema.Attribute{
			"role":        schema.StringAttribute{Optional: true, MarkdownDescription: "`admin` or `tenant`. Default: `tenant` with a `tenant`, else `admin`."},
			"tenant":      schema.StringAttribute{Optional: true, MarkdownDescription: "The instance id, in any service, that a token of role `tenant` may read."},
			"description": schema.StringAttribute{Optional: true, MarkdownDescription: "What it is for, at most 200 bytes."},
			"expires_in": schema.StringAttribute{
				Optional: true, CustomType: units.DurationType,
				MarkdownDescription: "When it ends should Terraform be killed before it can revoke it; `1m` at least. Default `1h`.",
			},
			"id":     schema.StringAttribute{Computed: true, MarkdownDescription: "The token's id."},
			"secret": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "The secret, as the API takes it."},
		},
	}
}

// Configure implements ephemeral.EphemeralResourceWithConfigure.
func (e *Ephemeral) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	e.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// put returns what the cluster is asked for.
func (m *EphemeralModel) put() api.TokenPut {
	t := api.Token{Role: api.Role(m.Role.ValueString()), Tenant: m.Tenant.ValueString()}
	t.SetDefaults()
	return api.TokenPut{Role: t.Role, Tenant: t.Tenant, Description: m.Description.ValueString(), ExpiresIn: m.ExpiresIn.Duration(defaultLife)}
}

// ValidateConfig implements ephemeral.EphemeralResourceWithValidateConfig.
func (e *Ephemeral) ValidateConfig(ctx context.Context, req ephemeral.ValidateConfigRequest, resp *ephemeral.ValidateConfigResponse) {
	var m EphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if m.Role.IsUnknown() || m.Tenant.IsUnknown() || resp.Diagnostics.HasError() {
		return
	}
	p := m.put()
	err := validate(&api.Token{Role: p.Role, Tenant: p.Tenant, Description: p.Description})
	fields := remote.Fields(err)
	if p.ExpiresIn < shortest {
		fields = append(fields, api.FieldError{Field: "expires_in", Got: p.ExpiresIn.String(), Want: shortest.String() + " or more"})
	}
	if len(fields) > 0 {
		remote.Report(ctx, &resp.Diagnostics, req.Config.Schema, "Invalid token", api.FieldErrors(fields))
	}
}

// Open implements ephemeral.EphemeralResource. The secret is made here, so that making the
// token may be repeated until the cluster has answered.
func (e *Ephemeral) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var m EphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	c := e.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	secret, id, hash, err := api.NewSecret(rand.Reader)
	l := lease{ID: id, Put: m.put()}
	l.Put.SHA256 = hash[:]
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		_, err = c.PutToken(bounded, id, l.Put, nil)
	}
	if err != nil {
		remote.Report(ctx, &resp.Diagnostics, req.Config.Schema, "Cannot create token", err)
		return
	}
	m.ID, m.Secret = types.StringValue(id), types.StringValue(secret)
	resp.Diagnostics.Append(resp.Result.Set(ctx, &m)...)
	private, err := json.Marshal(l)
	if err != nil {
		resp.Diagnostics.AddError("Cannot note the token", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, leaseKey, private)...)
	resp.RenewAt = l.renewAt(time.Now())
}

// Renew implements ephemeral.EphemeralResourceWithRenew.
func (e *Ephemeral) Renew(ctx context.Context, req ephemeral.RenewRequest, resp *ephemeral.RenewResponse) {
	text, diags := req.Private.GetKey(ctx, leaseKey)
	resp.Diagnostics.Append(diags...)
	var l lease
	if err := json.Unmarshal(text, &l); err != nil {
		resp.Diagnostics.AddError("Cannot renew token", err.Error())
	}
	c := e.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := c.PutToken(bounded, l.ID, l.Put, nil); err != nil {
		remote.Report(ctx, &resp.Diagnostics, nil, "Cannot renew token "+l.ID, err)
		return
	}
	resp.RenewAt = l.renewAt(time.Now())
}

// Close implements ephemeral.EphemeralResourceWithClose.
func (e *Ephemeral) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	text, diags := req.Private.GetKey(ctx, leaseKey)
	resp.Diagnostics.Append(diags...)
	var l lease
	if err := json.Unmarshal(text, &l); err != nil {
		resp.Diagnostics.AddError("Cannot revoke token", err.Error())
	}
	c := e.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.DeleteToken(bounded, l.ID); !managed.IsCode(err, api.CodeNotFound) {
		remote.Report(ctx, &resp.Diagnostics, nil, "Cannot revoke token "+l.ID, err)
	}
}
