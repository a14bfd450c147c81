//go:build !linux || (!amd64 && !arm64)

package namespace

import (
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// Driver implements driver.Driver.
type Driver struct{ driver.Driver }

// New returns a driver that can't do anything here.
func New() (*Driver, error) { return &Driver{driver.Unsupported(api.IsolationNamespace)}, nil }

// Close does nothing.
func (*Driver) Close() error { return nil }
