package managed

import (
	"reflect"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type toy struct {
	Name  types.String `tfsdk:"name"`
	Count types.Int64  `tfsdk:"count_of"`
	Env   types.Map    `tfsdk:"env"`
	List  types.List   `tfsdk:"list"`
}

var toySchema = schema.Schema{Attributes: map[string]schema.Attribute{
	"name":     schema.StringAttribute{Required: true},
	"count_of": schema.Int64Attribute{Optional: true},
	"env":      schema.MapAttribute{Optional: true, ElementType: types.StringType},
	"list":     schema.ListAttribute{Optional: true, ElementType: types.StringType},
}}

// TestGetAsTheFramework: what is read by way of the layout is what the framework reads.
func TestGetAsTheFramework(t *testing.T) {
	ctx := t.Context()
	object := toySchema.Type().TerraformType(ctx)
	texts := func(of tftypes.Type, in any) tftypes.Value { return tftypes.NewValue(of, in) }
	list, env := tftypes.List{ElementType: tftypes.String}, tftypes.Map{ElementType: tftypes.String}
	one := tftypes.NewValue(tftypes.String, "one")
	unknown := tftypes.NewValue(tftypes.String, tftypes.UnknownValue)
	for name, in := range map[string]map[string]tftypes.Value{
		"all": {
			"name": one, "count_of": tftypes.NewValue(tftypes.Number, 3),
			"env": texts(env, map[string]tftypes.Value{"A": one}), "list": texts(list, []tftypes.Value{one, unknown}),
		},
		"null":    {"name": one, "count_of": tftypes.NewValue(tftypes.Number, nil), "env": texts(env, nil), "list": texts(list, nil)},
		"unknown": {"name": unknown, "count_of": tftypes.NewValue(tftypes.Number, tftypes.UnknownValue), "env": texts(env, tftypes.UnknownValue), "list": texts(list, tftypes.UnknownValue)},
	} {
		raw := tftypes.NewValue(object, in)
		var got, want toy
		if diags := (tfsdk.Plan{Schema: toySchema, Raw: raw}).Get(ctx, &want); diags.HasError() {
			t.Fatal(name, diags)
		}
		fields := layoutOf(reflect.TypeFor[toy](), toySchema)
		if !fill(ctx, fields, raw, reflect.ValueOf(&got).Elem()) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, the framework %+v", name, got, want)
		}
		if fill(ctx, nil, raw, reflect.ValueOf(&got).Elem()) {
			t.Errorf("%s: filled without a layout", name)
		}
	}
	if fill(ctx, layoutOf(reflect.TypeFor[toy](), toySchema), tftypes.NewValue(object, nil), reflect.ValueOf(&toy{}).Elem()) {
		t.Error("filled from nothing")
	}
}

// TestLayoutOf: a model that is not the schema's is the framework's to complain about.
func TestLayoutOf(t *testing.T) {
	type short struct {
		Name types.String `tfsdk:"name"`
	}
	type plain struct {
		Name  string      `tfsdk:"name"`
		Count types.Int64 `tfsdk:"count_of"`
		Env   types.Map   `tfsdk:"env"`
		List  types.List  `tfsdk:"list"`
	}
	type other struct {
		Name  types.String `tfsdk:"another"`
		Count types.Int64  `tfsdk:"count_of"`
		Env   types.Map    `tfsdk:"env"`
		List  types.List   `tfsdk:"list"`
	}
	for _, model := range []reflect.Type{reflect.TypeFor[short](), reflect.TypeFor[plain](), reflect.TypeFor[other]()} {
		if got := layoutOf(model, toySchema); got != nil {
			t.Errorf("%s has a layout: %+v", model, got)
		}
	}
	wrong := struct {
		Name  types.Int64 `tfsdk:"name"`
		Count types.Int64 `tfsdk:"count_of"`
		Env   types.Map   `tfsdk:"env"`
		List  types.List  `tfsdk:"list"`
	}{}
	ctx := t.Context()
	raw := tftypes.NewValue(toySchema.Type().TerraformType(ctx), map[string]tftypes.Value{
		"name": tftypes.NewValue(tftypes.String, "one"), "count_of": tftypes.NewValue(tftypes.Number, nil),
		"env": tftypes.NewValue(tftypes.Map{ElementType: tftypes.String}, nil), "list": tftypes.NewValue(tftypes.List{ElementType: tftypes.String}, nil),
	})
	if fill(ctx, layoutOf(reflect.TypeOf(wrong), toySchema), raw, reflect.ValueOf(&wrong).Elem()) {
		t.Error("a text went into a number")
	}
}
