// Command bench measures what docs/benchmarks.md claims. Each section compares ten with
// a rival or a floor in interleaved runs on the same machine and prints medians and
// their ratio; absolute times depend on the machine and mean little by themselves.
//
//	go run ./bench              all sections
//	go run ./bench wake cpu     these
//
// It needs bin/ten (make build); python3, node, nginx and caddy are used where they are
// installed, and a line says so where they are not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// section is one comparison.
type section struct {
	name string
	what string
	run  func(ctx context.Context, b *bench) error
}

func sections() []section {
	return []section{
		{"wake", "first byte of a sleeping program, against the same program started bare", benchWake},
		{"herd", "1,000 concurrent requests to one sleeper", benchHerd},
		{"storm", "500 different sleepers at once, against as many bare starts", benchStorm},
		{"sleepers", "100,000 declared sleeping instances", benchSleepers},
		{"cpu", "CPU per proxied request, against nginx and Caddy", benchCPU},
		{"writes", "API writes at 64 clients, against bare raft Apply", benchWrites},
		{"start", "ten serve on an empty directory to the first /health 200", benchStart},
		{"cycles", "sleep/wake cycles: what is left behind", benchCycles},
	}
}

// bench is what the sections share.
type bench struct {
	ten, app string // binaries
	root     string // the repository
	scale    float64
}

// scaled returns n times the -scale flag, at least 1.
func (b *bench) scaled(n int) int { return max(1, int(float64(n)*b.scale)) }

func main() {
	scale := flag.Float64("scale", 1, "multiply sizes and counts, for a quick look")
	ten := flag.String("ten", "bin/ten", "the ten binary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *ten, *scale, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ten string, scale float64, names []string) error {
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "ten-bench-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	b := &bench{ten: filepath.Join(root, ten), root: root, scale: scale, app: filepath.Join(dir, "app")}
	if _, err := os.Stat(b.ten); err != nil {
		return fmt.Errorf("find ten: %w (make build makes it)", err)
	}
	if err := buildApp(ctx, b.app); err != nil {
		return err
	}

	fmt.Printf("# %s, %s/%s, %d CPUs\n", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	all := sections()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s section) bool { return s.name == name }) {
			var known []string
			for _, s := range all {
				known = append(known, s.name)
			}
			return fmt.Errorf("find section %q: known are %s", name, strings.Join(known, ", "))
		}
	}
	var failed error
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		fmt.Printf("\n## %s: %s\n", s.name, s.what)
		if err := s.run(ctx, b); err != nil {
			fmt.Printf("failed: %v\n", err)
			failed = errors.Join(failed, fmt.Errorf("measure %s: %w", s.name, err))
		}
	}
	return failed
}

// sample collects durations of one contender.
type sample []time.Duration

func (s sample) median() time.Duration { return s.quantile(0.5) }

func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s sample) String() string {
	return fmt.Sprintf("median %s (min %s, p90 %s, n=%d)",
		ms(s.median()), ms(s.quantile(0)), ms(s.quantile(0.9)), len(s))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
