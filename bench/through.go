package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// benchFleetWrites changes weights through a follower, in turns with bare raft.Apply on the
// leader of three servers on the same disk.
func benchFleetWrites(ctx context.Context, b *bench) error {
	r, closeRaft, err := bareRaft(ctx, fleetSize)
	if err != nil {
		return err
	}
	defer closeRaft()
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	_, followers, err := f.leader(ctx)
	if err != nil {
		return err
	}
	for c := range writeClients {
		if err := followers[0].put(ctx, fmt.Sprint("/api/instances/app:w", c), map[string]any{"desired": api.DesiredAsleep}); err != nil {
			return err
		}
	}
	write := func(client int, serial int64, body []byte) (string, []byte) {
		// Never what it was: a put of that costs no write.
		body = strconv.AppendInt(append(body, `{"weight":`...), serial%(api.MaxWeight+1), 10)
		return "/api/instances/app:w" + strconv.Itoa(client) + "/weight", append(body, '}')
	}
	for _, clients := range []int{1, writeClients} {
		bar := map[int]float64{1: 500, writeClients: 4000}[clients]
		bare, through, ratio, err := b.raceWrites(ctx, clients, r.apply, f.nodes, followers[0], write)
		if err != nil {
			return err
		}
		fmt.Printf("%2d clients: bare raft Apply     %s, clients included\n%2d clients: through a follower  %s on all three: %.2f × bare (bar %.0f/s: %s)\n",
			clients, bare, clients, through, ratio, bar, met(middle(through.rates) >= bar))
	}
	return nil
}

// benchHop asks an instance through its own node and through another, in turns.
func benchHop(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, service("app", []string{b.app}, "process")+"idle_timeout = 0\n")
	if err != nil {
		return err
	}
	defer f.stop()
	ref := api.Ref{Service: "app", ID: "x"}
	if err := f.nodes[0].put(ctx, "/api/instances/app:x", map[string]any{"desired": api.DesiredRunning}); err != nil {
		return err
	}
	if err := f.nodes[0].waitState(ctx, ref.String(), api.StateRunning); err != nil {
		return err
	}
	owner, others, err := f.owner(ctx, ref)
	if err != nil {
		return err
	}
	var pids []int
	for _, n := range f.nodes {
		pids = append(pids, n.cmd.Process.Pid)
	}
	rivals := []*rival{
		{name: "one hop", addr: owner.addr(), host: hostOf(ref), pids: pids},
		{name: "two hops", addr: others[0].addr(), host: hostOf(ref), pids: pids},
	}
	medians, err := b.race(ctx, rivals)
	if err != nil {
		return err
	}
	extra := (medians["two hops"] - medians["one hop"]) / medians["one hop"]
	fmt.Printf("the second hop costs %.2f × the first (bar 1.5 ×: %s)\n", extra, met(extra <= 1.5))
	return nil
}

// owner returns the server that an instance is placed on and the others.
func (f *fleet) owner(ctx context.Context, ref api.Ref) (owner *node, others []*node, err error) {
	for _, n := range f.nodes {
		c, err := n.cluster(ctx)
		if err != nil {
			return nil, nil, err
		}
		var i api.Instance
		if _, err := n.call(ctx, "GET", "/api/instances/"+ref.String(), nil, &i); err != nil {
			return nil, nil, err
		}
		if i.Node == c.Node {
			owner = n
		} else {
			others = append(others, n)
		}
	}
	if owner == nil {
		return nil, nil, fmt.Errorf("find %s: it is on no node", ref)
	}
	return owner, others, nil
}

// benchIdle looks at three servers that have nothing to do.
func benchIdle(ctx context.Context, b *bench) error {
	f, err := b.startFleet(ctx, b.helloTable())
	if err != nil {
		return err
	}
	defer f.stop()
	leader, _, err := f.leader(ctx)
	if err != nil {
		return err
	}
	idle := time.Duration(float64(time.Minute) * b.scale)
	time.Sleep(idle / 2) // let the start's garbage go
	before := map[*node]time.Duration{}
	for _, n := range f.nodes {
		before[n] = cpuTime(n.processes())
	}
	time.Sleep(idle)
	var memory []int64
	for _, n := range f.nodes {
		pids := n.processes()
		var resident int64
		for _, pid := range pids {
			resident += rss(pid)
		}
		memory = append(memory, resident)
		role := "follower"
		if n == leader {
			role = "leader"
		}
		fmt.Printf("%-8s  RSS %d MB, idle CPU %.2f %% of a core\n", role, resident>>20, 100*(cpuTime(pids)-before[n]).Seconds()/idle.Seconds())
	}
	fmt.Printf("most: RSS %d MB (bar 60 MB: %s)\n", slices.Max(memory)>>20, met(slices.Max(memory) <= 60<<20))
	return nil
}
