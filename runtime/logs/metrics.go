package logs

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's figures for /metrics. None carries the instance: a label of
// which there may be 100,000.
type metrics struct {
	lines, bytes prometheus.Counter
	queries      prometheus.Histogram
	registerer   prometheus.Registerer
	all          []prometheus.Collector
}

func newMetrics(s *Store) (*metrics, error) {
	const ns, sub = "tenement", "logs"
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, value)
	}
	m := &metrics{
		lines: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "lines_total", Help: "Lines stored.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "bytes_total", Help: "Bytes of the lines stored.",
		}),
		queries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "query_seconds", Help: "Time of a query.",
			Buckets: []float64{.001, .005, .02, .05, .1, .2, .5, 1, 5},
		}),
		registerer: s.cfg.Registerer,
	}
	m.all = []prometheus.Collector{
		m.lines, m.bytes, m.queries,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "throttled_seconds_total",
			Help: "Time for which programs that printed faster than allowed were held back, summed over all.",
		}, func() float64 { return s.pump.Throttled().Seconds() }),
		gauge("spool_bytes", "Captured bytes that are not stored yet.", func() float64 { return float64(s.backlog.Load()) }),
		gauge("index_lag_seconds", "For how long the line has waited that waits longest to be stored.", s.lag),
		gauge("store_bytes", "Size of the store on disk.", func() float64 { return float64(s.parts.size()) }),
		gauge("captured_instances", "Running instances whose output is captured.", s.captured),
	}
	if m.registerer == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := m.registerer.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, fmt.Errorf("register log metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) stored(lines int, bytes int64) {
	m.lines.Add(float64(lines))
	m.bytes.Add(float64(bytes))
}

func (m *metrics) queried(begun time.Time) { m.queries.Observe(time.Since(begun).Seconds()) }

// lag returns how long the first line that is not stored has waited.
func (s *Store) lag() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, oldest := s.cfg.Now(), time.Duration(0)
	for _, st := range s.streams {
		if st.queued {
			oldest = max(oldest, now.Sub(st.since))
		}
	}
	return oldest.Seconds()
}

func (s *Store) captured() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, st := range s.streams {
		if st.active {
			n++
		}
	}
	return float64(n) / 2
}
