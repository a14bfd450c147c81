package provider_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

// schemas describes the provider in the form of `terraform providers schema -json`, whose
// 1.14 knows actions, lists and identities: what the documentation is made of needs no
// Terraform at all.
func schemas(t *testing.T) config {
	t.Helper()
	p := acctest.Speak(t)
	ids, err := p.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	actions := map[string]*tfprotov6.Schema{}
	for name, a := range p.Schemas.ActionSchemas {
		actions[name] = a.Schema
	}
	return asJSON(t, config{
		"provider":                   schemaJSON(p.Schemas.Provider),
		"resource_schemas":           eachOf(p.Schemas.ResourceSchemas, schemaJSON),
		"data_source_schemas":        eachOf(p.Schemas.DataSourceSchemas, schemaJSON),
		"ephemeral_resource_schemas": eachOf(p.Schemas.EphemeralResourceSchemas, schemaJSON),
		"list_resource_schemas":      eachOf(p.Schemas.ListResourceSchemas, schemaJSON),
		"action_schemas":             eachOf(actions, schemaJSON),
		"functions":                  eachOf(p.Schemas.Functions, functionJSON),
		"resource_identity_schemas":  eachOf(ids.IdentitySchemas, identityJSON),
	})
}

// asJSON is v as JSON decodes it.
func asJSON(t *testing.T, v any) config {
	t.Helper()
	text, err := json.Marshal(v)
	var out config
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func eachOf[T, V any](all map[string]T, f func(T) V) config {
	out := config{}
	for name, v := range all {
		out[name] = f(v)
	}
	return out
}

func schemaJSON(s *tfprotov6.Schema) config {
	if len(s.Block.BlockTypes) > 0 {
		panic("nested blocks: the provider has attributes only")
	}
	block := config{"attributes": attributesJSON(s.Block.Attributes)}
	describeJSON(block, s.Block.Description, s.Block.DescriptionKind)
	return config{"version": s.Version, "block": block}
}

func attributesJSON(all []*tfprotov6.SchemaAttribute) config {
	out := config{}
	for _, a := range all {
		one := config{}
		describeJSON(one, a.Description, a.DescriptionKind)
		for name, is := range map[string]bool{
			"required": a.Required, "optional": a.Optional, "computed": a.Computed,
			"sensitive": a.Sensitive, "write_only": a.WriteOnly, "deprecated": a.Deprecated,
		} {
			if is {
				one[name] = true
			}
		}
		if n := a.NestedType; n != nil {
			one["nested_type"] = config{"attributes": attributesJSON(n.Attributes), "nesting_mode": strings.ToLower(n.Nesting.String())}
		} else {
			one["type"] = typeJSON(a.Type)
		}
		out[a.Name] = one
	}
	return out
}

func describeJSON(v config, text string, kind tfprotov6.StringKind) {
	if text != "" {
		v["description"] = text
	}
	if v["description_kind"] = "plain"; kind == tfprotov6.StringKindMarkdown {
		v["description_kind"] = "markdown"
	}
}

func functionJSON(f *tfprotov6.Function) config {
	parameter := func(p *tfprotov6.FunctionParameter) config {
		return config{"name": p.Name, "description": p.Description, "type": typeJSON(p.Type)}
	}
	out := config{"description": f.Description, "summary": f.Summary, "return_type": typeJSON(f.Return.Type)}
	var all []config
	for _, p := range f.Parameters {
		all = append(all, parameter(p))
	}
	out["parameters"] = all
	if f.VariadicParameter != nil {
		out["variadic_parameter"] = parameter(f.VariadicParameter)
	}
	return out
}

func identityJSON(s *tfprotov6.ResourceIdentitySchema) config {
	all := config{}
	for _, a := range s.IdentityAttributes {
		all[a.Name] = config{
			"type": typeJSON(a.Type), "description": a.Description,
			"required_for_import": a.RequiredForImport, "optional_for_import": a.OptionalForImport,
		}
	}
	return config{"version": s.Version, "attributes": all}
}

func typeJSON(t tftypes.Type) any {
	switch t := t.(type) {
	case tftypes.List:
		return []any{"list", typeJSON(t.ElementType)}
	case tftypes.Map:
		return []any{"map", typeJSON(t.ElementType)}
	case tftypes.Object:
		return []any{"object", eachOf(t.AttributeTypes, func(t tftypes.Type) any { return typeJSON(t) })}
	}
	for name, is := range map[string]tftypes.Type{"string": tftypes.String, "bool": tftypes.Bool, "number": tftypes.Number} {
		if t.Is(is) {
			return name
		}
	}
	panic("a type that the provider did not have: " + t.String())
}

// What the documentation is made of is what terraform says of the provider, as far as it
// knows: that there are functions, and no actions, tells that it is of 1.8 to 1.13.
func TestSchemasAreTerraforms(t *testing.T) {
	d := acctest.Workspace(t, t.TempDir())
	d.Write("main.tf", exampleNeed)
	out, err := d.Try(t.Context(), "providers", "schema", "-json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var all struct {
		Schemas map[string]config `json:"provider_schemas"`
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &all); err != nil {
		t.Fatal(err)
	}
	theirs, ours := all.Schemas["registry.terraform.io/tenement/ten"], schemas(t)
	if len(theirs["resource_schemas"].(config)) == 0 {
		t.Fatalf("terraform tells of %v", all.Schemas)
	}
	for _, what := range []string{"provider", "resource_schemas", "data_source_schemas", "ephemeral_resource_schemas", "functions"} {
		differ(t, what, ours[what], theirs[what])
	}
}

// differ names the innermost places where a tree is not as wanted.
func differ(t *testing.T, at string, got, want any) {
	t.Helper()
	a, ok := got.(config)
	b, too := want.(config)
	if !ok || !too {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
		return
	}
	for name := range a {
		differ(t, at+"."+name, a[name], b[name])
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			t.Errorf("%s.%s: nothing, want %v", at, name, b[name])
		}
	}
}
