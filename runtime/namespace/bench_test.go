//go:build linux

package namespace_test

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/process"
)

// BenchmarkStart measures what it takes from the decision to start a program to its
// execution, and to its end being known, with a small and with a large heap in the
// starting process. Runs of the three ways alternate, so that load hits all alike; the
// medians and their ratios to os/exec are printed.
func BenchmarkStart(b *testing.B) {
	path, err := exec.LookPath("true")
	if err != nil {
		b.Skip(err)
	}
	for _, heap := range []int{0, 250 << 20} {
		b.Run(fmt.Sprintf("heap=%dMiB", heap>>20), func(b *testing.B) { benchmarkStart(b, path, heap) })
	}
}

func benchmarkStart(b *testing.B, path string, heap int) {
	ballast := make([]byte, heap)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1 // so that it has page tables
	}
	p, err := process.New()
	if err != nil {
		b.Fatal(err)
	}
	bare := func() (started, ended time.Duration) {
		began := time.Now()
		cmd := exec.Command(path)
		cmd.Dir, cmd.Env = "/", []string{"A=1"}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		started = time.Since(began)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		return started, time.Since(began)
	}
	with := func(d driver.Driver) func() (started, ended time.Duration) {
		return func() (started, ended time.Duration) {
			began := time.Now()
			p, err := d.Start(b.Context(), driver.Spec{
				Ref: api.Ref{Service: "bench", ID: "b"}, Path: path, Dir: "/", Env: []string{"A=1"}, Start: "bench",
			})
			if err != nil {
				b.Fatal(err)
			}
			started = time.Since(began)
			<-p.Done()
			return started, time.Since(began)
		}
	}
	names := []string{"os/exec", "process", "namespace"}
	ways := []func() (started, ended time.Duration){bare, with(p), with(open(b))}
	var started, ended [3][]time.Duration
	for b.Loop() {
		for i, way := range ways {
			s, e := way()
			started[i], ended[i] = append(started[i], s), append(ended[i], e)
		}
	}
	runtime.KeepAlive(ballast)
	b.ReportMetric(0, "ns/op") // the sum of the three says nothing
	for i, name := range names {
		s, e, s0, e0 := median(started[i]), median(ended[i]), median(started[0]), median(ended[0])
		b.ReportMetric(float64(s.Microseconds()), name+"-µs")
		b.Logf("%-9s executed after %8v = %.2f × os/exec (%+v), end known after %8v = %.2f × (%+v)",
			name, s, float64(s)/float64(s0), s-s0, e, float64(e)/float64(e0), e-e0)
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2].Round(time.Microsecond)
}
