package service

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/data"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// DataModel is the data source ten_service. It has the names of the environment only:
// what a data source reads ends up in the state.
type DataModel struct {
	Spec
	EnvNames types.List   `tfsdk:"env_names"`
	Source   types.String `tfsdk:"source"`
}

// NewData returns the data source.
func NewData() datasource.DataSource {
	all := data.Computed(resourceSchema().Attributes, []string{"name"}, []string{"env_wo", "env_wo_version", "timeouts"})
	all["env"] = schema.MapAttribute{
		Computed: true, ElementType: types.StringType,
		MarkdownDescription: "Always null: values may be secret, and a data source's are kept in the state. See `env_names`.",
	}
	all["env_names"] = schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "The names of the variables in its environment, secret ones included."}
	all["source"] = schema.StringAttribute{Computed: true, MarkdownDescription: "Who declared it: `api` (Terraform is one of those) or `file`."}
	return data.New(&data.Kind[DataModel]{
		Type: "service", Title: "service",
		Schema: schema.Schema{MarkdownDescription: "A service as the cluster has it.", Attributes: all},
		Read: func(ctx context.Context, c *client.Client, m *DataModel) error {
			s, err := c.Service(ctx, m.Name.ValueString())
			if err != nil {
				return err
			}
			names := slices.AppendSeq(slices.Clone(s.SecretEnv), maps.Keys(s.Env))
			slices.Sort(names)
			m.EnvNames = managed.TextList(m.EnvNames, names)
			m.Source = types.StringValue(string(s.Source))
			s.Env = nil
			if diags := m.Flatten(ctx, s); diags.HasError() {
				return data.Problem(diags)
			}
			return nil
		},
	})
}
