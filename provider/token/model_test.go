package token

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/modeltest"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

func TestRoundTrip(t *testing.T) {
	modeltest.RoundTrip[Model, api.Token](t, resourceSchema(),
		func() *Model { return &Model{ExpiresAt: units.Null(units.TimeKind), Timeouts: managed.NoTimeouts()} },
		func(seed int) *api.Token {
			o := modeltest.Filled[api.Token](seed)
			o.ExpiresAt = o.ExpiresAt.UTC()
			return o
		},
		"SHA256", "CreatedAt", "Revision", "LastUsedAt")
}
