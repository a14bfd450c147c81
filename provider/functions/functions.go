// Package functions is the functions of the provider: what can be told without a cluster.
package functions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
)

// simple is a function whose definition and body are values.
type simple struct {
	name       string
	definition function.Definition
	run        func(context.Context, function.RunRequest, *function.RunResponse)
}

// Metadata implements function.Function.
func (f simple) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = f.name
}

// Definition implements function.Function.
func (f simple) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = f.definition
}

// Run implements function.Function.
func (f simple) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	f.run(ctx, req, resp)
}

var refTypes = map[string]attr.Type{"service": types.StringType, "id": types.StringType}

func refObject(r api.Ref) types.Object {
	return types.ObjectValueMust(refTypes, map[string]attr.Value{"service": types.StringValue(r.Service), "id": types.StringValue(r.ID)})
}

// NewParseRef returns the function parse_ref.
func NewParseRef() function.Function {
	return simple{
		name: "parse_ref",
		definition: function.Definition{
			Summary:             "Take apart the name of an instance or fleet",
			MarkdownDescription: "Takes apart `service:id`, the name of an instance (or `service:name`, that of a fleet), into an object of `service` and `id`.",
			Parameters:          []function.Parameter{function.StringParameter{Name: "ref", MarkdownDescription: "`service:id`."}},
			Return:              function.ObjectReturn{AttributeTypes: refTypes},
		},
		run: func(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
			var text string
			if resp.Error = req.Arguments.Get(ctx, &text); resp.Error != nil {
				return
			}
			ref, err := api.ParseRef(text)
			if err != nil {
				resp.Error = wrong(0, err)
				return
			}
			resp.Error = resp.Result.Set(ctx, refObject(ref))
		},
	}
}

// NewInstanceURL returns the function instance_url.
func NewInstanceURL() function.Function {
	return simple{
		name: "instance_url",
		definition: function.Definition{
			Summary: "The address of an instance or a service",
			MarkdownDescription: "The address at which an instance is served, or a whole service: `instance_url(\"web:blue\", \"https://example.com\")` is " +
				"`https://blue.web.example.com`, and `instance_url(\"web\", \"https://example.com\")` is `https://web.example.com`.",
			Parameters: []function.Parameter{
				function.StringParameter{Name: "ref", MarkdownDescription: "`service:id`, or `service` for all of its instances by weight."},
				function.StringParameter{Name: "base", MarkdownDescription: "The address of the cluster's domain, such as `https://example.com` or `http://localhost:8080`."},
			},
			Return: function.StringReturn{},
		},
		run: func(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
			var ref, base string
			if resp.Error = req.Arguments.Get(ctx, &ref, &base); resp.Error != nil {
				return
			}
			host, err := hostOf(ref)
			if err != nil {
				resp.Error = wrong(0, err)
				return
			}
			out, err := below(base, host)
			if err != nil {
				resp.Error = wrong(1, err)
				return
			}
			resp.Error = resp.Result.Set(ctx, out)
		},
	}
}

// hostOf returns what comes before the domain.
func hostOf(ref string) (string, error) {
	if !strings.Contains(ref, ":") {
		if !api.ValidName(ref) {
			return "", &api.FieldError{Field: "ref", Got: ref, Want: "service:id or the name of a service"}
		}
		return ref, nil
	}
	r, err := api.ParseRef(ref)
	return r.ID + "." + r.Service, err
}

// below puts a host in front of that of the base.
func below(base, host string) (string, error) {
	bad := &api.FieldError{Field: "base", Got: base, Want: "the address of a domain, such as https://example.com or http://localhost:8080"}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", bad
	}
	if net.ParseIP(u.Hostname()) != nil {
		bad.Want += ": an IP address has no names below it"
		return "", bad
	}
	u.Host, u.Path = host+"."+u.Host, ""
	return u.String(), nil
}

// wrong is the error of an argument.
func wrong(argument int64, err error) *function.FuncError {
	text := err.Error()
	if fe, ok := errors.AsType[*api.FieldError](err); ok {
		text = fmt.Sprintf("got %q, want %s", fe.Got, fe.Want)
	}
	return function.NewArgumentFuncError(argument, text)
}
