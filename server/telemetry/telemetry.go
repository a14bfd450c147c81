// Package telemetry makes the node's metrics registry and its logger. Both are handed
// around; nothing is registered with, or logged to, a global.
package telemetry

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says what program is running.
type Build struct {
	Version string
}

// NewRegistry returns a registry with the collectors that belong to no other package:
// the Go runtime, the process and the build.
func NewRegistry(b Build) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tenement_build_info", Help: "1, with the version and the Go that built it as labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "go": runtime.Version()},
	})
	build.Set(1)
	if err := errors.Join(
		reg.Register(collectors.NewGoCollector()),
		reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		reg.Register(build),
	); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return reg, nil
}
