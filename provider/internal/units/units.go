// Package units has the attribute types whose text has several spellings: "5m" and "300s"
// are one duration, "1GiB" and "1024MiB" one size. A plan shows no change, and the state
// keeps the spelling of the configuration, for as long as the meaning is the same.
package units

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/tenement-fleet/tenement/api"
)

// Kind is a notation: what it is called, and its canonical form.
type Kind struct {
	name      string
	canonical func(string) (string, error)
}

// The notations. They are never changed.
var (
	DurationKind = &Kind{"duration", func(s string) (string, error) {
		d, err := api.ParseDuration(s)
		return d.String(), err
	}}
	SizeKind = &Kind{"size", func(s string) (string, error) {
		n, err := api.ParseSize(s)
		return n.String(), err
	}}
	ConstraintKind = &Kind{"constraint", func(s string) (string, error) {
		k, err := api.ParseConstraint(s)
		return string(k), err
	}}
	TimeKind = &Kind{"time", func(s string) (string, error) {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return "", &api.FieldError{Field: "time", Got: s, Want: "a time such as 2030-01-31T12:00:00Z"}
		}
		return at.UTC().Format(time.RFC3339Nano), nil
	}}
)

// Same reports whether two texts mean the same.
func (k *Kind) Same(a, b string) bool {
	if a == b {
		return true
	}
	ca, errA := k.canonical(a)
	cb, errB := k.canonical(b)
	return errA == nil && errB == nil && ca == cb
}

// Type is the attribute type of a notation.
type Type struct {
	basetypes.StringType
	Kind *Kind
}

// The attribute types.
var (
	DurationType   = Type{Kind: DurationKind}
	SizeType       = Type{Kind: SizeKind}
	ConstraintType = Type{Kind: ConstraintKind}
	TimeType       = Type{Kind: TimeKind}
)

var (
	_ basetypes.StringTypable                    = Type{}
	_ basetypes.StringValuableWithSemanticEquals = Value{}
	_ xattr.ValidateableAttribute                = Value{}
)

// Equal implements attr.Type.
func (t Type) Equal(o attr.Type) bool {
	other, ok := o.(Type)
	return ok && t.Kind == other.Kind
}

// String implements attr.Type.
func (t Type) String() string { return "units.Type(" + t.Kind.name + ")" }

// ValueType implements attr.Type.
func (t Type) ValueType(context.Context) attr.Value { return Value{Kind: t.Kind} }

// ValueFromString implements basetypes.StringTypable.
func (t Type) ValueFromString(_ context.Context, in basetypes.StringValue) (basetypes.StringValuable, diag.Diagnostics) {
	return Value{StringValue: in, Kind: t.Kind}, nil
}

// ValueFromTerraform implements attr.Type.
func (t Type) ValueFromTerraform(ctx context.Context, in tftypes.Value) (attr.Value, error) {
	v, err := t.StringType.ValueFromTerraform(ctx, in)
	if err != nil {
		return nil, err
	}
	s, ok := v.(basetypes.StringValue)
	if !ok {
		return nil, fmt.Errorf("read %s: got %T", t.Kind.name, v)
	}
	return Value{StringValue: s, Kind: t.Kind}, nil
}

// Value is a text in some notation.
type Value struct {
	basetypes.StringValue
	Kind *Kind
}

// Equal implements attr.Value: the same text. See StringSemanticEquals.
func (v Value) Equal(o attr.Value) bool {
	other, ok := o.(Value)
	return ok && v.StringValue.Equal(other.StringValue)
}

// Type implements attr.Value.
func (v Value) Type(context.Context) attr.Type { return Type{Kind: v.Kind} }

// StringSemanticEquals implements basetypes.StringValuableWithSemanticEquals.
func (v Value) StringSemanticEquals(_ context.Context, o basetypes.StringValuable) (bool, diag.Diagnostics) {
	other, ok := o.(Value)
	return ok && v.Kind.Same(v.ValueString(), other.ValueString()), nil
}

// ValidateAttribute implements xattr.ValidateableAttribute.
func (v Value) ValidateAttribute(_ context.Context, req xattr.ValidateAttributeRequest, resp *xattr.ValidateAttributeResponse) {
	if v.IsNull() || v.IsUnknown() {
		return
	}
	if _, err := v.Kind.canonical(v.ValueString()); err != nil {
		detail := err.Error()
		if fe, ok := errors.AsType[*api.FieldError](err); ok {
			detail = fmt.Sprintf("Got %q, want %s.", fe.Got, fe.Want)
		}
		resp.Diagnostics.AddAttributeError(req.Path, "Not a "+v.Kind.name, detail)
	}
}

// text returns a value of a kind; "" is null.
func text(k *Kind, s string) Value {
	if s == "" {
		return Value{StringValue: basetypes.NewStringNull(), Kind: k}
	}
	return Value{StringValue: basetypes.NewStringValue(s), Kind: k}
}

// Null returns a null value.
func Null(k *Kind) Value { return text(k, "") }

// Duration returns the value; one that is null, unknown or no duration is otherwise.
func (v Value) Duration(otherwise api.Duration) api.Duration {
	if d, err := api.ParseDuration(v.ValueString()); err == nil {
		return d
	}
	return otherwise
}

// Size returns the value; one that is null, unknown or no size is 0.
func (v Value) Size() api.Size {
	n, _ := api.ParseSize(v.ValueString())
	return n
}

// Time returns the value; one that is null, unknown or no time is zero.
func (v Value) Time() time.Time {
	at, _ := time.Parse(time.RFC3339, v.ValueString())
	return at.UTC()
}

// FromTime returns a time, spelled as in was if that means the same. Zero is null.
func FromTime(was Value, at time.Time) Value {
	if at.IsZero() {
		return Null(TimeKind)
	}
	return keep(was, text(TimeKind, at.UTC().Format(time.RFC3339Nano)))
}

// FromDuration returns d, spelled as in was if that means the same.
func FromDuration(was Value, d api.Duration) Value { return keep(was, text(DurationKind, d.String())) }

// FromSize returns n, spelled as in was if that means the same. 0 is null unless was says
// it otherwise.
func FromSize(was Value, n api.Size) Value {
	if n == 0 && (was.IsNull() || was.IsUnknown()) {
		return Null(SizeKind)
	}
	return keep(was, text(SizeKind, n.String()))
}

// FromConstraint returns c, spelled as in was if that means the same.
func FromConstraint(was Value, c api.Constraint) Value {
	return keep(was, text(ConstraintKind, string(c)))
}

func keep(was, is Value) Value {
	if !was.IsNull() && !was.IsUnknown() && is.Kind.Same(was.ValueString(), is.ValueString()) {
		was.Kind = is.Kind
		return was
	}
	return is
}

// Attribute is a string attribute of a notation that keeps the spelling of the state while
// that means the same. Without a default it is optional only.
func Attribute(t Type, about, byDefault string) schema.StringAttribute {
	a := schema.StringAttribute{
		MarkdownDescription: about, Optional: true, CustomType: t,
		PlanModifiers: []planmodifier.String{sameMeaning{t.Kind}},
	}
	if byDefault != "" {
		a.Computed, a.Default = true, stringdefault.StaticString(byDefault)
		a.MarkdownDescription += " Default `" + byDefault + "`."
	}
	return a
}

// sameMeaning plans the value of the state when that of the configuration means the same.
type sameMeaning struct{ kind *Kind }

func (sameMeaning) Description(context.Context) string { return "another spelling is no change" }

func (m sameMeaning) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

func (m sameMeaning) PlanModifyString(_ context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	if req.StateValue.IsNull() || req.PlanValue.IsNull() || req.PlanValue.IsUnknown() {
		return
	}
	if m.kind.Same(req.StateValue.ValueString(), req.PlanValue.ValueString()) {
		resp.PlanValue = req.StateValue
	}
}
