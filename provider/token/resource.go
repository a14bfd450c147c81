// Package token is the resource ten_token and the ephemeral resources ten_token and
// ten_token_secret.
package token

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

// Model is a ten_token.
type Model struct {
	ID              types.String   `tfsdk:"id"`
	Role            types.String   `tfsdk:"role"`
	Tenant          types.String   `tfsdk:"tenant"`
	Description     types.String   `tfsdk:"description"`
	ExpiresAt       units.Value    `tfsdk:"expires_at"`
	SecretWO        types.String   `tfsdk:"secret_wo"`
	SecretWOVersion types.Int64    `tfsdk:"secret_wo_version"`
	Timeouts        timeouts.Value `tfsdk:"timeouts"`
}

// Options implements managed.Model.
func (m *Model) Options() managed.Options { return managed.Options{Timeouts: m.Timeouts} }

// Expand implements managed.Model. The secret is not in it.
func (m *Model) Expand(context.Context) (*api.Token, diag.Diagnostics) {
	t := &api.Token{
		ID: m.ID.ValueString(), Role: api.Role(m.Role.ValueString()), Tenant: m.Tenant.ValueString(),
		Description: m.Description.ValueString(), ExpiresAt: m.ExpiresAt.Time(),
	}
	t.SetDefaults()
	return t, nil
}

// Flatten implements managed.Model.
func (m *Model) Flatten(_ context.Context, t *api.Token) diag.Diagnostics {
	m.ID, m.Role = types.StringValue(t.ID), types.StringValue(string(t.Role))
	m.Tenant, m.Description = managed.Text(m.Tenant, t.Tenant), managed.Text(m.Description, t.Description)
	m.ExpiresAt = units.FromTime(m.ExpiresAt, t.ExpiresAt)
	return nil
}

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// NewList returns the list resource.
func NewList() list.ListResource { return managed.NewList(kind()) }

func kind() *managed.Kind[Model, api.Token, *Model] {
	return &managed.Kind[Model, api.Token, *Model]{
		Type: "token", Title: "token", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{{Name: "id", About: "The token's id, the second part of its secret `ten_ID_…`."}},
		ParseKey: parseKey,
		KeyOf:    func(t *api.Token) managed.Key { return managed.Key{t.ID} },
		Get:      get,
		Put: func(ctx context.Context, c *client.Client, t *api.Token, ifMatch *uint64) (*api.Token, error) {
			return c.PutToken(ctx, t.ID, api.TokenPut{
				Role: t.Role, Tenant: t.Tenant, Description: t.Description, ExpiresAt: t.ExpiresAt, SHA256: t.SHA256,
			}, ifMatch)
		},
		Delete: func(ctx context.Context, c *client.Client, t *api.Token, _ *uint64) error {
			return c.DeleteToken(ctx, t.ID)
		},
		Validate: validate,
		Revision: func(t *api.Token) uint64 { return t.Revision },
		Same: func(a, b *api.Token) bool {
			x, y := *a, *b
			x.SHA256, y.SHA256 = nil, nil // never told
			return x.Equal(&y)
		},
		Secrets: secrets, Plan: plan,
		List: func(ctx context.Context, c *client.Client, _ managed.Filter) ([]*api.Token, error) {
			return c.Tokens(ctx)
		},
	}
}

func parseKey(id string) (managed.Key, error) {
	probe := api.Token{ID: id, Role: api.RoleAdmin, SHA256: make([]byte, 32)}
	return managed.Key{id}, probe.Validate()
}

func get(ctx context.Context, c *client.Client, k managed.Key) (*api.Token, error) {
	all, err := c.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.ID == k[0] {
			return t, nil
		}
	}
	return nil, api.Errorf(api.CodeNotFound, "no token %q", k[0])
}

// validate checks what is written: the id and the hash are the secret's.
func validate(t *api.Token) error {
	probe := *t
	probe.ID, probe.SHA256 = "000000000000", make([]byte, 32)
	return probe.Validate()
}

// secrets takes the id and the hash of a new token from its secret, which goes no further.
func secrets(ctx context.Context, s managed.Secrets[api.Token]) diag.Diagnostics {
	if s.Current != nil {
		return nil // another secret is another token
	}
	var secret types.String
	at := path.Root("secret_wo")
	diags := s.Config.GetAttribute(ctx, at, &secret)
	id, hash, err := api.ParseSecret(secret.ValueString())
	if err != nil {
		diags.AddAttributeError(at, "Not the secret of a token",
			"It has to be of the form that ephemeral.ten_token_secret makes: ten_, 12 hex digits, _ and 43 characters of base64url. What was given is not shown.")
		return diags
	}
	s.To.ID, s.To.SHA256 = id, hash[:]
	return diags
}

// plan warns of a token that is of no use any more.
func plan(_ context.Context, p managed.Planning[Model]) {
	if p.State == nil || !p.Plan.ExpiresAt.Equal(p.State.ExpiresAt) {
		return
	}
	if at := p.State.ExpiresAt.Time(); !at.IsZero() && time.Now().After(at) {
		p.Response.Diagnostics.AddAttributeWarning(path.Root("expires_at"), fmt.Sprintf("Token %s has expired", p.State.ID.ValueString()),
			"It is accepted no more since "+at.Format(time.RFC3339)+". Another expires_at makes it valid again, another secret_wo_version replaces it.")
	}
}

// roleByTenant plans the role that the API gives a token without one.
type roleByTenant struct{}

func (roleByTenant) Description(context.Context) string { return "tenant with a tenant, else admin" }

func (r roleByTenant) MarkdownDescription(ctx context.Context) string { return r.Description(ctx) }

func (roleByTenant) PlanModifyString(ctx context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	var tenant types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("tenant"), &tenant)...)
	if !req.ConfigValue.IsNull() || tenant.IsUnknown() {
		return
	}
	t := api.Token{Tenant: tenant.ValueString()}
	t.SetDefaults()
	resp.PlanValue = types.StringValue(string(t.Role))
}

func resourceSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "A token for the API. Terraform never stores its secret, nor does the cluster, which gets no more than its hash: " +
			"the secret comes from an ephemeral value, usually that of `ten_token_secret`, and goes to where it is needed, a vault for example, by a " +
			"write-only attribute there. For a token that is needed during one run only there is the ephemeral resource `ten_token`. Needs Terraform 1.11.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, MarkdownDescription: "The token's id, which tells nothing of the secret: it names the token in lists and in the audit log.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
			"role": schema.StringAttribute{
				Optional: true, Computed: true, PlanModifiers: []planmodifier.String{roleByTenant{}},
				MarkdownDescription: "`admin` (everything) or `tenant` (read the instances of one tenant). Default: `tenant` with a `tenant`, else `admin`.",
			},
			"tenant":      schema.StringAttribute{Optional: true, MarkdownDescription: "The instance id, in any service, that a token of role `tenant` may read."},
			"description": schema.StringAttribute{Optional: true, MarkdownDescription: "What it is for, at most 200 bytes."},
			"expires_at":  units.Attribute(units.TimeType, "When it ends, such as `2030-01-31T12:00:00Z`. Left out: never.", ""),
			"secret_wo": schema.StringAttribute{
				Required: true, Sensitive: true, WriteOnly: true,
				MarkdownDescription: "The secret, of which the cluster is told the hash when the token is created. Write-only: kept neither in the state nor in the plan.",
			},
			"secret_wo_version": schema.Int64Attribute{
				Optional: true, MarkdownDescription: "Change it to have a token of another secret instead; with `create_before_destroy` both are valid for a moment.",
				PlanModifiers: []planmodifier.Int64{int64planmodifier.RequiresReplaceIf(
					func(_ context.Context, req planmodifier.Int64Request, resp *int64planmodifier.RequiresReplaceIfFuncResponse) {
						resp.RequiresReplace = !req.StateValue.IsNull() // null after an import
					}, "another version is another token", "another version is another token")},
			},
			"timeouts": managed.TimeoutsAttribute(),
		},
	}
}
