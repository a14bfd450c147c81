package token

import (
	"context"
	"crypto/rand"

	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
)

// SecretModel is the ephemeral resource ten_token_secret.
type SecretModel struct {
	ID     types.String `tfsdk:"id"`
	Secret types.String `tfsdk:"secret"`
}

// Secret is the ephemeral resource ten_token_secret: a new secret for a ten_token, and for
// where the token is needed. It talks to nobody.
type Secret struct{}

// NewSecret returns the ephemeral resource ten_token_secret.
func NewSecret() ephemeral.EphemeralResource { return Secret{} }

// Metadata implements ephemeral.EphemeralResource.
func (Secret) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_token_secret"
}

// Schema implements ephemeral.EphemeralResource.
func (Secret) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A new secret, another one in every run, for the `secret_wo` of a `ten_token` and for the write-only attribute of the " +
			"resource that keeps it. Both take it only when they are created or their version changes: change both versions together.",
		Attributes: map[string]schema.Attribute{
			"id":     schema.StringAttribute{Computed: true, MarkdownDescription: "The id that a token of this secret has."},
			"secret": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "The secret. No token is valid by it until a `ten_token` has it."},
		},
	}
}

// Open implements ephemeral.EphemeralResource.
func (Secret) Open(ctx context.Context, _ ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	secret, id, _, err := api.NewSecret(rand.Reader)
	if err != nil {
		resp.Diagnostics.AddError("Cannot make a secret", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.Result.Set(ctx, &SecretModel{ID: types.StringValue(id), Secret: types.StringValue(secret)})...)
}
