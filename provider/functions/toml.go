package functions

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/service"
)

// ParseFile reads a tenement.toml: package config's Parse. It comes in from the program,
// since the provider must not import the server, and the format has one reader.
type ParseFile func(data []byte, dir string) ([]*api.Service, []api.Ref, error)

// NewTenementTOML returns the function tenement_toml.
func NewTenementTOML(parse ParseFile) func() function.Function {
	object := types.ObjectType{AttrTypes: service.AttributeTypes()}
	refs := types.ObjectType{AttrTypes: refTypes}
	result := map[string]attr.Type{"services": types.MapType{ElemType: object}, "instances": types.MapType{ElemType: refs}}
	definition := function.Definition{
		Summary: "What a tenement.toml declares",
		MarkdownDescription: "Reads the text of a `tenement.toml` by the server's own rules: an object of `services`, by name, each with the attributes of " +
			"`ten_service`, and `instances`, by `service:id`, each of `service` and `id`. Both are made for `for_each`. What `[settings]` says of services is " +
			"in them; `[routing]` and `[cluster]` are the server's own. " +
			"Of the variables in a service's `secret_env` the names are there, not the values: give those by `env_wo`.\n\n" +
			"A second argument is the directory that the file has on the servers, from which relative paths start; without it they stay as they are.",
		Parameters:        []function.Parameter{function.StringParameter{Name: "text", MarkdownDescription: "The text, usually of `file(\"tenement.toml\")`."}},
		VariadicParameter: function.StringParameter{Name: "dir", MarkdownDescription: "The file's directory on the servers, an absolute path; at most one."},
		Return:            function.ObjectReturn{AttributeTypes: result},
	}
	run := func(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
		var text string
		var dirs []string
		if resp.Error = req.Arguments.Get(ctx, &text, &dirs); resp.Error != nil {
			return
		}
		dir := ""
		switch len(dirs) {
		case 0:
		case 1:
			dir = dirs[0]
		default:
			resp.Error = function.NewArgumentFuncError(2, "there is one directory at most")
			return
		}
		services, instances, err := parse([]byte(text), dir)
		if err != nil {
			resp.Error = function.NewArgumentFuncError(0, err.Error())
			return
		}
		all, byRef := map[string]attr.Value{}, map[string]attr.Value{}
		for _, s := range services {
			o, diags := service.Object(ctx, s)
			if resp.Error = function.FuncErrorFromDiags(ctx, diags); resp.Error != nil {
				return
			}
			all[s.Name] = o
		}
		for _, ref := range instances {
			byRef[ref.String()] = refObject(ref)
		}
		resp.Error = resp.Result.Set(ctx, types.ObjectValueMust(result, map[string]attr.Value{
			"services": types.MapValueMust(object, all), "instances": types.MapValueMust(refs, byRef),
		}))
	}
	return func() function.Function { return simple{name: "tenement_toml", definition: definition, run: run} }
}
