// Package telemetry makes the node's metrics registry and its logger. Both are handed
// around; nothing is registered with, or logged to, a global.
package telemetry

import (
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tenement-fleet/tenement/api"
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

// Instances returns a collector of tenement_instances, the instances by service and
// state, which asks for the list at each scrape.
func Instances(list func() iter.Seq[*api.Instance]) prometheus.Collector {
	return instances{list: list, desc: prometheus.NewDesc(
		"tenement_instances", "Instances by service and state.", []string{"service", "state"}, nil)}
}

// instances counts the instances at each scrape, so that nothing has to be kept in step.
type instances struct {
	list func() iter.Seq[*api.Instance]
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c instances) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c instances) Collect(ch chan<- prometheus.Metric) {
	type key struct {
		service string
		state   api.State
	}
	counts := map[key]int{}
	for i := range c.list() {
		counts[key{i.Service, i.State()}]++
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), k.service, string(k.state))
	}
}
