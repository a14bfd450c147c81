package node

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// Described is a node as data sources tell it.
type Described struct {
	ID           types.String `tfsdk:"id"`
	Name         types.String `tfsdk:"name"`
	Role         types.String `tfsdk:"role"`
	Status       types.String `tfsdk:"status"`
	StatusReason types.String `tfsdk:"status_reason"`
	Eligibility  types.String `tfsdk:"eligibility"`
	Region       types.String `tfsdk:"region"`
	Zone         types.String `tfsdk:"zone"`
	Operator     types.String `tfsdk:"operator"`
	Labels       types.Map    `tfsdk:"labels"`
	CPUs         types.Int64  `tfsdk:"cpus"`
	Memory       types.Int64  `tfsdk:"memory"`
	Storage      types.Int64  `tfsdk:"storage"`
	Isolations   types.List   `tfsdk:"isolations"`
	Instances    types.Int64  `tfsdk:"instances"`
	Version      types.String `tfsdk:"version"`
	HTTPAddress  types.String `tfsdk:"http_address"`
	PeerAddress  types.String `tfsdk:"peer_address"`
}

// DataModel is the data source ten_node.
type DataModel struct {
	Node types.String `tfsdk:"node"`
	Described
}

// ListModel is the data source ten_nodes.
type ListModel struct {
	Region      types.String `tfsdk:"region"`
	Zone        types.String `tfsdk:"zone"`
	Eligibility types.String `tfsdk:"eligibility"`
	Status      types.String `tfsdk:"status"`
	Match       types.List   `tfsdk:"match"`
	Nodes       []Described  `tfsdk:"nodes"`
}

func text[T ~string](s T) types.String { return managed.Text(types.StringNull(), s) }

func status(n *api.Member) string {
	if n.Reachable() {
		return string(api.NodeUp)
	}
	return string(n.Status)
}

func describe(n *api.Member) Described {
	labels := n.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return Described{
		ID: text(n.ID), Name: text(n.Name), Role: text(n.Role), Status: text(status(n)), StatusReason: text(n.StatusReason),
		Eligibility: text(n.Eligibility), Region: text(n.Region), Zone: text(n.Zone), Operator: text(n.Provider),
		Labels: managed.TextMap(types.MapValueMust(types.StringType, nil), labels),
		CPUs:   types.Int64Value(int64(n.Capacity.CPUs)), Memory: types.Int64Value(int64(n.Capacity.Memory)), Storage: types.Int64Value(int64(n.Capacity.Storage)),
		Isolations: managed.TextList(types.ListNull(types.StringType), n.Isolations), Instances: types.Int64Value(int64(n.Instances)),
		Version: text(n.Version), HTTPAddress: text(n.HTTPAddress), PeerAddress: text(n.PeerAddress),
	}
}

// NewData returns the data source ten_node.
func NewData() datasource.DataSource {
	all := attributes()
	all["node"] = schema.StringAttribute{Required: true, MarkdownDescription: "The node's name or id."}
	return data.New(&data.Kind[DataModel]{
		Type: "node", Title: "node",
		Schema: schema.Schema{MarkdownDescription: "A node of the cluster at the moment of reading.", Attributes: all},
		Read: func(ctx context.Context, c *client.Client, m *DataModel) error {
			n, err := c.Member(ctx, m.Node.ValueString())
			if err == nil {
				m.Described = describe(n)
			}
			return err
		},
	})
}

// NewListData returns the data source ten_nodes.
func NewListData() datasource.DataSource {
	return data.New(&data.Kind[ListModel]{
		Type: "nodes", Title: "nodes",
		Schema: schema.Schema{
			MarkdownDescription: "The nodes of the cluster, by name, at the moment of reading. What is left out does not restrict.",
			Attributes: map[string]schema.Attribute{
				"region": schema.StringAttribute{Optional: true, MarkdownDescription: "Those in this region."},
				"zone":   schema.StringAttribute{Optional: true, MarkdownDescription: "Those in this zone."},
				"eligibility": schema.StringAttribute{
					Optional: true, Validators: []validator.String{stringvalidator.OneOf("eligible", "cordoned", "draining")},
					MarkdownDescription: "Those that are `eligible`, `cordoned` or `draining`.",
				},
				"status": schema.StringAttribute{
					Optional: true, Validators: []validator.String{stringvalidator.OneOf("up", "down", "left")},
					MarkdownDescription: "Those that are `up`, `down` or `left`.",
				},
				"match": schema.ListAttribute{
					Optional: true, ElementType: types.StringType,
					MarkdownDescription: "Those of which all of these conditions hold, written as in `placement.constraints`: `label.gpu`, `zone != eu-1`.",
				},
				"nodes": schema.ListNestedAttribute{
					Computed: true, MarkdownDescription: "The nodes.", NestedObject: schema.NestedAttributeObject{Attributes: attributes()},
				},
			},
		},
		Read: readList,
	})
}

func readList(ctx context.Context, c *client.Client, m *ListModel) error {
	var conditions []func(*api.Node) bool
	for _, s := range managed.Texts(m.Match) {
		k, err := api.ParseConstraint(s)
		if err != nil {
			return &api.FieldError{Field: "match", Got: s, Want: `a condition such as "zone = eu-1|eu-2", "label.gpu" or "!label.old"`}
		}
		conditions = append(conditions, k.Compile())
	}
	all, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	agrees := func(want types.String, is string) bool { return want.IsNull() || want.ValueString() == is }
	m.Nodes = []Described{}
	for _, n := range all {
		keep := agrees(m.Region, n.Region) && agrees(m.Zone, n.Zone) && agrees(m.Eligibility, string(n.Eligibility)) && agrees(m.Status, status(n))
		for _, holds := range conditions {
			keep = keep && holds(&n.Node)
		}
		if keep {
			m.Nodes = append(m.Nodes, describe(n))
		}
	}
	return nil
}

func attributes() map[string]schema.Attribute {
	text := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	number := func(about string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: about}
	}
	return map[string]schema.Attribute{
		"id":            text("The node's id, which it keeps for life."),
		"name":          text("Its name."),
		"role":          text("Its part in Raft: `leader`, `voter`, `nonvoter`, or null."),
		"status":        text("Whether the leader reaches it: `up`, `down` or `left`."),
		"status_reason": text("Why it is down."),
		"eligibility":   text("Whether it may be given instances: `eligible`, `cordoned` or `draining`."),
		"region":        text("Its region."),
		"zone":          text("Its zone."),
		"operator":      text("Whose machine it is: `provider` in placement rules, a word that Terraform keeps for itself."),
		"labels":        schema.MapAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Its labels."},
		"cpus":          number("CPUs that it has to give; 0 is no bound."),
		"memory":        number("Bytes of memory that it has to give; 0 is no bound."),
		"storage":       number("Bytes of storage that it has to give; 0 is no bound."),
		"isolations":    schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "The isolation levels that work on it."},
		"instances":     number("How many instances are placed on it."),
		"version":       text("The version of ten that it runs."),
		"http_address":  text("Where its HTTP port is, `host:port`."),
		"peer_address":  text("Where its peer port is, `host:port`."),
	}
}
