package service

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/list"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// NewList returns the list resource ten_service: the services that no tenement.toml
// declares. It leaves out their environment, which may be secret: what is found is often
// turned into a configuration.
func NewList() list.ListResource {
	k := kind()
	k.List = func(ctx context.Context, c *client.Client, _ managed.Filter) ([]*api.Service, error) {
		all, err := c.Services(ctx)
		var out []*api.Service
		for _, s := range all {
			if s.Env = nil; s.Source != api.SourceFile {
				out = append(out, s)
			}
		}
		return out, err
	}
	return managed.NewList(k)
}
