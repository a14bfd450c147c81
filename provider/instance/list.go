package instance

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/list"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// NewList returns the list resource ten_instance: the instances that no fleet and no
// tenement.toml has.
func NewList() list.ListResource {
	k := kind()
	k.OfService = true
	k.List = func(ctx context.Context, c *client.Client, f managed.Filter) ([]*api.Instance, error) {
		all, err := c.Instances(ctx, client.InstanceQuery{Service: f.Service})
		var out []*api.Instance
		for _, i := range all {
			if i.Fleet == "" && i.Source != api.SourceFile {
				out = append(out, i)
			}
		}
		return out, err
	}
	return managed.NewList(k)
}
