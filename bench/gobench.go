package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// benchPlan runs the planner's own benchmarks.
func benchPlan(ctx context.Context, b *bench) error {
	const scratch, death = "BenchmarkPlan/scratch/services=", "BenchmarkPlan/death"
	names := []string{scratch + "10", scratch + "1000", scratch + "10000", scratch + "100000", death}
	found, err := b.goBench(ctx, "./consensus/schedule", strings.Join(names, "$|")+"$", b.scaled(10))
	if err != nil {
		return err
	}
	for _, name := range names {
		took := found[name].times()
		if len(took) == 0 {
			return fmt.Errorf("run %s: it said nothing", name)
		}
		bar := 2 * time.Second
		if name == death {
			bar = 100 * time.Millisecond
		}
		fmt.Printf("%-25s  %s, %.0f ms of CPU: bar %s: %s\n", strings.TrimPrefix(name, "BenchmarkPlan/"), took,
			middle(found[name]["cpu-ms/op"]), bar, met(took.median() <= bar))
	}
	return nil
}

// benchState runs the state's own benchmark of a million instances.
func benchState(ctx context.Context, b *bench) error {
	const million = "BenchmarkMillion"
	found, err := b.goBench(ctx, "./consensus/state", million+"$", b.scaled(3))
	if err != nil {
		return err
	}
	m := found[million]
	for _, row := range []struct {
		what, metric, unit string
		bar                float64
	}{
		{"snapshot written", "write-s", "s", 5},
		{"restored at a start", "restore-s", "s", 10},
		{"restored over another state", "replace-s", "s", 10},
		{"RSS of the state", "state-MB", "MB", 1500},
		{"RSS at most, snapshot", "write-peak-MB", "MB", 1500},
		{"RSS at most, start", "restore-peak-MB", "MB", 1500},
	} {
		v := m[row.metric]
		if len(v) == 0 {
			return fmt.Errorf("run %s: it did not say %s", million, row.metric)
		}
		fmt.Printf("%-28s median %.2f %s (n=%d): bar %.0f %s: %s\n", row.what, middle(v), row.unit, len(v), row.bar, row.unit, met(middle(v) <= row.bar))
	}
	return nil
}

// metrics are what a Go benchmark reported, run by run, by unit.
type metrics map[string][]float64

// times returns how long each run took.
func (m metrics) times() (s sample) {
	for _, ns := range m["ns/op"] {
		s = append(s, time.Duration(ns))
	}
	return s
}

// goBench runs benchmarks of a package of this module, each so many times, and returns
// what they reported by their names.
func (b *bench) goBench(ctx context.Context, pkg, pattern string, count int) (map[string]metrics, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "1x", //nolint:gosec // our own packages
		"-count", strconv.Itoa(count), "-timeout", "1h", pkg)
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run benchmarks of %s: %w\n%s", pkg, err, out)
	}
	found := map[string]metrics{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // of the processors' number
			name = name[:i]
		}
		if found[name] == nil {
			found[name] = metrics{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", line, err)
			}
			found[name][f[i+1]] = append(found[name][f[i+1]], v)
		}
	}
	return found, nil
}
