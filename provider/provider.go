// Package provider is the Terraform provider of tenement. Its own file has the
// configuration; each resource has a package below it, and what they share is in
// provider/internal (see DESIGN.md).
package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/tenement-fleet/tenement/provider/actions"
	"github.com/tenement-fleet/tenement/provider/cluster"
	"github.com/tenement-fleet/tenement/provider/fleet"
	"github.com/tenement-fleet/tenement/provider/functions"
	"github.com/tenement-fleet/tenement/provider/instance"
	"github.com/tenement-fleet/tenement/provider/jointoken"
	"github.com/tenement-fleet/tenement/provider/node"
	"github.com/tenement-fleet/tenement/provider/preview"
	"github.com/tenement-fleet/tenement/provider/route"
	"github.com/tenement-fleet/tenement/provider/service"
	"github.com/tenement-fleet/tenement/provider/token"
)

// Provider is the provider ten.
type Provider struct {
	// Version is told to Terraform and to servers.
	Version string
	// Getenv looks up the variables that stand in for the configuration.
	Getenv func(string) string
	// ParseFile reads a tenement.toml; without it there is no function tenement_toml.
	ParseFile functions.ParseFile
}

var (
	_ provider.ProviderWithActions            = (*Provider)(nil)
	_ provider.ProviderWithEphemeralResources = (*Provider)(nil)
	_ provider.ProviderWithFunctions          = (*Provider)(nil)
	_ provider.ProviderWithListResources      = (*Provider)(nil)
)

// Metadata implements provider.Provider.
func (p *Provider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = "ten", p.Version
}

// Resources implements provider.Provider.
func (p *Provider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		service.New,
		instance.New,
		fleet.New,
		route.New,
		node.New,
		token.New,
	}
}

// DataSources implements provider.Provider.
func (p *Provider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		cluster.NewData,
		service.NewData,
		instance.NewData,
		instance.NewListData,
		node.NewData,
		node.NewListData,
		route.NewData,
		preview.NewData,
	}
}

// EphemeralResources implements provider.ProviderWithEphemeralResources.
func (p *Provider) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{
		token.NewEphemeral,
		token.NewSecret,
		jointoken.New,
	}
}

// Functions implements provider.ProviderWithFunctions.
func (p *Provider) Functions(context.Context) []func() function.Function {
	all := []func() function.Function{functions.NewParseRef, functions.NewInstanceURL}
	if p.ParseFile != nil {
		all = append(all, functions.NewTenementTOML(p.ParseFile))
	}
	return all
}

// Actions implements provider.ProviderWithActions.
func (p *Provider) Actions(context.Context) []func() action.Action {
	return []func() action.Action{actions.NewRestart, actions.NewDrain, actions.NewPromote}
}

// ListResources implements provider.ProviderWithListResources.
func (p *Provider) ListResources(context.Context) []func() list.ListResource {
	return []func() list.ListResource{
		service.NewList,
		instance.NewList,
		fleet.NewList,
		route.NewList,
		node.NewList,
		token.NewList,
	}
}
