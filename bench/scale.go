package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// benchSleepers declares many instances that sleep, restarts the server and looks at
// what they cost.
func benchSleepers(ctx context.Context, b *bench) error {
	count := b.scaled(100_000)
	toml := service("app", []string{b.app}, "process")
	toml = strings.Replace(toml, "startup_timeout = 60\n", fmt.Sprintf("startup_timeout = 60\nmax_instances = %d\n", count+10), 1)
	n, err := b.startNode(ctx, toml)
	if err != nil {
		return err
	}
	defer n.stop()
	few, err := n.wakeTimes(ctx, "app", 9)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := n.declare(ctx, count); err != nil {
		return err
	}
	fmt.Printf("declared %d sleeping instances through the API in %.1f s\n", count, time.Since(start).Seconds())

	n.halt(syscall.SIGTERM)
	start = time.Now()
	if err := n.start(ctx); err != nil {
		return err
	}
	fmt.Printf("restart to /health 200: %.2f s (bar 5 s)\n", time.Since(start).Seconds())
	if _, err := n.wakeTime(ctx, "app"); err != nil {
		return err
	}
	pid := n.cmd.Process.Pid
	idle := 20 * time.Second
	time.Sleep(5 * time.Second) // let the start's garbage go
	before := cpuTime([]int{pid})
	time.Sleep(idle)
	used := cpuTime([]int{pid}) - before
	fmt.Printf("RSS %d MB (bar 250 MB); idle CPU %.2f %% of a core (bar 1 %%)\n", rss(pid)>>20, 100*used.Seconds()/idle.Seconds())
	many, err := n.wakeTimes(ctx, "app", 9)
	if err != nil {
		return err
	}
	fmt.Printf("a wake among few   %s\na wake among many  %s: %.2f ×\n", few, many, float64(many.median())/float64(few.median()))
	return nil
}

func (n *node) wakeTimes(ctx context.Context, svc string, rounds int) (sample, error) {
	var s sample
	for range rounds {
		took, err := n.wakeTime(ctx, svc)
		if err != nil {
			return nil, err
		}
		s = append(s, took)
	}
	return s, nil
}

// declare puts count sleeping instances of service app, 64 at a time.
func (n *node) declare(ctx context.Context, count int) error {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	const clients = 64
	for c := range clients {
		wg.Go(func() {
			for i := c; i < count; i += clients {
				id := fmt.Sprintf("i%06d", i)
				in := map[string]any{"service": "app", "id": id, "desired": "asleep"}
				if _, err := n.call(ctx, "PUT", "/api/instances/app:"+id, in, nil); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// benchStart measures the first start on an empty directory.
func benchStart(ctx context.Context, b *bench) error {
	var s sample
	for range b.scaled(15) {
		start := time.Now()
		n, err := b.startNode(ctx, service("app", []string{b.app}, "process"))
		if err != nil {
			return err
		}
		s = append(s, time.Since(start))
		n.stop()
	}
	fmt.Printf("%s (bar 300 ms)\n", s)
	return nil
}

// benchCycles wakes and sleeps one real program many times and counts what is left.
func benchCycles(ctx context.Context, b *bench) error {
	n, err := b.startNode(ctx, service("app", []string{b.app}, "namespace"))
	if err != nil {
		return err
	}
	defer n.stop()
	if _, err := n.wakeTimes(ctx, "app", 20); err != nil {
		return err
	}
	if err := n.sleep(ctx, "app:x"); err != nil {
		return err
	}
	before := n.leftovers()
	cycles := b.scaled(2000)
	start := time.Now()
	if _, err := n.wakeTimes(ctx, "app", cycles); err != nil {
		return err
	}
	if err := n.sleep(ctx, "app:x"); err != nil {
		return err
	}
	took := time.Since(start)
	after := n.leftovers()
	fmt.Printf("%d cycles in %.0f s\nbefore %s\nafter  %s\n", cycles, took.Seconds(), before, after)
	return nil
}

// leftovers says how many descriptors, threads, child processes and files there are.
func (n *node) leftovers() string {
	pid := n.cmd.Process.Pid
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	children := 0
	for _, t := range threads {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		children += len(strings.Fields(string(b)))
	}
	files := 0
	_ = filepath.WalkDir(n.dataDir, func(string, os.DirEntry, error) error { files++; return nil })
	return fmt.Sprintf("fds %d, threads %d, children %d, files %d, goroutines %s, RSS %d MB",
		len(fds), len(threads), children, files, n.goroutines(), rss(pid)>>20)
}

func (n *node) goroutines() string {
	body, err := n.text("/metrics")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
