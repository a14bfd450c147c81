package sim

import (
	"context"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fault is something that goes wrong for a while.
type fault struct {
	name  string
	begin func(w *world) (end func())
}

var faults = []fault{
	{"partition", partition},
	{"partition", partition},
	{"the leader cut off", cutLeader},
	{"one-way cut", oneWay},
	{"bridge", bridge},
	{"flapping link", flapping},
	{"machine stopped", freeze},
	{"machine stopped", freeze},
	{"process killed", kill},
	{"process killed", kill},
	{"power cut", powerCut},
	{"power cut", powerCut},
	{"power cut of all", powerCutAll},
	{"restart", restart},
	{"30 % loss", lossy},
	{"200±100 ms delay", delayed},
	{"slow disk", slowDisk},
	{"disk full", fullDisk},
	{"fsync error", syncError},
	{"clock jump", clockJump},
	{"drain", drain},
}

// faultsOf is what a simulation draws from.
func (w *world) faultsOf() []fault {
	if w.focus != nil {
		return w.focus
	}
	return faults
}

// between returns a random time.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)))
}

// some returns a machine, the leader's more often than others.
func (w *world) some() *host {
	if w.rng.IntN(3) == 0 {
		if h := w.leader(); h != nil {
			return h
		}
	}
	return w.hosts[w.rng.IntN(len(w.hosts))]
}

// leader returns the machine that leads, for all that can be seen from outside.
func (w *world) leader() *host {
	for _, h := range w.hosts {
		if _, n := h.running(); n != nil && n.IsLeader() {
			return h
		}
	}
	return nil
}

// during marks machines as troubled. What ends a fault may take until it is noticed.
func during(hosts []*host, undo func()) (end func()) {
	for _, h := range hosts {
		h.trouble.begin()
		h.ill.begin()
	}
	return func() {
		undo()
		for _, h := range hosts {
			h.trouble.end()
			h.ill.end()
		}
	}
}

func (w *world) cut(from, to *host, cut bool) {
	q, _ := w.net.link(from.index, to.index)
	q.cut = cut
	w.net.set(from.index, to.index, q)
}

// partition cuts the machines in two.
func partition(w *world) func() {
	side := make([]bool, len(w.hosts))
	var few, many []*host
	for _, i := range w.rng.Perm(len(w.hosts)) {
		if len(few) == 0 || w.rng.IntN(3) == 0 && 2*(len(few)+1) <= len(w.hosts) {
			few = append(few, w.hosts[i])
			side[i] = true
		} else {
			many = append(many, w.hosts[i])
		}
	}
	return w.split(few, many)
}

func cutLeader(w *world) func() {
	l := w.leader()
	if l == nil {
		l = w.some()
	}
	var rest []*host
	for _, h := range w.hosts {
		if h != l {
			rest = append(rest, h)
		}
	}
	return w.split([]*host{l}, rest)
}

// elect reports whether some machines can have a leader without the others.
func (w *world) elect(some []*host) bool {
	l := w.leader()
	if l == nil {
		return false
	}
	_, n := l.running()
	if n == nil {
		return false
	}
	all, theirs := 0, 0
	for _, m := range n.Members() {
		if m.Voter {
			all++
			if slices.Contains(some, w.byID(m.ID)) {
				theirs++
			}
		}
	}
	return 2*theirs > all
}

// split cuts the few off. Those who can elect a leader are not troubled.
func (w *world) split(few, many []*host) func() {
	set := func(cut bool) {
		for _, a := range few {
			for _, b := range many {
				w.cut(a, b, cut)
				w.cut(b, a, cut)
			}
		}
	}
	troubled := w.hosts
	switch {
	case w.elect(many):
		troubled = few
	case w.elect(few):
		troubled = many
	}
	set(true)
	return during(troubled, func() { set(false) })
}

// oneWay cuts what one machine sends, or what it receives.
func oneWay(w *world) func() {
	h, sends := w.some(), w.rng.IntN(2) == 0
	set := func(cut bool) {
		for _, o := range w.hosts {
			switch {
			case o == h:
			case sends:
				w.cut(h, o, cut)
			default:
				w.cut(o, h, cut)
			}
		}
	}
	set(true)
	return during([]*host{h}, func() { set(false) })
}

// bridge leaves one machine that both halves reach.
func bridge(w *world) func() {
	order := w.rng.Perm(len(w.hosts))
	set := func(cut bool) {
		for i, a := range order[1:] {
			for j, b := range order[1:] {
				if (i%2 == 0) != (j%2 == 0) {
					w.cut(w.hosts[a], w.hosts[b], cut)
				}
			}
		}
	}
	set(true)
	return during(w.hosts, func() { set(false) })
}

// flapping cuts and mends the links of a machine all the time.
func flapping(w *world) func() {
	h := w.some()
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	set := func(cut bool) {
		for _, o := range w.hosts {
			if o != h {
				w.cut(h, o, cut)
				w.cut(o, h, cut)
			}
		}
	}
	w.wg.Go(func() {
		defer close(done)
		defer set(false)
		for cut := true; ctx.Err() == nil; cut = !cut {
			set(cut)
			t := time.NewTimer(w.net.upTo(3 * time.Second))
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	})
	return during([]*host{h}, func() { cancel(); <-done })
}

func freeze(w *world) func() {
	h := w.some()
	h.freeze(true)
	return during([]*host{h}, func() { h.freeze(false) })
}

// freezeLeader stops the leader until there is another.
func freezeLeader(w *world) func() {
	h := w.leader()
	if h == nil {
		h = w.some()
	}
	h.freeze(true)
	wake := time.Now().Add(w.between(10*time.Second, 40*time.Second))
	return during([]*host{h}, func() {
		w.net.sleep(time.Until(wake))
		h.freeze(false)
	})
}

// kill ends the process, which is started again as an init system does: at once.
func kill(w *world) func() { return w.kill(w.some()) }

func killLeader(w *world) func() {
	if h := w.leader(); h != nil {
		return w.kill(h)
	}
	return w.kill(w.some())
}

func (w *world) kill(h *host) func() {
	pause := w.between(500*time.Millisecond, 3*time.Second)
	end := during([]*host{h}, func() {})
	done := make(chan struct{})
	w.wg.Go(func() {
		defer close(done)
		h.control(func() {
			h.crash(false)
			w.net.sleep(pause)
			h.bootIfOff()
		})
	})
	return func() { <-done; end() }
}

func powerCut(w *world) func() {
	h := w.some()
	h.control(func() { h.crash(true) })
	return during([]*host{h}, func() { h.control(h.bootIfOff) })
}

func powerCutAll(w *world) func() {
	end := during(w.hosts, func() {})
	for _, h := range w.hosts {
		h.control(func() { h.crash(true) })
	}
	pauses := make([]time.Duration, len(w.hosts))
	for i := range pauses {
		pauses[i] = w.between(time.Second, 10*time.Second)
	}
	done := make(chan struct{}, len(w.hosts))
	for i, h := range w.hosts {
		w.wg.Go(func() {
			w.net.sleep(pauses[i])
			h.control(h.bootIfOff)
			done <- struct{}{}
		})
	}
	return func() {
		for range w.hosts {
			<-done
		}
		end()
	}
}

// restart ends the process in order.
func restart(w *world) func() {
	h := w.some()
	end := during([]*host{h}, func() {})
	done := make(chan struct{})
	w.wg.Go(func() {
		defer close(done)
		h.control(func() {
			h.stop()
			w.net.sleep(time.Second)
			h.bootIfOff()
		})
	})
	return func() { <-done; end() }
}

func (h *host) bootIfOff() {
	h.mu.Lock()
	off := h.proc == nil
	h.mu.Unlock()
	if off {
		h.boot()
	}
}

// links changes the quality of all links.
func (w *world) links(change func(*quality)) {
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			q, _ := w.net.link(a.index, b.index)
			change(&q)
			w.net.set(a.index, b.index, q)
		}
	}
}

// ill marks machines that are slow, but must not be given up.
func ill(hosts []*host, undo func()) func() {
	for _, h := range hosts {
		h.ill.begin()
	}
	return func() {
		undo()
		for _, h := range hosts {
			h.ill.end()
		}
	}
}

func lossy(w *world) func() {
	w.links(func(q *quality) { q.loss = 0.3 })
	return ill(nil, func() { w.links(func(q *quality) { q.loss = 0 }) })
}

func delayed(w *world) func() {
	w.links(func(q *quality) { q.delay, q.jitter = 200*time.Millisecond, 100*time.Millisecond })
	return ill(nil, func() { w.links(func(q *quality) { q.delay, q.jitter = fine.delay, fine.jitter }) })
}

func slowDisk(w *world) func() {
	h, slow := w.some(), w.between(50*time.Millisecond, 2*time.Second)
	h.disk.set(func(d *disk) { d.slow = slow })
	return ill([]*host{h}, func() { h.disk.set(func(d *disk) { d.slow = 0 }) })
}

func fullDisk(w *world) func() {
	h, room := w.some(), w.rng.IntN(300)
	h.disk.set(func(d *disk) { d.full, d.room = true, room })
	return during([]*host{h}, func() { h.disk.set(func(d *disk) { d.full = false }) })
}

func syncError(w *world) func() {
	h := w.some()
	h.disk.set(func(d *disk) { d.failNext = true })
	return during([]*host{h}, func() { h.disk.set(func(d *disk) { d.failNext = false }) })
}

// clockJump sets a clock, for good.
func clockJump(w *world) func() {
	jumps := []time.Duration{-24 * time.Hour, -time.Hour, 0, time.Hour, 24 * time.Hour}
	w.some().clock.set(jumps[w.rng.IntN(len(jumps))])
	return func() {}
}

// drain has a user move everything away from a node, and change his mind.
func drain(w *world) func() {
	h := w.some()
	id := h.nodeID()
	h.drained.begin()
	w.setEligibility(id, api.EligibilityDraining)
	end := during([]*host{h}, h.drained.end)
	return func() {
		w.wg.Go(func() { // there may be no leader until the other faults have ended
			defer end()
			for w.ctx.Err() == nil && !w.setEligibility(id, api.EligibilityEligible) {
				w.net.sleep(time.Second)
			}
		})
	}
}

func (w *world) setEligibility(id string, e api.Eligibility) bool {
	h := w.leader()
	if h == nil {
		return false
	}
	_, n := h.running()
	if n == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	_, err := n.SetNode(ctx, id, e, nil)
	return err == nil
}
