package agent

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
)

// metrics are the agent's, and the collector of the ones that are counted when asked for.
type metrics struct {
	agent    *Agent
	restarts prometheus.Counter
	wakes    prometheus.Counter
	phases   *prometheus.HistogramVec

	instances, starts, ports *prometheus.Desc
}

// The phases of a start, as labels of the histogram.
const (
	waitQueued   = "queued"   // for a start slot
	waitStarting = "starting" // until the program is executed
	waitReady    = "ready"    // until it accepts connections
)

func newMetrics(a *Agent) (*metrics, error) {
	m := &metrics{
		agent: a,
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenement_restarts_total", Help: "Starts of instances that were neither their first nor a wake.",
		}),
		wakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenement_wakes_total", Help: "Starts of instances that a request waited for.",
		}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tenement_start_phase_seconds", Help: "How long each phase of a start took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"phase"}),
		instances: prometheus.NewDesc("tenement_instances", "Instances on this node by state.", []string{"state"}, nil),
		starts:    prometheus.NewDesc("tenement_starts_in_flight", "Instances that are being started.", nil, nil),
		ports:     prometheus.NewDesc("tenement_ports_in_use", "Ports given to instances.", nil, nil),
	}
	for _, c := range m.all() {
		if err := a.cfg.Registerer.Register(c); err != nil {
			m.unregister(a.cfg.Registerer)
			return nil, errors.Join(errors.New("register metrics"), err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.restarts, m.wakes, m.phases, m}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}

func (m *metrics) phase(name string, d time.Duration) {
	m.phases.WithLabelValues(name).Observe(d.Seconds())
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.instances
	ch <- m.starts
	ch <- m.ports
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	live := m.agent.live()
	count := make(map[api.State]int)
	starts := 0
	for _, o := range live {
		if o.State == api.StateStarting {
			starts++
		}
	}
	for asg := range m.agent.cfg.Specs.Assigned {
		if o := live[asg.Instance.Ref()]; o != nil {
			count[o.State]++
		} else {
			count[asg.Instance.State()]++
		}
	}
	for _, s := range api.States() {
		ch <- prometheus.MustNewConstMetric(m.instances, prometheus.GaugeValue, float64(count[s]), string(s))
	}
	ch <- prometheus.MustNewConstMetric(m.starts, prometheus.GaugeValue, float64(starts))
	ch <- prometheus.MustNewConstMetric(m.ports, prometheus.GaugeValue, float64(m.agent.ports.inUse()))
}

// live returns what the supervisors observe.
func (a *Agent) live() map[api.Ref]*api.Observed {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[api.Ref]*api.Observed, len(a.supervisors))
	for ref, s := range a.supervisors {
		if o := s.observed.Load(); o != nil {
			out[ref] = o
		}
	}
	return out
}
