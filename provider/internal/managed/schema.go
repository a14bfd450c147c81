package managed

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// What an apply waits for.
const (
	WaitHealthy = "healthy" // it runs, and its health check passes
	WaitPlaced  = "placed"  // a node has it
	WaitNone    = "none"    // nothing
)

// WaitForAttribute is the attribute wait_for. Null means healthy.
func WaitForAttribute() schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true,
		MarkdownDescription: "What an apply waits for: `healthy` (the default: it runs and passes its health check), `placed` " +
			"(a node has been found for it) or `none`.",
		Validators: []validator.String{stringvalidator.OneOf(WaitHealthy, WaitPlaced, WaitNone)},
	}
}

// WaitFor returns the value of wait_for.
func WaitFor(v types.String) string {
	if v.ValueString() == "" {
		return WaitHealthy
	}
	return v.ValueString()
}

// TimeoutsAttribute is the attribute timeouts.
func TimeoutsAttribute() schema.Attribute {
	a := timeouts.Attributes(context.Background(), timeouts.Opts{
		Create: true, Read: true, Update: true, Delete: true,
		CreateDescription: "How long creating it may take, waiting included: such as `30s` or `5m`. Default `10m`.",
		ReadDescription:   "How long reading it may take. Default `2m`.",
		UpdateDescription: "How long changing it may take, waiting included. Default `10m`.",
		DeleteDescription: "How long removing it may take. Default `10m`.",
	})
	if nested, ok := a.(schema.SingleNestedAttribute); ok {
		nested.MarkdownDescription = "How long each operation may take."
		return nested
	}
	return a
}

// NoTimeouts is the value of timeouts that says nothing.
func NoTimeouts() timeouts.Value {
	t, ok := TimeoutsAttribute().GetType().(timeouts.Type)
	if !ok {
		return timeouts.Value{}
	}
	return timeouts.Value{Object: basetypes.NewObjectNull(t.AttrTypes)}
}

// NameAttribute is a required text of which another value means another object.
func NameAttribute(about string) schema.StringAttribute {
	return schema.StringAttribute{
		Required: true, MarkdownDescription: about,
		PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
	}
}

// RefAttribute is the computed name "service:id".
func RefAttribute() schema.StringAttribute {
	return schema.StringAttribute{
		Computed: true, MarkdownDescription: "Its name in the form `service:name`, which `terraform import`, the command line and other resources take.",
		PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
	}
}

// Text returns s; the empty text is null unless it was written as "".
func Text[T ~string](was types.String, s T) types.String {
	if s == "" && (was.IsNull() || was.IsUnknown() || was.ValueString() != "") {
		return types.StringNull()
	}
	return types.StringValue(string(s))
}

// Int returns n; 0 is null unless it was written as 0.
func Int(was types.Int64, n int) types.Int64 {
	if n == 0 && (was.IsNull() || was.IsUnknown() || was.ValueInt64() != 0) {
		return types.Int64Null()
	}
	return types.Int64Value(int64(n))
}

// IntOr returns the value, or otherwise if it is null or unknown.
func IntOr(v types.Int64, otherwise int) int {
	if v.IsNull() || v.IsUnknown() {
		return otherwise
	}
	return int(v.ValueInt64())
}

// TextOr returns the value, or otherwise if it is null or unknown.
func TextOr[T ~string](v types.String, otherwise T) T {
	if v.IsNull() || v.IsUnknown() {
		return otherwise
	}
	return T(v.ValueString())
}

// Texts returns the elements of a list of texts that are known, nil for null.
func Texts(v types.List) []string {
	if v.IsNull() || v.IsUnknown() {
		return nil
	}
	out := make([]string, 0, len(v.Elements()))
	for _, e := range v.Elements() {
		if s, ok := e.(interface{ ValueString() string }); ok {
			out = append(out, s.ValueString())
		}
	}
	return out
}

// TextList returns a list of texts; an empty one is null unless it was written as [].
func TextList[T ~string](was types.List, all []T) types.List {
	if len(all) == 0 && (was.IsNull() || was.IsUnknown() || len(was.Elements()) > 0) {
		return types.ListNull(types.StringType)
	}
	elements := make([]attr.Value, len(all))
	for i, s := range all {
		elements[i] = types.StringValue(string(s))
	}
	return types.ListValueMust(types.StringType, elements)
}

// TextMap returns a map of texts; an empty one is null unless it was written as {}.
func TextMap(was types.Map, all map[string]string) types.Map {
	if len(all) == 0 && (was.IsNull() || was.IsUnknown() || len(was.Elements()) > 0) {
		return types.MapNull(types.StringType)
	}
	elements := make(map[string]attr.Value, len(all))
	for k, s := range all {
		elements[k] = types.StringValue(s)
	}
	return types.MapValueMust(types.StringType, elements)
}

// Map returns what is known of a map of texts, nil for null.
func Map(v types.Map) map[string]string {
	if v.IsNull() || v.IsUnknown() {
		return nil
	}
	out := make(map[string]string, len(v.Elements()))
	for k, e := range v.Elements() {
		if s, ok := e.(types.String); ok {
			out[k] = s.ValueString()
		}
	}
	return out
}
