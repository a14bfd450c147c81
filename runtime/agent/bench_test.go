package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// BenchmarkWake is what the agent itself costs: all of a wake and a sleep but the
// program's start and end.
func BenchmarkWake(b *testing.B) {
	n := newNode(b)
	n.bench = true
	n.put(func(*api.Service) {})
	n.open(func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) })
	defer n.stop()
	n.agent.ports.listen = canListen
	n.want(ref1, api.DesiredAsleep)
	var awake time.Duration
	for b.Loop() {
		began := time.Now()
		if err := n.agent.Wake(b.Context(), ref1); err != nil {
			b.Fatal(err)
		}
		awake += time.Since(began)
		if err := n.agent.Sleep(b.Context(), ref1); err != nil {
			b.Fatal(err)
		}
		clear(n.procs)
	}
	b.ReportMetric(float64(awake.Microseconds())/float64(b.N), "µs/wake")
}

// BenchmarkStep is one transition.
func BenchmarkStep(b *testing.B) {
	m := sample(running, toAsleep, true)
	for b.Loop() {
		_, _ = m.step(onHealthOK, "", t0)
	}
}

// BenchmarkChanged is hearing of a sleeper that is as it should be.
func BenchmarkChanged(b *testing.B) {
	n := newNode(b)
	n.put(func(*api.Service) {})
	n.open()
	defer n.stop()
	n.want(ref1, api.DesiredAsleep)
	for b.Loop() {
		n.agent.Changed(ref1)
	}
}
