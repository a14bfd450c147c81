package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// settleWithin is how long after the last fault everything must be in order again: an
// election, a node's silence noticed, leases that end, restarts.
const settleWithin = 90 * time.Second

// run is the life of a world: it is founded, and then there are rounds of faults until
// its time is over, or something is wrong.
func (w *world) run() {
	w.found()
	if w.far {
		delayed(w)
	}
	w.startClients()
	w.wg.Go(w.watchSingles)
	for time.Since(w.began) < w.lasts && !w.violated() {
		w.round()
	}
	w.quiet.Store(true)
	w.checkLedger()
	w.checkRate()
	w.shutDown()
}

func (w *world) found() {
	for i, h := range w.hosts {
		h.ill.begin()
		h.control(h.boot)
		if i == 0 {
			w.await("the first node", 30*time.Second, func() string {
				if w.leader() == nil {
					return "there is no leader"
				}
				return ""
			})
		}
	}
	w.await("the cluster", settleWithin, w.disorder)
	w.await("the voters", settleWithin, func() string {
		if w.leader() == nil || !w.elect(w.hosts[1:]) {
			return "the others can't elect a leader without the first"
		}
		return ""
	})
	for _, h := range w.hosts {
		h.ill.end()
	}
	w.declare()
}

// instancesEach is how many instances each of the services has.
const instancesEach = 4

func (w *world) declare() {
	for _, d := range api.OnDisconnects() {
		persist := d == api.DisconnectStop
		s := &api.Service{Name: string(d), Command: "serve", OnDisconnect: d, StoragePersist: &persist}
		w.insist(func(ctx context.Context) error {
			_, n := w.leader().running()
			_, err := n.PutService(ctx, s, nil)
			return err
		})
		for i := range instancesEach {
			w.insist(func(ctx context.Context) error {
				_, n := w.leader().running()
				_, err := n.PutInstance(ctx, &api.Instance{Service: s.Name, ID: fmt.Sprintf("i%d", i)}, nil)
				return err
			})
		}
	}
	w.await("the instances", settleWithin, w.disorder)
}

// insist does something that must work, in the beginning.
func (w *world) insist(f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	if w.leader() == nil {
		w.violate("there is no leader although everything works")
		return
	}
	if err := f(ctx); err != nil {
		w.violate("declare: %v", err)
	}
}

// round lets some things go wrong, mends them, and looks whether all is well again.
func (w *world) round() {
	all := w.faultsOf()
	var ends []func()
	for range 1 + w.rng.IntN(3) {
		f := all[w.rng.IntN(len(all))]
		w.logf("fault: %s", f.name)
		w.count("fault: "+f.name, 1)
		ends = append(ends, f.begin(w))
		w.net.sleep(w.between(100*time.Millisecond, 15*time.Second))
	}
	w.net.sleep(w.between(0, 15*time.Second))
	for _, end := range ends {
		end()
		w.net.sleep(w.between(0, 2*time.Second))
	}
	w.logf("everything is mended")
	w.net.sleep(w.between(0, 5*time.Second))
	w.quiet.Store(true)
	w.await("order", settleWithin, w.disorder)
	w.checkLedger()
	w.quiet.Store(false)
	w.calm.Store(int64(w.counted("rounds")) + 1)
	w.net.sleep(w.between(2*time.Second, 15*time.Second))
	w.calm.Store(0)
	w.count("rounds", 1)
}

// await waits until wrong returns "".
func (w *world) await(what string, within time.Duration, wrong func() string) {
	began := time.Now()
	for {
		reason := wrong()
		if reason == "" {
			w.logf("%s after %s", what, time.Since(began))
			return
		}
		if time.Since(began) > within {
			w.violate("no %s within %s: %s", what, within, reason)
			w.describe()
			return
		}
		if w.violated() || !w.net.sleep(250*time.Millisecond) {
			return
		}
	}
}

// describe logs where every node stands.
func (w *world) describe() {
	for _, h := range w.hosts {
		_, n := h.running()
		if n == nil {
			w.logf("host %d does not run", h.index)
			continue
		}
		leader, _, _ := n.Leader()
		w.logf("host %d: %s, term %d, index %d, leads: %t, leader %s, last contact %s ago", h.index, n.ID(), n.Term(), n.Index(),
			n.IsLeader(), leader, h.clock.now().Sub(n.LastContact()))
		for _, m := range n.Members() {
			w.logf("    %+v", m)
		}
	}
}

// disorder returns what is not as it should be when nothing is wrong with the machines.
func (w *world) disorder() string {
	leader := w.leader()
	if leader == nil {
		return "there is no leader"
	}
	_, n := leader.running()
	if n == nil {
		return "the leader has just died"
	}
	v := n.View()
	nodes := 0
	for node := range v.Nodes() {
		nodes++
		if !node.Reachable() {
			return fmt.Sprintf("node %s is %s: %s", node.Name, node.Status, node.StatusReason)
		}
		if node.Eligibility != api.EligibilityEligible {
			return fmt.Sprintf("node %s is %s", node.Name, node.Eligibility)
		}
	}
	if nodes != len(w.hosts) {
		return fmt.Sprintf("there are %d nodes, want %d", nodes, len(w.hosts))
	}
	for _, h := range w.hosts {
		_, o := h.running()
		if o == nil {
			return fmt.Sprintf("host %d does not run", h.index)
		}
		if ov := o.View(); ov.Index() != v.Index() {
			return fmt.Sprintf("host %d is at index %d, the leader at %d", h.index, ov.Index(), v.Index())
		} else if ov.Hash() != v.Hash() {
			w.violate("states differ at index %d: host %d and the leader on host %d", v.Index(), h.index, leader.index)
		}
	}
	for i := range v.Instances("") {
		if wrong := w.misplaced(i); wrong != "" {
			return wrong
		}
	}
	return ""
}

// watchSingles looks all the time whether a single-writer runs twice.
func (w *world) watchSingles() {
	for w.net.sleep(500 * time.Millisecond) {
		on := map[api.Ref]*host{}
		for _, h := range w.hosts {
			h.mu.Lock()
			for ref, p := range h.programs {
				if !p.single || !h.runs(p) {
					continue
				}
				if o := on[ref]; o != nil {
					w.violate("single-writer %s runs on host %d and on host %d", ref, o.index, h.index)
				}
				on[ref] = h
			}
			h.mu.Unlock()
		}
	}
}

// misplaced returns what is wrong with an instance.
func (w *world) misplaced(i *api.Instance) string {
	if i.State() != api.StateRunning || i.Observed.Generation != i.Generation {
		return fmt.Sprintf("instance %s on node %q is %s in generation %d", i.Ref(), i.Node, i.State(), i.Generation)
	}
	for _, h := range w.hosts {
		h.mu.Lock()
		p := h.programs[i.Ref()]
		runs, here := p != nil && p.stopping.IsZero(), h.id == i.Node
		h.mu.Unlock()
		if runs != here {
			return fmt.Sprintf("instance %s: runs on host %d: %t, placed there: %t", i.Ref(), h.index, runs, here)
		}
	}
	return ""
}

// checkLedger looks for everything that was acknowledged, on all nodes.
func (w *world) checkLedger() {
	p := w.ledger.promised(nil, true)
	for _, h := range w.hosts {
		_, n := h.running()
		if n == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		v, err := n.ConsistentView(ctx)
		cancel()
		if err != nil {
			w.logf("host %d: consistent view: %v", h.index, err)
			continue
		}
		if err := p.kept(v, &w.ledger); err != nil {
			w.violate("host %d: %v", h.index, err)
		}
	}
}

// minRate is how many writes a second must be acknowledged on average, however much goes
// wrong: a cluster that is dead has no faults either.
const minRate = 1.0

func (w *world) checkRate() {
	lasted := time.Since(w.began)
	if rate := float64(w.counted("acknowledged writes")) / lasted.Seconds(); rate < minRate && !w.violated() {
		w.violate("only %.2f writes a second were acknowledged, want %.1f or more", rate, minRate)
	}
}

// shutDown ends everything.
func (w *world) shutDown() {
	for _, h := range w.hosts {
		h.freeze(false)
		h.control(func() { h.crash(true) })
	}
	w.end()
	w.wg.Wait()
}
