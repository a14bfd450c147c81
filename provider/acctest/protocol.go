package acctest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// Protocol speaks to a provider as Terraform does, without Terraform: for what the command
// can't do yet, and for tables of inputs that would take it long.
type Protocol struct {
	tfprotov6.ProviderServer
	Schemas *tfprotov6.GetProviderSchemaResponse
	t       testing.TB
}

// Speak returns the provider, not configured. Schemas that the framework finds at fault
// fail the test.
func Speak(t testing.TB) *Protocol {
	t.Helper()
	server, err := Factories()["ten"]()
	if err != nil {
		t.Fatal(err)
	}
	p := &Protocol{ProviderServer: server, t: t}
	p.Schemas, err = server.GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	p.Must(err, p.Schemas.Diagnostics)
	return p
}

// Configure gives the provider its configuration.
func (p *Protocol) Configure(config map[string]any) []*tfprotov6.Diagnostic {
	p.t.Helper()
	resp, err := p.ConfigureProvider(context.Background(), &tfprotov6.ConfigureProviderRequest{
		TerraformVersion: MinTerraform, Config: p.Value(p.Schemas.Provider, config),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.Diagnostics
}

// Must fails the test if there is an error.
func (p *Protocol) Must(err error, diags []*tfprotov6.Diagnostic) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range diags {
		if d.Severity == tfprotov6.DiagnosticSeverityError {
			p.t.Fatal(Text(d))
		}
	}
}

// Text is a diagnostic on one line, the attribute first: `weight: Invalid weight: Got "…`.
func Text(d *tfprotov6.Diagnostic) string {
	text := d.Summary + ": " + d.Detail
	if d.Attribute != nil {
		text = d.Attribute.String() + ": " + text
	}
	return text
}

// Unknown stands for a value that is known only after apply.
const Unknown = "\x00unknown"

// Value is a value of a schema; what the map does not have is null. Numbers are ints.
func (p *Protocol) Value(s *tfprotov6.Schema, v map[string]any) *tfprotov6.DynamicValue {
	p.t.Helper()
	typ := s.ValueType()
	out, err := tfprotov6.NewDynamicValue(typ, Tree(typ, v))
	if err != nil {
		p.t.Fatal(err)
	}
	return &out
}

// Null is the value of what is not there.
func (p *Protocol) Null(s *tfprotov6.Schema) *tfprotov6.DynamicValue {
	typ := s.ValueType()
	out, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, nil))
	if err != nil {
		p.t.Fatal(err)
	}
	return &out
}

// Map turns a value of a schema back into what Value takes, as JSON decodes it.
func (p *Protocol) Map(s *tfprotov6.Schema, v *tfprotov6.DynamicValue) map[string]any {
	p.t.Helper()
	tree, err := v.Unmarshal(s.ValueType())
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := json.Marshal(plain(tree))
	if err != nil {
		p.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// Tree makes a value of a type out of maps, slices, strings, bools and ints.
func Tree(typ tftypes.Type, v any) tftypes.Value {
	if v == nil {
		return tftypes.NewValue(typ, nil)
	}
	if v == Unknown {
		return tftypes.NewValue(typ, tftypes.UnknownValue)
	}
	switch t := typ.(type) {
	case tftypes.Object:
		m, _ := v.(map[string]any)
		all := map[string]tftypes.Value{}
		for name, of := range t.AttributeTypes {
			all[name] = Tree(of, m[name])
		}
		for name := range m {
			if _, ok := t.AttributeTypes[name]; !ok {
				panic("no attribute " + name)
			}
		}
		return tftypes.NewValue(typ, all)
	case tftypes.Map:
		all := map[string]tftypes.Value{}
		for name, e := range v.(map[string]any) {
			all[name] = Tree(t.ElementType, e)
		}
		return tftypes.NewValue(typ, all)
	case tftypes.List:
		var all []tftypes.Value
		for _, e := range v.([]any) {
			all = append(all, Tree(t.ElementType, e))
		}
		return tftypes.NewValue(typ, all)
	}
	if n, ok := v.(int); ok {
		v = int64(n)
	}
	return tftypes.NewValue(typ, v)
}

func plain(v tftypes.Value) any {
	if v.IsNull() {
		return nil
	}
	if !v.IsKnown() {
		return Unknown
	}
	switch t := v.Type(); {
	case t.Is(tftypes.String):
		var s string
		_ = v.As(&s)
		return s
	case t.Is(tftypes.Bool):
		var b bool
		_ = v.As(&b)
		return b
	case t.Is(tftypes.Number):
		var f *big.Float
		_ = v.As(&f)
		n, _ := f.Float64()
		return n
	}
	var list []tftypes.Value
	if v.As(&list) == nil {
		out := []any{}
		for _, e := range list {
			out = append(out, plain(e))
		}
		return out
	}
	var m map[string]tftypes.Value
	if err := v.As(&m); err != nil {
		panic(fmt.Sprint("unexpected value: ", err))
	}
	out := map[string]any{}
	for k, e := range m {
		out[k] = plain(e)
	}
	return out
}
