package instance

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/modeltest"
)

func TestRoundTrip(t *testing.T) {
	modeltest.RoundTrip[Model, api.Instance](t, resourceSchema(),
		func() *Model { return &Model{Timeouts: managed.NoTimeouts()} }, modeltest.Filled[api.Instance],
		"Source", "SourceNode", "Fleet", "Revision", "CreatedAt", "Node", "Generation", "Previous", "DataNode", "Observed")
}
