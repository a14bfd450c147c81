// Package data is what the provider's data sources have in common.
package data

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	resourceschema "github.com/hashicorp/terraform-plugin-framework/resource/schema"

	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// Kind is what is particular to a data source whose model is M.
type Kind[M any] struct {
	Type   string // after the provider's name: "service"
	Title  string // in messages: "service"
	Schema schema.Schema
	// Read fills in the model, which has what the configuration says.
	Read func(ctx context.Context, c *client.Client, m *M) error
}

// timeout bounds a read.
const timeout = 2 * time.Minute

// Source is a data source of some kind.
type Source[M any] struct {
	kind   *Kind[M]
	remote *remote.Remote
}

// New returns a data source of a kind.
func New[M any](k *Kind[M]) *Source[M] { return &Source[M]{kind: k} }

// Metadata implements datasource.DataSource.
func (s *Source[M]) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.kind.Type
}

// Schema implements datasource.DataSource.
func (s *Source[M]) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = s.kind.Schema
}

// Configure implements datasource.DataSourceWithConfigure.
func (s *Source[M]) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	s.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// Read implements datasource.DataSource.
func (s *Source[M]) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	m := new(M)
	resp.Diagnostics.Append(req.Config.Get(ctx, m)...)
	c := s.remote.Client(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.kind.Read(ctx, c, m); err != nil {
		remote.Report(ctx, &resp.Diagnostics, s.kind.Schema, "Cannot read "+s.kind.Title, err)
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

// Computed turns a resource's attributes into those of a data source, all of them
// computed, but for the ones that are required and those that are left out.
func Computed(of map[string]resourceschema.Attribute, required, without []string) map[string]schema.Attribute {
	out := make(map[string]schema.Attribute, len(of))
	for name, a := range of {
		out[name] = computed(a)
	}
	for _, name := range without {
		delete(out, name)
	}
	for _, name := range required {
		out[name] = schema.StringAttribute{Required: true, MarkdownDescription: of[name].GetMarkdownDescription()}
	}
	return out
}

func computed(a resourceschema.Attribute) schema.Attribute {
	about := a.GetMarkdownDescription()
	switch a := a.(type) {
	case resourceschema.StringAttribute:
		return schema.StringAttribute{Computed: true, CustomType: a.CustomType, MarkdownDescription: about}
	case resourceschema.Int64Attribute:
		return schema.Int64Attribute{Computed: true, MarkdownDescription: about}
	case resourceschema.BoolAttribute:
		return schema.BoolAttribute{Computed: true, MarkdownDescription: about}
	case resourceschema.ListAttribute:
		return schema.ListAttribute{Computed: true, ElementType: a.ElementType, MarkdownDescription: about}
	case resourceschema.MapAttribute:
		return schema.MapAttribute{Computed: true, ElementType: a.ElementType, MarkdownDescription: about}
	case resourceschema.SingleNestedAttribute:
		return schema.SingleNestedAttribute{Computed: true, Attributes: Computed(a.Attributes, nil, nil), MarkdownDescription: about}
	case resourceschema.ListNestedAttribute:
		return schema.ListNestedAttribute{
			Computed: true, MarkdownDescription: about,
			NestedObject: schema.NestedAttributeObject{Attributes: Computed(a.NestedObject.Attributes, nil, nil)},
		}
	default:
		return nil // the framework tells of an attribute that is none, in every test
	}
}

// Problem turns diagnostics that must not happen into an error.
func Problem(diags diag.Diagnostics) error {
	for _, d := range diags.Errors() {
		return fmt.Errorf("%s: %s", d.Summary(), d.Detail())
	}
	return nil
}
