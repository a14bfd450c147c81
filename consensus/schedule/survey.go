package schedule

import "github.com/tenement-fleet/tenement/api"

// fate is what a plan has in mind for an instance.
type fate uint8

const (
	stays fate = iota

	// To be placed at once.
	unplaced
	nodeGone
	nodeDown

	// On a draining node, to be moved.
	leavesQuiet
	leavesLive
	leavesFailed

	// To stay for now, although something is wrong.
	untilDeadline
	untilLease
	keptThere
	nodeLeft
	pinnedThere
)

func (f fate) lost() bool   { return f == unplaced || f == nodeGone || f == nodeDown }
func (f fate) leaves() bool { return f == leavesQuiet || f == leavesLive || f == leavesFailed }

// rank orders the work: what nobody serves comes before what merely moves.
type rank uint8

const (
	rankLost   rank = iota // on no node, or on one that is lost
	rankQuiet              // on a draining node, but serving nobody: need not wait
	rankLive               // on a draining node: one at a time
	rankFailed             // on a draining node, and given up: last
)

func (f fate) rank() rank {
	switch f {
	case leavesQuiet:
		return rankQuiet
	case leavesLive:
		return rankLive
	case leavesFailed:
		return rankFailed
	default:
		return rankLost
	}
}

// fateOf returns what is to become of an instance of s, and the node that it is on if
// there is such a node.
func (p *planner) fateOf(s *api.Service, i *api.Instance) (f fate, at int32) {
	if i.Node == "" {
		return unplaced, 0
	}
	at, ok := p.byID[i.Node]
	if !ok {
		return nodeGone, 0
	}
	n := &p.nodes[at]
	switch n.shut.kind {
	case left:
		return nodeLeft, at
	case down:
		return p.fateOnDown(s, n.Node), at
	case draining:
		return fateOnDraining(i), at
	default:
		return stays, at
	}
}

func (p *planner) fateOnDown(s *api.Service, n *api.Node) fate {
	switch {
	case s.Disconnect() == api.DisconnectKeep:
		return keptThere
	case p.now.Before(n.Deadline):
		return untilDeadline
	case s.Disconnect() == api.DisconnectStop && (p.leases == nil || !p.leases.Ended(n.ID, p.now)):
		return untilLease
	default:
		return nodeDown
	}
}

func fateOnDraining(i *api.Instance) fate {
	switch {
	case i.Pin == i.Node:
		return pinnedThere
	case i.Desired != api.DesiredRunning:
		return leavesQuiet
	case i.Observed == nil:
		return leavesLive
	}
	switch i.Observed.State {
	case api.StateAsleep, api.StateStopped:
		return leavesQuiet
	case api.StateFailed:
		return leavesFailed
	default:
		return leavesLive
	}
}

// arriving reports whether an instance that has been moved is waited for: until it has
// been seen serving, unless it did not serve before either.
func arriving(i *api.Instance) bool {
	if i.Desired != api.DesiredRunning {
		return false
	}
	if i.Observed == nil {
		return true
	}
	now := i.Observed.Generation == i.Generation
	switch s := i.Observed.State; {
	case s == api.StateAsleep || s == api.StateStopped:
		return false
	case s == api.StateFailed:
		return now
	case s.Serving():
		return !now
	default:
		return true
	}
}

// settled reports whether there is nothing to plan, by a look at those nodes alone that
// there could be something to plan for.
func (p *planner) settled() bool {
	for range p.view.InstancesOn("") {
		return false
	}
	for _, n := range p.nodes {
		if n.shut.kind != down && n.shut.kind != draining {
			continue
		}
		for i := range p.view.InstancesOn(n.ID) {
			s, ok := p.view.Service(i.Service)
			if !ok {
				continue
			}
			if f, _ := p.fateOf(s, i); f.lost() || f.leaves() {
				return false
			}
		}
	}
	return true
}

// survey looks at every instance once: what it takes up, and whether it needs a place.
func (p *planner) survey() {
	var g *group
	for i := range p.view.Instances("") {
		if g = p.groupOf(i, g); g == nil {
			continue
		}
		g.total++
		p.noteMove(i)
		f, at := p.fateOf(g.service, i)
		if !f.lost() {
			p.nodes[at].take(g.needFor(i.Desired == api.DesiredStopped), 1)
			p.nodes[at].load.add(g.load, 1)
		}
		if i.Previous != nil || i.DataNode != "" {
			p.traces(g, i, 1)
		}
		if f.lost() || f.leaves() {
			p.queue(g, item{i, f})
		} else {
			p.explainStay(g, i, f)
		}
	}
}

func (p *planner) queue(g *group, it item) {
	key := batchKey{group: g, pin: it.Pin, rank: it.fate.rank(), held: it.Desired == api.DesiredStopped}
	if it.fate.leaves() {
		key.from = it.Node
	}
	switch {
	case it.DataNode != "":
		key.home = it.DataNode
	case it.Previous != nil:
		key.home = it.Previous.Node
	}
	b, ok := p.batches[key]
	if !ok {
		b = &batch{batchKey: key}
		p.batches[key] = b
	}
	b.items = append(b.items, it)
}

// noteMove notes which node an instance is just moving away from.
func (p *planner) noteMove(i *api.Instance) {
	switch {
	case i.Previous != nil:
		p.setBusy(i.Previous.Node, i)
	case i.DataNode != "" && i.DataNode != i.Node && arriving(i):
		p.setBusy(i.DataNode, i)
	}
}

// setBusy keeps the first by name, so that what is explained does not depend on order.
func (p *planner) setBusy(node string, i *api.Instance) {
	ref, ok := p.busy[node]
	if !ok || i.Service < ref.Service || i.Service == ref.Service && i.ID < ref.ID {
		p.busy[node] = i.Ref()
	}
}

// traces adds, sign times, what i takes up on nodes other than its own: all of it where
// it still serves, and its storage where its data are.
func (p *planner) traces(g *group, i *api.Instance, sign int64) {
	if i.Previous != nil && i.Previous.Node != i.Node {
		if n, ok := p.byID[i.Previous.Node]; ok {
			p.nodes[n].take(g.needFor(i.Desired == api.DesiredStopped), sign)
			p.nodes[n].load.add(g.load, sign)
			if g.counted != nil {
				g.count(n, int32(sign))
			}
		}
	}
	if i.DataNode == "" || i.DataNode == i.Node || i.Previous != nil && i.Previous.Node == i.DataNode {
		return
	}
	if n, ok := p.byID[i.DataNode]; ok {
		p.nodes[n].take(amounts{storage: g.need.storage}, sign)
	}
}
