package managed

import (
	"context"
	"reflect"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// layout is which field of a model has which attribute. The framework looks for that anew
// at each of some four looks at a resource in a plan, with a regular expression for every
// field: a tenth of the CPU of a plan.
type layout struct {
	once   sync.Once
	fields []field // none if the framework has to do it
}

type field struct {
	name  string
	typ   attr.Type
	index int
	goes  reflect.Type // into the model
}

func layoutOf(model reflect.Type, s schema.Schema) []field {
	value, out := reflect.TypeFor[attr.Value](), []field(nil)
	for n := range model.NumField() {
		f := model.Field(n)
		a, ok := s.Attributes[f.Tag.Get("tfsdk")]
		if !ok || !f.Type.Implements(value) {
			return nil
		}
		out = append(out, field{name: f.Tag.Get("tfsdk"), typ: a.GetType(), index: n, goes: f.Type})
	}
	if len(out) != len(s.Attributes) {
		return nil
	}
	return out
}

// get fills a model. What is not as it should be is left to the framework to tell.
func (k *Kind[M, O, P]) get(ctx context.Context, raw tftypes.Value, m *M, otherwise func(context.Context, any) diag.Diagnostics) diag.Diagnostics {
	k.layout.once.Do(func() { k.layout.fields = layoutOf(reflect.TypeFor[M](), k.Schema) })
	if fill(ctx, k.layout.fields, raw, reflect.ValueOf(m).Elem()) {
		return nil
	}
	return otherwise(ctx, m)
}

func fill(ctx context.Context, fields []field, raw tftypes.Value, model reflect.Value) bool {
	var values map[string]tftypes.Value
	if len(fields) == 0 || raw.IsNull() || !raw.IsKnown() || raw.As(&values) != nil {
		return false
	}
	for _, f := range fields {
		v, err := f.typ.ValueFromTerraform(ctx, values[f.name])
		if err != nil || reflect.TypeOf(v) != f.goes {
			return false
		}
		if checked, ok := v.(xattr.ValidateableAttribute); ok {
			var resp xattr.ValidateAttributeResponse
			checked.ValidateAttribute(ctx, xattr.ValidateAttributeRequest{Path: path.Root(f.name)}, &resp)
			if len(resp.Diagnostics) > 0 {
				return false
			}
		}
		model.Field(f.index).Set(reflect.ValueOf(v))
	}
	return true
}
