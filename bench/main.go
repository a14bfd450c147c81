// Command bench measures what docs/benchmarks.md claims. Each section compares ten with
// a rival or a floor in interleaved runs on the same machine and prints medians and
// their ratio; absolute times depend on the machine and mean little by themselves.
//
//	go run ./bench              all sections
//	go run ./bench wake cpu     these
//	go run ./bench fleet        those of three servers; "server": those of one;
//	                            "terraform": those of the provider
//
// It needs bin/ten (make build); python3, node, nginx, caddy and terraform are used where they
// are installed, and a line says so where they are not. Three servers are three processes on
// 127.0.0.1, .2 and .3, each with a data directory of its own on the same disk.
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
	"syscall"
	"time"
)

// section is one comparison.
type section struct {
	group string
	name  string
	what  string
	run   func(ctx context.Context, b *bench) error
}

func sections() []section {
	const server, fleet, terraform = "server", "fleet", "terraform"
	return []section{
		{server, "wake", "first byte of a sleeping program, against the same program started bare", benchWake},
		{server, "herd", "1,000 concurrent requests to one sleeper", benchHerd},
		{server, "storm", "500 different sleepers at once, against as many bare starts", benchStorm},
		{server, "sleepers", "100,000 declared sleeping instances", benchSleepers},
		{server, "cpu", "CPU per proxied request, against nginx and Caddy", benchCPU},
		{server, "writes", "API writes at 64 clients, against bare raft Apply", benchWrites},
		{server, "start", "ten serve on an empty directory to the first /health 200", benchStart},
		{server, "cycles", "sleep/wake cycles: what is left behind", benchCycles},
		{fleet, "join", "ten serve --join to member, to ready for a vote, and to having it", benchJoin},
		{fleet, "declare", "an instance declared through a follower to running, against a bare start", benchDeclare},
		{fleet, "fleet150", "150 instances declared at once to all serving, against as many bare starts", benchDeclareFleet},
		{fleet, "fleetwrites", "API writes through a follower, against bare raft Apply on three servers", benchFleetWrites},
		{fleet, "failover", "the leader killed to the next accepted write", benchFailover},
		{fleet, "nodedeath", "a node killed to its instances serving elsewhere", benchNodeDeath},
		{fleet, "hop", "CPU per request through a second node, against one", benchHop},
		{fleet, "idle", "an idle node among three", benchIdle},
		{fleet, "plan", "placing 100,000 instances on 1,000 nodes", benchPlan},
		{fleet, "state", "1,000,000 instances: snapshot, restore, memory", benchState},
		{terraform, "apply", "1,000 instances applied, planned again, destroyed, against terraform_data", benchApply},
		{terraform, "weight", "one weight among 1,000 changed to traffic moved", benchWeight},
		{terraform, "provider", "the provider's start to its being configured", benchStartProvider},
		{terraform, "init", "terraform init from a server", benchInit},
	}
}

// bench is what the sections share.
type bench struct {
	ten, app, hello string // binaries
	root            string // the repository
	scale           float64
	counts          counts
}

// counts are the sizes that have a flag of their own; -scale multiplies them too.
type counts struct {
	joins, declares, replicas, failovers, deaths int
	rounds, starts, inits                        int
}

// scaled returns n times the -scale flag, at least 1.
func (b *bench) scaled(n int) int { return max(1, int(float64(n)*b.scale)) }

func main() {
	if code, is := pretend(os.Args[1:]); is {
		os.Exit(code)
	}
	scale := flag.Float64("scale", 1, "multiply sizes and counts, for a quick look")
	ten := flag.String("ten", "bin/ten", "the ten binary")
	var c counts
	flag.IntVar(&c.joins, "joins", 5, "how often two servers join one (join)")
	flag.IntVar(&c.declares, "declares", 100, "instances declared one after the other (declare)")
	flag.IntVar(&c.replicas, "replicas", 150, "instances declared at once (fleet150)")
	flag.IntVar(&c.failovers, "failovers", 20, "how often the leader is killed (failover)")
	flag.IntVar(&c.deaths, "deaths", 10, "how often a follower's node is killed, and how often the leader's (nodedeath)")
	flag.IntVar(&c.rounds, "rounds", 3, "how often terraform applies (apply, weight)")
	flag.IntVar(&c.starts, "starts", 30, "how often the provider is started (provider)")
	flag.IntVar(&c.inits, "inits", 10, "how often terraform init is run (init)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *ten, *scale, c, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ten string, scale float64, c counts, names []string) error {
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "ten-bench-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	b := &bench{root: root, scale: scale, counts: c, app: filepath.Join(dir, "app"), hello: filepath.Join(dir, "hello")}
	if b.ten, err = filepath.Abs(ten); err != nil {
		return fmt.Errorf("find ten: %w", err)
	}
	if _, err := os.Stat(b.ten); err != nil {
		return fmt.Errorf("find ten: %w (make build makes it)", err)
	}
	for target, pkg := range map[string]string{b.app: "./e2e/app", b.hello: "./examples/hello"} {
		if err := build(ctx, target, pkg); err != nil {
			return err
		}
	}
	chosen, err := choose(sections(), names)
	if err != nil {
		return err
	}

	fmt.Printf("# %s, %s/%s, %d CPUs\n", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	var failed error
	for _, s := range chosen {
		fmt.Printf("\n## %s: %s\n", s.name, s.what)
		if err := s.run(ctx, b); err != nil {
			fmt.Printf("failed: %v\n", err)
			failed = errors.Join(failed, fmt.Errorf("measure %s: %w", s.name, err))
		}
	}
	return failed
}

// choose returns the sections that are named, themselves or by their group; all if none is.
func choose(all []section, names []string) (chosen []section, err error) {
	var known []string
	for _, s := range all {
		known = append(known, s.name)
		if len(names) == 0 || slices.Contains(names, s.name) || slices.Contains(names, s.group) {
			chosen = append(chosen, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s section) bool { return s.name == name || s.group == name }) {
			return nil, fmt.Errorf("find section %q: known are server, fleet, terraform, %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
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
	return fmt.Sprintf("median %s (min %s, p90 %s, p99 %s, n=%d)",
		ms(s.median()), ms(s.quantile(0)), ms(s.quantile(0.9)), ms(s.quantile(0.99)), len(s))
}

// bars says whether the median and the 99th percentile are within their bars.
func (s sample) bars(p50, p99 time.Duration) string {
	return fmt.Sprintf("bar p50 %s: %s, p99 %s: %s", p50, met(s.median() <= p50), p99, met(s.quantile(0.99) <= p99))
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
