//go:build !linux || (!amd64 && !arm64)

package process

import (
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// New returns a driver that can't do anything here.
func New() (driver.Driver, error) { return driver.Unsupported(api.IsolationProcess), nil }
