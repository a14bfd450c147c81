package route

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// DataModel is the data source ten_route.
type DataModel struct {
	Spec
	Source    types.String `tfsdk:"source"`
	Effective []Effective  `tfsdk:"effective"`
}

// Effective is a backend and what it gets now.
type Effective struct {
	Service  types.String  `tfsdk:"service"`
	Instance types.String  `tfsdk:"instance"`
	Fleet    types.String  `tfsdk:"fleet"`
	Weight   types.Int64   `tfsdk:"weight"`
	Share    types.Float64 `tfsdk:"share"`
	Reason   types.String  `tfsdk:"reason"`
}

// NewData returns the data source.
func NewData() datasource.DataSource {
	all := data.Computed(resourceSchema().Attributes, []string{"name"}, []string{"timeouts"})
	text := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	all["source"] = text("Who declared it: `api` (Terraform is one of those).")
	all["effective"] = schema.ListNestedAttribute{
		Computed: true, MarkdownDescription: "What each of the backends gets, in their order.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"service":  text("The service."),
			"instance": text("The instance's id."),
			"fleet":    text("The fleet's name."),
			"weight":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Its weight as it is declared."},
			"share":    schema.Float64Attribute{Computed: true, MarkdownDescription: "How many of 100 requests it gets."},
			"reason":   text("Why `share` is 0; null when it is not."),
		}},
	}
	return data.New(&data.Kind[DataModel]{
		Type: "route", Title: "route",
		Schema: schema.Schema{MarkdownDescription: "A route, and what becomes of its requests at the moment of reading.", Attributes: all},
		Read: func(ctx context.Context, c *client.Client, m *DataModel) error {
			r, err := c.StoredRoute(ctx, m.Name.ValueString())
			if err != nil {
				return err
			}
			text := func(s string) types.String { return managed.Text(types.StringNull(), s) }
			m.Source, m.Effective = types.StringValue(string(r.Source)), []Effective{}
			for i := range r.Effective {
				e := &r.Effective[i]
				m.Effective = append(m.Effective, Effective{
					Service: text(e.Service), Instance: text(e.Instance), Fleet: text(e.Fleet), Weight: types.Int64Value(int64(e.EffectiveWeight())),
					Share: types.Float64Value(e.Share), Reason: text(e.Reason),
				})
			}
			return data.Problem(m.Flatten(ctx, &r.Route))
		},
	})
}
