// Package route is the resource and the data source ten_route.
package route

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// NewList returns the list resource.
func NewList() list.ListResource { return managed.NewList(kind()) }

func kind() *managed.Kind[Model, api.Route, *Model] {
	return &managed.Kind[Model, api.Route, *Model]{
		Type: "route", Title: "route", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{{Name: "name", About: "The route's name."}},
		ParseKey: func(id string) (managed.Key, error) {
			if !api.ValidName(id) {
				return nil, &api.FieldError{Field: "name", Got: id, Want: "the name of a route"}
			}
			return managed.Key{id}, nil
		},
		KeyOf: func(r *api.Route) managed.Key { return managed.Key{r.Name} },
		Get: func(ctx context.Context, c *client.Client, k managed.Key) (*api.Route, error) {
			r, err := c.StoredRoute(ctx, k[0])
			if err != nil {
				return nil, err
			}
			return &r.Route, nil
		},
		Put: func(ctx context.Context, c *client.Client, r *api.Route, ifMatch *uint64) (*api.Route, error) {
			return c.PutRoute(ctx, r, ifMatch)
		},
		Delete: func(ctx context.Context, c *client.Client, r *api.Route, ifMatch *uint64) error {
			return c.DeleteRoute(ctx, r.Name, ifMatch)
		},
		Validate: (*api.Route).Validate,
		Revision: func(r *api.Route) uint64 { return r.Revision },
		Same: func(a, b *api.Route) bool {
			x, y := *a, *b
			x.Source, y.Source = "", ""
			return x.Equal(&y)
		},
		Plan: plan,
		List: func(ctx context.Context, c *client.Client, _ managed.Filter) ([]*api.Route, error) {
			all, err := c.Routes(ctx)
			out := make([]*api.Route, len(all))
			for i, r := range all {
				out[i] = &r.Route
			}
			return out, err
		},
	}
}

// plan tells that another route has a host and path already. It may be about to give them
// up in the same apply: the cluster has the last word.
func plan(ctx context.Context, p managed.Planning[Model]) {
	m := p.Plan
	if m.Name.IsUnknown() || !known(ctx, m.Hosts) || !known(ctx, m.Paths) || !p.Remote.Known() {
		return
	}
	if p.State != nil && p.State.Name.Equal(m.Name) && p.State.Hosts.Equal(m.Hosts) && p.State.Paths.Equal(m.Paths) {
		return
	}
	r, diags := m.Expand(ctx)
	p.Response.Diagnostics.Append(diags...)
	all, err := p.Remote.Client(&p.Response.Diagnostics).Routes(ctx)
	if err != nil {
		return // an apply will tell
	}
	for _, other := range all {
		if other.Name == r.Name {
			continue
		}
		if host, at, ok := shared(r, &other.Route); ok {
			p.Response.Diagnostics.AddAttributeWarning(path.Root("hosts"), "Route "+other.Name+" has this already",
				fmt.Sprintf("Both are for %s%s, and no host and path belongs to two routes. If %s gives it up in the same apply, say depends_on there.", host, at, other.Name))
		}
	}
}

// shared returns a host and path that both routes have.
func shared(a, b *api.Route) (host, at string, ok bool) {
	for _, host := range a.EffectiveHosts() {
		for _, at := range a.EffectivePaths() {
			if slices.Contains(b.EffectiveHosts(), host) && slices.Contains(b.EffectivePaths(), at) {
				if host == "" {
					host = "the domain's "
				}
				return host, at, true
			}
		}
	}
	return "", "", false
}

func known(ctx context.Context, v types.List) bool {
	raw, err := v.ToTerraformValue(ctx)
	return err == nil && raw.IsFullyKnown()
}

func resourceSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "Sends the requests for its hosts and paths to instances, fleets or whole services, by weight. It comes before the hosts that " +
			"services and instances have by themselves. What each backend gets at the moment is told by the data source of the same name.",
		Attributes: map[string]schema.Attribute{
			"name": managed.NameAttribute("The route's name: 1 to 63 of `a-z 0-9 _ -`."),
			"hosts": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Whole DNS names. Without any, `paths` are those of the cluster's own domain.",
			},
			"paths": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Prefixes of whole segments, such as `/shop`, of which the longest wins. Without any, all paths. They reach the backend unchanged.",
			},
			"backends": schema.ListNestedAttribute{
				Optional: true, MarkdownDescription: "Where requests go. None are needed while the mode is `maintenance`.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"service":  schema.StringAttribute{Required: true, MarkdownDescription: "The service; with neither `instance` nor `fleet` all of it, by its own weights."},
					"instance": schema.StringAttribute{Optional: true, MarkdownDescription: "The id of one of its instances."},
					"fleet":    schema.StringAttribute{Optional: true, MarkdownDescription: "The name of one of its fleets."},
					"weight": schema.Int64Attribute{
						Optional: true, Computed: true, Default: int64default.StaticInt64(api.DefaultWeight),
						MarkdownDescription: "Its share, 0 to 100, in relation to the others'. Default `100`.",
					},
				}},
			},
			"mode": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(api.RouteLive)),
				MarkdownDescription: "`live` (the default), `pause` (requests are held until the mode is another, within bounds) or `maintenance` (they get 503 and `message`).",
			},
			"message":  schema.StringAttribute{Optional: true, MarkdownDescription: "What clients read while the mode is `maintenance`."},
			"timeouts": managed.TimeoutsAttribute(),
		},
	}
}
