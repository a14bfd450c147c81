package instance

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// DataModel is the data source ten_instance: what was declared, and how it does now.
type DataModel struct {
	Service types.String `tfsdk:"service"`
	ID      types.String `tfsdk:"id"`
	Ref     types.String `tfsdk:"ref"`
	Desired types.String `tfsdk:"desired"`
	Weight  types.Int64  `tfsdk:"weight"`
	Pin     types.String `tfsdk:"pin"`
	Fleet   types.String `tfsdk:"fleet"`
	Source  types.String `tfsdk:"source"`
	Node    types.String `tfsdk:"node"`
	NodeID  types.String `tfsdk:"node_id"`
	State   types.String `tfsdk:"state"`
	Reason  types.String `tfsdk:"reason"`
	Healthy types.Bool   `tfsdk:"healthy"`
}

// ListModel is the data source ten_instances.
type ListModel struct {
	Service   types.String `tfsdk:"service"`
	Fleet     types.String `tfsdk:"fleet"`
	Node      types.String `tfsdk:"node"`
	Live      types.Bool   `tfsdk:"live"`
	Instances []DataModel  `tfsdk:"instances"`
}

// flatten describes an instance; names are those of the nodes, by id.
func flatten(i *api.Instance, names map[string]string) DataModel {
	m := DataModel{
		Service: types.StringValue(i.Service), ID: types.StringValue(i.ID), Ref: types.StringValue(i.Ref().String()),
		Desired: types.StringValue(string(i.Desired)), Weight: types.Int64Value(int64(i.EffectiveWeight())),
		Pin: text(i.Pin), Fleet: text(i.Fleet), Source: types.StringValue(string(i.Source)),
		Node: text(names[i.Node]), NodeID: text(i.Node), State: types.StringValue(string(i.State())), Healthy: types.BoolValue(false),
	}
	if o := i.Observed; o != nil {
		m.Reason, m.Healthy = text(o.Reason), types.BoolValue(o.State.Serving() && o.Healthy)
	}
	return m
}

func text(s string) types.String { return managed.Text(types.StringNull(), s) }

func nodeNames(ctx context.Context, c *client.Client) (map[string]string, error) {
	nodes, err := c.Nodes(ctx)
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	return names, err
}

// NewData returns the data source ten_instance.
func NewData() datasource.DataSource {
	return data.New(&data.Kind[DataModel]{
		Type: "instance", Title: "instance",
		Schema: schema.Schema{
			MarkdownDescription: "An instance, where it is and how it does at the moment of reading.",
			Attributes:          dataAttributes([]string{"service", "id"}),
		},
		Read: func(ctx context.Context, c *client.Client, m *DataModel) error {
			i, err := c.Instance(ctx, api.Ref{Service: m.Service.ValueString(), ID: m.ID.ValueString()})
			if err != nil {
				return err
			}
			names, err := nodeNames(ctx, c)
			*m = flatten(i, names)
			return err
		},
	})
}

// NewListData returns the data source ten_instances.
func NewListData() datasource.DataSource {
	filter := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: about}
	}
	return data.New(&data.Kind[ListModel]{
		Type: "instances", Title: "instances",
		Schema: schema.Schema{
			MarkdownDescription: "Instances, by name, at the moment of reading. What is left out does not restrict.",
			Attributes: map[string]schema.Attribute{
				"service": filter("Those of this service."),
				"fleet":   filter("Those of the fleets with this name."),
				"node":    filter("Those on this node, by its name or id."),
				"live":    schema.BoolAttribute{Optional: true, MarkdownDescription: "Only those that have a process, or are about to."},
				"instances": schema.ListNestedAttribute{
					Computed: true, MarkdownDescription: "The instances.",
					NestedObject: schema.NestedAttributeObject{Attributes: dataAttributes(nil)},
				},
			},
		},
		Read: func(ctx context.Context, c *client.Client, m *ListModel) error {
			all, err := c.Instances(ctx, client.InstanceQuery{
				Service: m.Service.ValueString(), Node: m.Node.ValueString(), Live: m.Live.ValueBool(),
			})
			if err != nil {
				return err
			}
			names, err := nodeNames(ctx, c)
			m.Instances = make([]DataModel, 0, len(all))
			for _, i := range all {
				if m.Fleet.IsNull() || i.Fleet == m.Fleet.ValueString() {
					m.Instances = append(m.Instances, flatten(i, names))
				}
			}
			return err
		},
	})
}

func dataAttributes(required []string) map[string]schema.Attribute {
	all := data.Computed(resourceSchema().Attributes, required, []string{"wait_for", "timeouts"})
	computed := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	all["fleet"] = computed("The fleet that it is a member of.")
	all["source"] = computed("Who declared it: `api` (Terraform is one of those), `file`, `request` or `fleet`.")
	all["node"] = computed("The name of the node that it is on.")
	all["node_id"] = computed("The id of that node.")
	all["state"] = computed("How it stands: `running`, `asleep`, `failed` and so on.")
	all["reason"] = computed("Why, for a state that needs a reason.")
	all["healthy"] = schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether it runs and has passed its last health check."}
	return all
}
