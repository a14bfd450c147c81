package route

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/modeltest"
)

func TestRoundTrip(t *testing.T) {
	modeltest.RoundTrip[Model, api.Route](t, resourceSchema(), func() *Model {
		texts := types.ListNull(types.StringType)
		return &Model{Spec: Spec{Hosts: texts, Paths: texts, Backends: types.ListNull(backendType)}, Timeouts: managed.NoTimeouts()}
	}, modeltest.Filled[api.Route], "Source", "Revision", "CreatedAt", "UpdatedAt")
}
