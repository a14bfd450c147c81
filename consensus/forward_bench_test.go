package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
)

// BenchmarkForward writes through a follower of three servers, from one client and from 64.
func BenchmarkForward(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			c := newTestClusterWith(b, 3, func(cfg *Config) {
				cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))
				cfg.tune = nil // the time-outs of real clusters
			})
			f := c.followers()[0]
			var n atomic.Int64
			b.ResetTimer()
			done := make(chan struct{})
			for range clients {
				go func() {
					defer func() { done <- struct{}{} }()
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if _, err := f.PutService(context.Background(), service(fmt.Sprintf("s%d", i)), nil); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			for range clients {
				<-done
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
