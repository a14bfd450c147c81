//go:build amd64 || arm64

package process

import (
	"context"
	"fmt"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/group"
)

type processDriver struct{ *group.Runner }

// New returns the driver.
func New() (driver.Driver, error) {
	r, err := group.NewRunner(group.Config{Name: api.IsolationProcess})
	if err != nil {
		return nil, fmt.Errorf("open process driver: %w", err)
	}
	return processDriver{r}, nil
}

// Probe implements driver.Driver: every machine can do this.
func (processDriver) Probe(context.Context) error { return nil }
