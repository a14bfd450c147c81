package managed

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/list/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// Filter restricts what is listed. Zero fields don't.
type Filter struct{ Service string }

// Lister is the list resource of some kind: what terraform query finds, and can import.
type Lister[M, O any, P Model[M, O]] struct {
	kind   *Kind[M, O, P]
	remote *remote.Remote
}

// NewList returns the list resource of a kind that has Kind.List.
func NewList[M, O any, P Model[M, O]](k *Kind[M, O, P]) *Lister[M, O, P] {
	return &Lister[M, O, P]{kind: k}
}

// listTimeout bounds the listing.
const listTimeout = 2 * time.Minute

// Metadata implements list.ListResource.
func (l *Lister[M, O, P]) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + l.kind.Type
}

// ListResourceConfigSchema implements list.ListResource.
func (l *Lister[M, O, P]) ListResourceConfigSchema(_ context.Context, _ list.ListResourceSchemaRequest, resp *list.ListResourceSchemaResponse) {
	resp.Schema = schema.Schema{MarkdownDescription: "Finds what there is of ten_" + l.kind.Type + ", to be imported. Needs Terraform 1.14."}
	if l.kind.OfService {
		resp.Schema.Attributes = map[string]schema.Attribute{
			"service": schema.StringAttribute{Optional: true, MarkdownDescription: "Those of this service only."},
		}
	}
}

// Configure implements list.ListResourceWithConfigure.
func (l *Lister[M, O, P]) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	l.remote = remote.From(req.ProviderData, &resp.Diagnostics)
}

// List implements list.ListResource.
func (l *Lister[M, O, P]) List(ctx context.Context, req list.ListRequest, stream *list.ListResultsStream) {
	var diags diag.Diagnostics
	var f Filter
	if l.kind.OfService {
		var service types.String
		diags.Append(req.Config.GetAttribute(ctx, path.Root("service"), &service)...)
		f.Service = service.ValueString()
	}
	var all []*O
	c := l.remote.Client(&diags)
	if !diags.HasError() {
		bounded, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		var err error
		all, err = l.kind.List(bounded, c, f)
		remote.Report(ctx, &diags, nil, "Cannot list what there is of ten_"+l.kind.Type, err)
	}
	if diags.HasError() {
		stream.Results = list.ListResultsStreamDiagnostics(diags)
		return
	}
	if n := int(req.Limit); n > 0 && n < len(all) {
		all = all[:n]
	}
	stream.Results = l.results(ctx, req, all)
}

func (l *Lister[M, O, P]) results(ctx context.Context, req list.ListRequest, all []*O) iter.Seq[list.ListResult] {
	return func(push func(list.ListResult) bool) {
		for _, o := range all {
			key := l.kind.KeyOf(o)
			result := req.NewListResult(ctx)
			result.DisplayName = strings.Join(key, ":")
			for i, part := range key {
				result.Diagnostics.Append(result.Identity.SetAttribute(ctx, path.Root(l.kind.Identity[i].Name), part)...)
			}
			if req.IncludeResource {
				l.include(ctx, key, o, &result)
			}
			if !push(result) {
				return
			}
		}
	}
}

// include describes the object as an import would.
func (l *Lister[M, O, P]) include(ctx context.Context, key Key, o *O, result *list.ListResult) {
	state := tfsdk.State{Schema: l.kind.Schema, Raw: result.Resource.Raw}
	for i, part := range key {
		result.Diagnostics.Append(state.SetAttribute(ctx, path.Root(l.kind.Identity[i].Name), part)...)
	}
	var m M
	result.Diagnostics.Append(state.Get(ctx, &m)...)
	if result.Diagnostics.HasError() {
		return
	}
	result.Diagnostics.Append(P(&m).Flatten(ctx, o)...)
	result.Diagnostics.Append(result.Resource.Set(ctx, &m)...)
}
