package provider

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// The variables that stand in for attributes of the configuration that are left out.
const (
	EnvEndpoints = "TEN_ENDPOINTS" // separated by commas or blanks
	EnvToken     = "TEN_TOKEN"     //nolint:gosec // a name
	EnvCA        = "TEN_CA"
)

// DefaultEndpoint is used when no endpoint is configured.
const DefaultEndpoint = "http://127.0.0.1:8080"

type config struct {
	Endpoints types.List   `tfsdk:"endpoints"`
	Token     types.String `tfsdk:"token"`
	CA        types.String `tfsdk:"ca"`
}

// Schema implements provider.Provider.
func (p *Provider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Services, instances, fleets and routes of a tenement cluster.",
		Attributes: map[string]schema.Attribute{
			"endpoints": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Servers of the cluster, the preferred first, such as `https://ten1.example.com:8443`; `unix:///path/ten.sock` works too. " +
					"When one fails the next is asked. Default: `" + EnvEndpoints + "` (separated by commas), else `" + DefaultEndpoint + "`.",
			},
			"token": schema.StringAttribute{
				Optional: true, Sensitive: true,
				MarkdownDescription: "A token of role admin. Default: `" + EnvToken + "`. None is needed for a unix socket.",
			},
			"ca": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "The certificate authority of the servers, as PEM or the path of a PEM file, when it is none that the system knows; " +
					"`ten cluster ca` prints a cluster's own. Default: `" + EnvCA + "`.",
			},
		},
	}
}

// Configure implements provider.Provider. It connects to nothing.
func (p *Provider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var c config
	resp.Diagnostics.Append(req.Config.Get(ctx, &c)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r := remote.New(nil)
	if unknown(ctx, c) {
		tflog.Info(ctx, "the provider's configuration is not known yet")
	} else if cl := p.client(ctx, c, &resp.Diagnostics); cl != nil {
		r = remote.New(cl)
	}
	resp.DataSourceData, resp.ResourceData, resp.EphemeralResourceData = r, r, r
	resp.ActionData, resp.ListResourceData = r, r
}

// unknown reports whether any of the configuration is known only after apply.
func unknown(ctx context.Context, c config) bool {
	list, err := c.Endpoints.ToTerraformValue(ctx)
	return c.Token.IsUnknown() || c.CA.IsUnknown() || err == nil && !list.IsFullyKnown()
}

func (p *Provider) client(ctx context.Context, c config, diags *diag.Diagnostics) *client.Client {
	var endpoints []string
	diags.Append(c.Endpoints.ElementsAs(ctx, &endpoints, false)...)
	if len(endpoints) == 0 {
		endpoints = strings.FieldsFunc(p.getenv(EnvEndpoints), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(endpoints) == 0 {
		endpoints = []string{DefaultEndpoint}
	}
	cfg := client.Config{
		Endpoints: endpoints, Token: first(c.Token.ValueString(), p.getenv(EnvToken)), UserAgent: "terraform-provider-ten/" + p.Version,
		Persistent: true, TryTimeout: tryTimeout,
		Notify: func(err error, in time.Duration) {
			tflog.Warn(ctx, "a call will be repeated", map[string]any{"error": err.Error(), "in": in.String()})
		},
	}
	var err error
	if cfg.CA, err = readCA(first(c.CA.ValueString(), p.getenv(EnvCA))); err != nil {
		diags.AddAttributeError(path.Root("ca"), "Invalid ca", remote.Sentence(err.Error()))
		return nil
	}
	cl, err := client.New(cfg)
	if fe, ok := errors.AsType[*api.FieldError](err); ok {
		at := path.Root("endpoints").AtListIndex(max(0, slices.Index(endpoints, fe.Got)))
		diags.AddAttributeError(at, "Invalid endpoint", fmt.Sprintf("Got %q, want %s.", fe.Got, fe.Want))
		return nil
	}
	if err != nil {
		diags.AddAttributeError(path.Root("token"), "Invalid token", remote.Sentence(strings.TrimPrefix(err.Error(), "make client: ")))
		return nil
	}
	return cl
}

// tryTimeout bounds one answer of one server: after it the next server is asked.
const tryTimeout = 20 * time.Second

func (p *Provider) getenv(name string) string {
	if p.Getenv == nil {
		return os.Getenv(name)
	}
	return p.Getenv(name)
}

// readCA returns the PEM that is given, or that is in the file given.
func readCA(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	pem := []byte(s)
	if !strings.Contains(s, "-----BEGIN") {
		var err error
		if pem, err = os.ReadFile(s); err != nil {
			return nil, fmt.Errorf("neither PEM nor a file that can be read: %w", err)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return pem, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
