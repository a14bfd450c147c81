package fleet

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/list"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// NewList returns the list resource ten_fleet.
func NewList() list.ListResource {
	k := kind()
	k.OfService = true
	k.List = func(ctx context.Context, c *client.Client, f managed.Filter) ([]*api.Fleet, error) {
		return c.Fleets(ctx, f.Service)
	}
	return managed.NewList(k)
}
