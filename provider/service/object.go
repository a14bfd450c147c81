package service

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
)

// AttributeTypes returns the attributes of a ten_service that say what the service is.
func AttributeTypes() map[string]attr.Type {
	out := map[string]attr.Type{}
	for name, a := range attributes() {
		switch name {
		case "env_wo", "env_wo_version":
		default:
			out[name] = a.GetType()
		}
	}
	return out
}

// Object returns a service as an object of these attributes.
func Object(ctx context.Context, s *api.Service) (types.Object, diag.Diagnostics) {
	var spec Spec
	diags := spec.Flatten(ctx, s)
	o, more := types.ObjectValueFrom(ctx, AttributeTypes(), &spec)
	diags.Append(more...)
	return o, diags
}
