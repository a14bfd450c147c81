package server

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/namespace"
	"github.com/tenement-fleet/tenement/runtime/process"
)

// newDrivers returns every driver of this build, by the level it provides.
func newDrivers() (map[api.Isolation]driver.Driver, error) {
	bare, err := process.New()
	if err != nil {
		return nil, err
	}
	ns, err := namespace.New()
	if err != nil {
		return nil, err
	}
	return map[api.Isolation]driver.Driver{bare.Name(): bare, ns.Name(): ns}, nil
}

// working returns the levels whose drivers work on this machine, weakest first.
func working(ctx context.Context, drivers map[api.Isolation]driver.Driver) []api.Isolation {
	var levels []api.Isolation
	for _, level := range api.Isolations() {
		if d, ok := drivers[level]; ok && d.Probe(ctx) == nil {
			levels = append(levels, level)
		}
	}
	return levels
}

// Capabilities tells which isolation levels this build and machine provide, and what
// the others would need.
func Capabilities(ctx context.Context) []api.Capability {
	drivers, err := newDrivers()
	if err != nil {
		return []api.Capability{{Name: "isolation", Required: true, Detail: err.Error()}}
	}
	var list []api.Capability
	for _, level := range api.Isolations() {
		c := api.Capability{Name: "isolation " + string(level)}
		d, built := drivers[level]
		switch {
		case !built:
			c.Detail, c.Fix = "this build has no driver for it", "it comes with a later version; use one that is ok"
		default:
			if err := d.Probe(ctx); err != nil {
				c.Detail, c.Fix = err.Error(), `isolation = "process" works everywhere and is for trusted code`
			} else {
				c.OK, c.Detail = true, "works"
			}
		}
		list = append(list, c)
	}
	return list
}
