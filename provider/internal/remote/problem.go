package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// Schema is what errors are located in; every schema of the framework is one.
type Schema interface {
	TypeAtPath(ctx context.Context, p path.Path) (attr.Type, diag.Diagnostics)
}

// Report adds an error to the diagnostics: one for each field that is at fault, on its
// attribute, or one for the whole, with what to do about it. Summary reads like
// "Cannot create service web". The schema may be nil.
func Report(ctx context.Context, diags *diag.Diagnostics, in Schema, summary string, err error) {
	if err == nil {
		return
	}
	fields := Fields(err)
	for _, f := range fields {
		detail := fmt.Sprintf("Got %q, want %s.", f.Got, f.Want)
		if p, ok := Locate(ctx, in, f.Field); ok {
			diags.AddAttributeError(p, summary, detail)
		} else {
			diags.AddError(summary, f.Field+": "+detail)
		}
	}
	if len(fields) == 0 {
		diags.AddError(summary, Sentence(err.Error())+advice(err))
	}
}

// Fields returns the fields that an error is about; none for most errors.
func Fields(err error) []api.FieldError {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Fields
	}
	if e, ok := errors.AsType[api.FieldErrors](err); ok {
		return e
	}
	if e, ok := errors.AsType[*api.FieldError](err); ok {
		return []api.FieldError{*e}
	}
	return nil
}

// Locate turns the name of a field of the API, such as placement.constraints or env.PORT,
// into the path of the attribute, or of the innermost one above it that the schema has.
func Locate(ctx context.Context, in Schema, field string) (path.Path, bool) {
	if in == nil || field == "" {
		return path.Empty(), false
	}
	first, rest, nested := strings.Cut(field, ".")
	at := path.Root(first)
	if _, diags := in.TypeAtPath(ctx, at); diags.HasError() {
		return path.Empty(), false
	}
	for nested {
		if key := at.AtMapKey(rest); resolves(ctx, in, key) && !resolves(ctx, in, at.AtName(rest)) {
			return key, true // the rest is a key, dots and all
		}
		first, rest, nested = strings.Cut(rest, ".")
		if !resolves(ctx, in, at.AtName(first)) {
			break
		}
		at = at.AtName(first)
	}
	return at, true
}

func resolves(ctx context.Context, in Schema, p path.Path) bool {
	_, diags := in.TypeAtPath(ctx, p)
	return !diags.HasError()
}

// advice says what to do about an error that isn't one of the input.
func advice(err error) string {
	if un, ok := errors.AsType[*client.UnreachableError](err); ok {
		return "\n\nNo server answered, " + un.Endpoint + " was the last one tried. Check that ten serves there, and the provider's " +
			"endpoints (or TEN_ENDPOINTS): several can be listed, and any node of the cluster will do."
	}
	switch api.CodeOf(err) {
	case api.CodeUnauthenticated:
		return "\n\nThe cluster does not accept the token. Give a valid one as the provider's token or in TEN_TOKEN; on a server, ten's " +
			"own is in {data_dir}/api_token, and `ten token-gen` makes others."
	case api.CodeForbidden:
		return "\n\nThe token may not do this: Terraform needs one of role admin."
	case api.CodeTooManyRequests:
		return "\n\nThe server limits how often it is asked, and the time-out ended before it let us through."
	case api.CodeUnavailable:
		return "\n\nThe cluster could not do it before the time-out: it may have no leader. `ten cluster` tells. Apply again once it has one."
	case api.CodeDiskFull:
		return "\n\nFree space on the server's data directory, then apply again."
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "\n\nThe time-out ended first. It is set in timeouts."
	}
	return ""
}

// Sentence makes a sentence of an error's text. A name that it begins with keeps its
// spelling.
func Sentence(s string) string {
	if s == "" {
		return s
	}
	if first, _, _ := strings.Cut(s, " "); !strings.Contains(strings.TrimSuffix(first, ":"), ":") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
