// Package cluster is the data source ten_cluster.
package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// Model is the data source ten_cluster.
type Model struct {
	ID     types.String `tfsdk:"id"`
	Leader types.String `tfsdk:"leader"`
	Nodes  []Node       `tfsdk:"nodes"`
}

// Node is a member of the cluster.
type Node struct {
	ID          types.String `tfsdk:"id"`
	Name        types.String `tfsdk:"name"`
	Role        types.String `tfsdk:"role"`
	Status      types.String `tfsdk:"status"`
	Eligibility types.String `tfsdk:"eligibility"`
	Region      types.String `tfsdk:"region"`
	Zone        types.String `tfsdk:"zone"`
	Version     types.String `tfsdk:"version"`
}

// NewData returns the data source.
func NewData() datasource.DataSource {
	computed := func(about string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	return data.New(&data.Kind[Model]{
		Type: "cluster", Title: "cluster",
		Schema: schema.Schema{
			MarkdownDescription: "The cluster: who leads it, and its members, at the moment of reading.",
			Attributes: map[string]schema.Attribute{
				"id":     computed("The cluster's id, which never changes."),
				"leader": computed("The name of the node that leads; null while there is none."),
				"nodes": schema.ListNestedAttribute{
					Computed: true, MarkdownDescription: "The members, by name.",
					NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
						"id":          computed("The node's id."),
						"name":        computed("Its name."),
						"role":        computed("Its part in Raft: `leader`, `voter`, `nonvoter`, or null."),
						"status":      computed("Whether the leader reaches it: `up`, `down` or `left`."),
						"eligibility": computed("Whether it may be given instances: `eligible`, `cordoned` or `draining`."),
						"region":      computed("Its region."),
						"zone":        computed("Its zone."),
						"version":     computed("The version of ten that it runs."),
					}},
				},
			},
		},
		Read: read,
	})
}

func read(ctx context.Context, c *client.Client, m *Model) error {
	s, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	text := func(v string) types.String { return managed.Text(types.StringNull(), v) }
	m.ID, m.Leader, m.Nodes = text(s.ID), types.StringNull(), []Node{}
	for _, n := range s.Members {
		if n.ID == s.Leader {
			m.Leader = text(n.Name)
		}
		status := text(string(n.Status))
		if n.Reachable() {
			status = types.StringValue("up")
		}
		m.Nodes = append(m.Nodes, Node{
			ID: text(n.ID), Name: text(n.Name), Role: text(string(n.Role)), Status: status, Eligibility: text(string(n.Eligibility)),
			Region: text(n.Region), Zone: text(n.Zone), Version: text(n.Version),
		})
	}
	return nil
}
