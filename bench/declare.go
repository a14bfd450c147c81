package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// benchJoin joins two servers to one, one after the other.
func benchJoin(ctx context.Context, b *bench) error {
	var member, ready, vote sample
	for range b.scaled(b.counts.joins) {
		f, err := b.newFleet("")
		if err != nil {
			return err
		}
		err = f.join(ctx, &member, &ready, &vote)
		f.stop()
		if err != nil {
			return err
		}
	}
	fmt.Printf("to member         %s\nto voter-ready    %s: bar 3 s: %s\nto voter (third)  %s, which includes 10 s of proving itself\n",
		member, ready, met(ready.quantile(0.99) <= 3*time.Second), vote)
	return nil
}

// join adds to the times from a server's start until the first one knows it as a member,
// until it answers and has all that was written, and until it votes.
func (f *fleet) join(ctx context.Context, member, ready, vote *sample) error {
	one := f.nodes[0]
	if err := one.start(ctx); err != nil {
		return err
	}
	var start time.Time
	for i, n := range f.nodes[1:] {
		start = time.Now()
		known := make(chan error, 1)
		go func() {
			err := poll(ctx, patience, func() error {
				return one.sees(ctx, i+2, func(m api.Member) bool { return m.Role != api.MemberNone })
			})
			*member = append(*member, time.Since(start))
			known <- err
		}()
		err := n.start(ctx)
		if failed := <-known; failed != nil {
			return failed
		}
		if err != nil {
			return err
		}
		if err := poll(ctx, patience, func() error { return n.caughtUp(ctx, one) }); err != nil {
			return err
		}
		*ready = append(*ready, time.Since(start))
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	*vote = append(*vote, time.Since(start))
	return nil
}

// caughtUp returns nil if the server has applied all that the other has.
func (n *node) caughtUp(ctx context.Context, other *node) error {
	want, err := other.cluster(ctx)
	if err != nil {
		return err
	}
	got, err := n.cluster(ctx)
	if err != nil {
		return err
	}
	if got.Leader == "" || got.Index < want.Index || len(got.Members) != len(want.Members) {
		return fmt.Errorf("%s is at index %d of %d with %d members of %d", n.name, got.Index, want.Index, len(got.Members), len(want.Members))
	}
	return nil
}

// benchDeclare declares one instance after the other through a follower, in turns with bare
// starts of the same program.
func benchDeclare(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	_, followers, err := f.leader(ctx)
	if err != nil {
		return err
	}
	var floor, running, served sample
	for i := range b.scaled(b.counts.declares) + 2 {
		ref := api.Ref{Service: "app", ID: fmt.Sprint("d", i)}
		bp, bare, err := startBare("/", []string{b.hello}, f.nodes[0].dir)
		if err != nil {
			return err
		}
		bp.stop()
		r, s, err := followers[i%2].declareOne(ctx, ref)
		if err != nil {
			return err
		}
		if i >= 2 { // the first two warm the caches
			floor, running, served = append(floor, bare), append(running, r), append(served, s)
		}
	}
	extra := running.median() - floor.median()
	fmt.Printf("bare     %s\nrunning  %s: bare %+.2f ms (bar + 100 ms: %s)\nserving  %s: bare %+.2f ms\n",
		floor, running, float64(extra)/1e6, met(extra <= 100*time.Millisecond), served, float64(served.median()-floor.median())/1e6)
	return nil
}

// declareOne returns how long it takes until the server knows that a new instance runs, and
// until it has answered through it. It removes the instance again.
func (n *node) declareOne(ctx context.Context, ref api.Ref) (running, served time.Duration, err error) {
	path := "/api/instances/" + ref.String()
	start := time.Now()
	if err := n.put(ctx, path, map[string]any{"desired": api.DesiredRunning}); err != nil {
		return 0, 0, err
	}
	if err := n.waitState(ctx, ref.String(), api.StateRunning); err != nil {
		return 0, 0, err
	}
	running = time.Since(start)
	if err := n.serves(ctx, ref); err != nil {
		return 0, 0, err
	}
	served = time.Since(start)
	return running, served, n.remove(ctx, path+"?purge=true")
}

// benchDeclareFleet declares many instances at once, in turns with as many bare starts.
func benchDeclareFleet(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	count := b.scaled(b.counts.replicas)
	var floor, took sample
	for round := range 3 {
		bare, err := bareStorm([]string{b.hello}, dir, count, 4)
		if err != nil {
			return err
		}
		served, err := f.declareMany(ctx, fmt.Sprint("r", round), count)
		if err != nil {
			return err
		}
		floor, took = append(floor, bare), append(took, served)
	}
	fmt.Printf("%d bare, 4 at a time   %s\n%d declared at once    %s: %.2f × bare (bar 5 s: %s)\n",
		count, floor, count, took, float64(took.median())/float64(floor.median()), met(took.median() <= 5*time.Second))
	return nil
}

// declareMany returns how long it takes until each of so many instances, declared as a
// fleet through a follower, has answered through one node or another.
func (f *fleet) declareMany(ctx context.Context, name string, count int) (time.Duration, error) {
	_, followers, err := f.leader(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	refs, err := followers[0].replicas(ctx, name, count)
	if err != nil {
		return 0, err
	}
	if err := f.serveAll(ctx, refs); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, f.drop(ctx, followers[0], name)
}

// serveAll waits until each instance has answered through one of the nodes. It asks for few
// at a time: the processors are for those who start.
func (f *fleet) serveAll(ctx context.Context, refs []api.Ref) error {
	errs := make([]error, len(f.nodes))
	var wg sync.WaitGroup
	for w, n := range f.nodes {
		wg.Go(func() {
			for i := w; i < len(refs) && errs[w] == nil; i += len(f.nodes) {
				errs[w] = n.serves(ctx, refs[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
