package transport

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer  prometheus.Registerer
	handshakes  *prometheus.CounterVec
	connections *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: r,
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenement_peer_handshakes_total",
			Help: "Connections to the peer port by what became of their handshake: ok, failed, evicted.",
		}, []string{"result"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tenement_peer_connections",
			Help: "Open connections between this node and others by protocol and direction.",
		}, []string{"protocol", "direction"}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.handshakes), r.Register(m.connections))
}

// connection counts one more until the function it returns is called.
func (m *metrics) connection(protocol, direction string) (release func()) {
	g := m.connections.WithLabelValues(protocol, direction)
	g.Inc()
	return g.Dec
}

func (m *metrics) unregister() {
	if m.registerer != nil {
		m.registerer.Unregister(m.handshakes)
		m.registerer.Unregister(m.connections)
	}
}
