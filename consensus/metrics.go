package consensus

import (
	"errors"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the node's own few figures. Raft's library has its own registry with a
// hundred more, which nobody would look at.
type metrics struct {
	registerer   prometheus.Registerer
	collectors   []prometheus.Collector
	fsync, apply prometheus.Histogram
	refused      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16) // 0.1 ms to 3.3 s
	return &metrics{
		registerer: r,
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tenement_raft_store_seconds", Help: "Time to write a batch of log entries to disk.", Buckets: seconds,
		}),
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tenement_raft_apply_seconds", Help: "Time to apply a batch of committed entries.", Buckets: seconds,
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tenement_raft_writes_refused_total", Help: "Writes refused because the disk is nearly full.",
		}),
	}
}

// register shows the figures of n, which must have its Raft.
func (m *metrics) register(n *Node) error {
	if m.registerer == nil {
		return nil
	}
	gauge := func(name, help string, value func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tenement_raft_" + name, Help: help}, value))
	}
	gauge("leader", "1 on the node that leads.", func() float64 {
		if n.raft.State() == raft.Leader {
			return 1
		}
		return 0
	})
	gauge("applied_index", "Last log entry applied.", func() float64 { return float64(n.raft.AppliedIndex()) })
	gauge("last_index", "Last log entry on disk.", func() float64 { return float64(n.raft.LastIndex()) })
	gauge("commit_index", "Last log entry committed.", func() float64 { return float64(n.raft.CommitIndex()) })
	gauge("snapshot_index", "Last log entry in the newest snapshot.", func() float64 {
		index, _ := strconv.ParseFloat(n.raft.Stats()["last_snapshot_index"], 64)
		return index
	})
	gauge("term", "Current term.", func() float64 { return float64(n.raft.CurrentTerm()) })
	gauge("pending_writes", "Writes that have not been answered yet.", func() float64 { return float64(len(n.slots)) })
	m.collectors = append(m.collectors, m.fsync, m.apply, m.refused)
	for i, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return errors.New("register metrics: " + err.Error())
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

func (m *metrics) stored(d time.Duration)  { m.fsync.Observe(d.Seconds()) }
func (m *metrics) applied(d time.Duration) { m.apply.Observe(d.Seconds()) }
