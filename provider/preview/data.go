// Package preview is the data source ten_placement: where instances would go, and why.
package preview

import (
	"context"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// Model is the data source ten_placement.
type Model struct {
	Service   types.String `tfsdk:"service"`
	Instances types.List   `tfsdk:"instances"`
	Pin       types.String `tfsdk:"pin"`
	Fleet     types.String `tfsdk:"fleet"`
	Replicas  types.Int64  `tfsdk:"replicas"`
	Drain     types.List   `tfsdk:"drain"`
	Possible  types.Bool   `tfsdk:"possible"`
	Decisions []Decision   `tfsdk:"decisions"`
}

// Decision is where one instance would go.
type Decision struct {
	Ref      types.String `tfsdk:"ref"`
	From     types.String `tfsdk:"from"`
	Node     types.String `tfsdk:"node"`
	Reason   types.String `tfsdk:"reason"`
	Excluded []Exclusion  `tfsdk:"excluded"`
}

// Exclusion is one reason that ruled out nodes.
type Exclusion struct {
	Reason types.String `tfsdk:"reason"`
	Nodes  types.Int64  `tfsdk:"nodes"`
}

// NewData returns the data source.
func NewData() datasource.DataSource {
	return data.New(&data.Kind[Model]{Type: "placement", Title: "placement", Schema: dataSchema(), Read: read})
}

func read(ctx context.Context, c *client.Client, m *Model) error {
	req, concerns, err := request(m)
	if err != nil {
		return err
	}
	res, err := c.Plan(ctx, *req)
	if err != nil {
		return err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	m.Possible, m.Decisions = types.BoolValue(true), []Decision{}
	for i := range res.Changes {
		d := &res.Changes[i]
		if !concerns(d.Ref) {
			continue
		}
		if d.Node == "" {
			m.Possible = types.BoolValue(false)
		}
		m.Decisions = append(m.Decisions, describe(d, names))
	}
	return nil
}

// request makes the question out of the configuration, and tells which answers count.
func request(m *Model) (*api.PlanRequest, func(api.Ref) bool, error) {
	service := m.Service.ValueString()
	ids := managed.Texts(m.Instances)
	switch {
	case service == "" && (len(ids) > 0 || !m.Fleet.IsNull()):
		return nil, nil, api.Errorf(api.CodeInvalid, "instances and fleet need service: what they would be of")
	case m.Fleet.IsNull() != m.Replicas.IsNull():
		return nil, nil, api.Errorf(api.CodeInvalid, "fleet and replicas need each other")
	case !m.Pin.IsNull() && len(ids) == 0:
		return nil, nil, api.Errorf(api.CodeInvalid, "pin needs instances: those that would be pinned")
	}
	req := &api.PlanRequest{Drain: managed.Texts(m.Drain)}
	asked := map[api.Ref]bool{}
	for _, id := range ids {
		i := &api.Instance{Service: service, ID: id, Pin: m.Pin.ValueString()}
		i.SetDefaults()
		if err := i.Validate(); err != nil {
			return nil, nil, err
		}
		req.Instances, asked[i.Ref()] = append(req.Instances, i), true
	}
	if !m.Fleet.IsNull() {
		req.Fleet = &api.Fleet{Service: service, Name: m.Fleet.ValueString(), Replicas: managed.IntOr(m.Replicas, 0)}
		req.Fleet.SetDefaults()
		if err := req.Fleet.Validate(); err != nil {
			return nil, nil, err
		}
	}
	return req, func(r api.Ref) bool {
		member := req.Fleet != nil && r.Service == service && strings.HasPrefix(r.ID, req.Fleet.Name+"-")
		return member || asked[r] || len(asked) == 0 && req.Fleet == nil && (service == "" || r.Service == service)
	}, nil
}

func describe(d *api.Decision, names map[string]string) Decision {
	node := func(id string) types.String {
		if name, ok := names[id]; ok {
			id = name
		}
		return managed.Text(types.StringNull(), id)
	}
	out := Decision{Ref: types.StringValue(d.Ref.String()), From: node(d.From), Node: node(d.Node), Reason: types.StringValue(d.Reason), Excluded: []Exclusion{}}
	for _, e := range d.Excluded {
		out.Excluded = append(out.Excluded, Exclusion{Reason: types.StringValue(e.Reason), Nodes: types.Int64Value(int64(e.Nodes))})
	}
	return out
}

func dataSchema() schema.Schema {
	text := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	return schema.Schema{
		MarkdownDescription: "Where instances would go if they were declared now, and why, or why nowhere. It changes nothing. Without `instances`, `fleet` and " +
			"`drain` it tells what the cluster is about to move anyway.",
		Attributes: map[string]schema.Attribute{
			"service": schema.StringAttribute{Optional: true, MarkdownDescription: "The service that `instances` or `fleet` are of; otherwise only what concerns it is told."},
			"instances": schema.ListAttribute{
				Optional: true, ElementType: types.StringType, MarkdownDescription: "Ids of instances of the service, as if they were declared.",
			},
			"pin":      schema.StringAttribute{Optional: true, MarkdownDescription: "The node that these instances would be pinned to, by name or id."},
			"fleet":    schema.StringAttribute{Optional: true, MarkdownDescription: "The name of a fleet of the service, as if it were declared with `replicas`."},
			"replicas": schema.Int64Attribute{Optional: true, MarkdownDescription: "How many instances that fleet would have."},
			"drain": schema.ListAttribute{
				Optional: true, ElementType: types.StringType, MarkdownDescription: "Nodes, by name or id, as if they were drained.",
			},
			"possible": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether a node would take each of them."},
			"decisions": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "What would be placed, moved, or left without a node.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"ref":    text("The instance, `service:id`."),
					"from":   text("The node that it is on; null for a new one."),
					"node":   text("The node that it would be on; null: none takes it."),
					"reason": text("Why this node, or why none."),
					"excluded": schema.ListNestedAttribute{
						Computed: true, MarkdownDescription: "What ruled out how many nodes.",
						NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
							"reason": text("Such as `zone = eu-1` or `memory`."),
							"nodes":  schema.Int64Attribute{Computed: true, MarkdownDescription: "How many."},
						}},
					},
				}},
			},
		},
	}
}
