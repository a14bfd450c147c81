package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// benchFailover kills the leader again and again, and each time writes to the others until
// one of them accepts.
func benchFailover(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	w := &writer{ref: "app:w"}
	if err := f.nodes[0].put(ctx, "/api/instances/"+w.ref, map[string]any{"desired": api.DesiredAsleep}); err != nil {
		return err
	}
	var took sample
	for range b.scaled(b.counts.failovers) {
		d, err := f.failover(ctx, w)
		if err != nil {
			fmt.Printf("so far %s\n", took)
			return err
		}
		took = append(took, d)
	}
	fmt.Printf("%s: %s\n", took, took.bars(2500*time.Millisecond, 5*time.Second))
	return nil
}

// writer writes another value each time: a write of what is there already proves nothing.
type writer struct {
	ref    string
	serial atomic.Int64
}

func (w *writer) write(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	weight := map[string]any{"weight": w.serial.Add(1) % (api.MaxWeight + 1)}
	_, err := n.call(ctx, "PUT", "/api/instances/"+w.ref+"/weight", weight, nil)
	return err
}

// failover returns the time from the leader's death to the next accepted write anywhere,
// and has everything as it was before it returns.
func (f *fleet) failover(ctx context.Context, w *writer) (time.Duration, error) {
	leader, rest, err := f.leader(ctx)
	if err != nil {
		return 0, err
	}
	if err := poll(ctx, patience, func() error { return w.write(ctx, leader) }); err != nil {
		return 0, fmt.Errorf("write before the leader dies: %w", err)
	}
	ctx2, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	leader.halt(syscall.SIGKILL)
	accepted := make(chan time.Duration, len(rest))
	err = f.each(rest, func(n *node) error {
		err := poll(ctx2, patience, func() error { return w.write(ctx2, n) })
		if err == nil {
			accepted <- time.Since(start)
			cancel()
		}
		return err
	})
	if len(accepted) == 0 {
		return 0, err
	}
	took := <-accepted
	if err := leader.start(ctx); err != nil {
		return 0, err
	}
	return took, f.settle(ctx)
}

// benchNodeDeath kills a node with all that it runs, again and again: followers first, then
// leaders.
func benchNodeDeath(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	round := 0
	for _, leads := range []bool{false, true} {
		var first, all sample
		for range b.scaled(b.counts.deaths) {
			took, err := f.loseNode(ctx, leads, fmt.Sprint("r", round))
			if err != nil {
				fmt.Printf("so far %s\n", all)
				return err
			}
			round++
			first, all = append(first, slices.Min(took)), append(all, slices.Max(took))
		}
		who := "a follower"
		if leads {
			who = "the leader"
		}
		fmt.Printf("%s: first instance served  %s\n%s: all instances served   %s: %s\n",
			who, first, who, all, all.bars(5*time.Second, 10*time.Second))
	}
	return nil
}

// loseNode spreads new instances over the nodes, kills one node, and returns for each
// instance that it had how long it was until another answered for it. Then the node comes
// back, so that everything is as it was.
func (f *fleet) loseNode(ctx context.Context, leads bool, name string) (sample, error) {
	victim, rest, err := f.leader(ctx)
	if err != nil {
		return nil, err
	}
	if !leads {
		victim, rest = rest[0], []*node{victim, rest[1]}
	}
	refs, err := rest[0].replicas(ctx, name, 2*fleetSize)
	if err != nil {
		return nil, err
	}
	if err := f.serveAll(ctx, refs); err != nil {
		return nil, err
	}
	lost, err := victim.holds(ctx, name)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	victim.die()
	took, errs := make(sample, len(lost)), make([]error, len(lost))
	var wg sync.WaitGroup
	for i, ref := range lost {
		wg.Go(func() {
			errs[i] = rest[i%len(rest)].serves(ctx, ref)
			took[i] = time.Since(start)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := victim.start(ctx); err != nil {
		return nil, err
	}
	if err := f.settle(ctx); err != nil {
		return nil, err
	}
	return took, f.drop(ctx, rest[0], name)
}

// holds returns the members of a fleet that are placed on the server; there must be some.
func (n *node) holds(ctx context.Context, fleet string) (refs []api.Ref, err error) {
	c, err := n.cluster(ctx)
	if err != nil {
		return nil, err
	}
	var all []*api.Instance
	if _, err := n.call(ctx, "GET", "/api/instances?service=app", nil, &all); err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.Fleet == fleet && i.Node == c.Node {
			refs = append(refs, i.Ref())
		}
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("kill %s: it has none of the %d instances", n.name, len(all))
	}
	return refs, nil
}
