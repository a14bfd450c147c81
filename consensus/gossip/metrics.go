package gossip

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer               prometheus.Registerer
	collectors               []prometheus.Collector
	joins, leaves, conflicts prometheus.Counter
	refusals                 *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tenement_gossip_" + name, Help: help})
	}
	return &metrics{
		registerer: r,
		joins:      counter("joins_total", "Times that a node became a member."),
		leaves:     counter("leaves_total", "Times that a member left or was given up."),
		conflicts:  counter("conflicts_total", "Messages that claim a member's id for another address."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenement_gossip_refused_total", Help: "Packets, streams and members refused.",
		}, []string{"reason"}),
	}
}

func (m *metrics) refuse(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *metrics) register(p *Pool) error {
	if m.registerer == nil {
		return nil
	}
	m.collectors = []prometheus.Collector{
		m.joins, m.leaves, m.conflicts, m.refusals,
		byState{p},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tenement_gossip_slowness", Help: "How much this node mistrusts its own probes; 0 is healthy.",
		}, func() float64 { return float64(p.list.GetHealthScore()) }),
	}
	for i, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
	m.collectors = nil
}

// byState counts the members of each state.
type byState struct{ p *Pool }

var membersDesc = prometheus.NewDesc("tenement_gossip_members", "Nodes known, this one included.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (byState) Describe(ch chan<- *prometheus.Desc) { ch <- membersDesc }

// Collect implements prometheus.Collector.
func (b byState) Collect(ch chan<- prometheus.Metric) {
	n := map[State]int{}
	b.p.mu.Lock()
	for _, r := range b.p.known {
		n[r.state]++
	}
	b.p.mu.Unlock()
	for _, s := range []State{StateAlive, StateSuspect, StateDead, StateLeft} {
		ch <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, float64(n[s]), string(s))
	}
}
