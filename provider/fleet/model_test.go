package fleet

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/modeltest"
	"github.com/tenement-fleet/tenement/provider/internal/placement"
)

func TestRoundTrip(t *testing.T) {
	modeltest.RoundTrip[Model, api.Fleet](t, resourceSchema(),
		func() *Model { return &Model{Placement: placement.Null(), Timeouts: managed.NoTimeouts()} }, modeltest.Filled[api.Fleet],
		"Source", "Revision", "CreatedAt", "UpdatedAt")
}
