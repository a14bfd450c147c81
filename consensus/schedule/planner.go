package schedule

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// planner is one run of Plan or Explain.
type planner struct {
	view   View
	now    time.Time
	leases Leases
	// wholeDrain plans all moves off draining nodes, not just the next one of each.
	wholeDrain bool
	why        *explanation // nil unless reasons are asked for

	nodes   []node // ordered by id
	byID    map[string]int32
	groups  map[groupKey]*group
	classes map[string]*class
	batches map[batchKey]*batch
	// busy holds, by draining node, an instance that is just moving away from it.
	busy map[string]api.Ref
	// named holds, by service, the groups whose rules keep them away from it.
	named map[string][]*group
	// present and averse count, by service and node, its instances, and the instances
	// that keep away from it. Only services that matter to this plan are there.
	present, averse map[string]counts

	list       shortlist
	placements []state.Placement
}

// counts are numbers of instances by node.
type counts map[int32]int32

// item is an instance that needs a place, and why it does.
type item struct {
	*api.Instance
	fate fate
}

// batch is work that asks the same of a node, so that nodes are looked at once for all.
type batch struct {
	batchKey
	items []item
}

type batchKey struct {
	group *group
	pin   string // id of the only node
	home  string // id of the node that has its data, or still serves it
	from  string // id of the draining node that it leaves
	rank  rank
	held  bool // desired = stopped: needs no memory and no CPU
}

func newPlanner(v View, now time.Time, leases Leases) *planner {
	p := &planner{
		view: v, now: now, leases: leases,
		byID:    map[string]int32{},
		groups:  map[groupKey]*group{},
		classes: map[string]*class{},
		batches: map[batchKey]*batch{},
		busy:    map[string]api.Ref{},
		named:   map[string][]*group{},
		present: map[string]counts{},
		averse:  map[string]counts{},
	}
	p.readNodes()
	return p
}

func (p *planner) run() {
	p.survey()
	if len(p.batches) == 0 {
		return
	}
	p.pool()
	p.census()
	work := make([]*batch, 0, len(p.batches))
	for _, b := range p.batches {
		if !slices.IsSortedFunc(b.items, compareItems) {
			slices.SortFunc(b.items, compareItems)
		}
		work = append(work, b)
	}
	slices.SortFunc(work, compareBatches)
	moved := map[string]bool{} // draining nodes that have had their turn
	for _, b := range work {
		if b.rank < rankLive || p.wholeDrain {
			p.place(b, b.items)
		} else {
			p.placeNext(b, moved)
		}
	}
}

// placeNext moves one instance of b, all of which are on one draining node, unless one
// of that node moves already. Failed ones go all at once, when nothing else is left.
func (p *planner) placeNext(b *batch, moved map[string]bool) {
	rest := b.items
	if _, ok := p.busy[b.from]; !ok && !moved[b.from] {
		if b.rank == rankFailed {
			p.place(b, b.items)
			return
		}
		for len(rest) > 0 && !moved[b.from] {
			moved[b.from] = p.place(b, rest[:1]) > 0
			rest = rest[1:]
			if p.why == nil && b.home == "" {
				break // where one can't go, nor can the others
			}
		}
	}
	for _, it := range rest {
		p.explainTurn(b, it)
	}
}

func compareItems(a, b item) int {
	return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.ID, b.ID))
}

// compareBatches puts first what is most urgent, then what has the least choice: the
// pinned, those at home somewhere, the largest.
func compareBatches(a, b *batch) int {
	return cmp.Or(
		cmp.Compare(a.rank, b.rank),
		strings.Compare(a.from, b.from),
		compareBool(b.pin != "", a.pin != ""),
		compareBool(b.home != "", a.home != ""),
		compareBool(a.held, b.held),
		b.group.need.compare(a.group.need),
		compareGroups(a.group, b.group),
		strings.Compare(a.pin, b.pin),
		strings.Compare(a.home, b.home),
	)
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// place gives the items, which are of b, a node each as far as there are any, and
// returns how many got one.
func (p *planner) place(b *batch, items []item) int {
	before := len(p.placements)
	for _, it := range items {
		p.leave(b, it, -1) // what goes away takes up nothing of what it is spread over
	}
	p.list.reset()
	for _, it := range items {
		if n, ok := p.choose(b, it); ok {
			p.commit(b, it, n)
			p.list.chosen(p, b, n)
		} else {
			p.leave(b, it, 1)
			p.explainNowhere(b, it)
		}
	}
	return len(p.placements) - before
}

// leave adds d to the counts of the draining node that an item of b is on.
func (p *planner) leave(b *batch, it item, d int32) {
	if n, ok := p.byID[it.Node]; ok && b.from != "" {
		b.group.count(n, d)
	}
}

// choose returns the node for an item of b.
func (p *planner) choose(b *batch, it item) (int32, bool) {
	if b.pin != "" {
		n, ok := p.byID[b.pin]
		ok = ok && p.welcomes(b, it, n)
		if ok {
			p.explainPlace(b, it, n, "it is pinned there")
		}
		return n, ok
	}
	if n, ok := p.byID[b.home]; ok && !p.list.built && p.welcomes(b, it, n) {
		how := "it still serves there"
		if it.DataNode != "" {
			how = "its data are there"
		}
		p.explainPlace(b, it, n, how)
		return n, true
	}
	n, ok := p.list.best(p, b)
	if ok {
		p.explainChoice(b, it, n)
	}
	return n, ok
}

// welcomes reports whether the node that it is pinned to, or at home on, takes it. What
// it takes up there already does not count.
func (p *planner) welcomes(b *batch, it item, n int32) bool {
	if b.home == p.nodes[n].ID {
		p.traces(b.group, it.Instance, -1)
		defer p.traces(b.group, it.Instance, 1)
	}
	return p.refusal(b, n).kind == none
}

// commit puts it on node n.
func (p *planner) commit(b *batch, it item, n int32) {
	p.nodes[n].take(b.need(), 1)
	p.nodes[n].load.add(b.group.load, 1)
	b.group.count(n, 1)
	if b.home == p.nodes[n].ID {
		p.traces(b.group, it.Instance, -1)
	}
	p.placements = append(p.placements, state.Placement{
		Ref:          it.Ref(),
		Node:         p.nodes[n].ID,
		Generation:   it.Generation + 1,
		KeepPrevious: p.keepsPrevious(b, it),
	})
}

// keepsPrevious reports whether it goes on where it is until its new place serves: new
// first. What keeps data, or must never run twice, goes old first.
func (p *planner) keepsPrevious(b *batch, it item) bool {
	s := b.group.service
	if s.Persist() || s.Disconnect() == api.DisconnectStop {
		return false
	}
	if it.Previous != nil { // it was on its way, and never was where it is now
		n, ok := p.byID[it.Previous.Node]
		return ok && p.nodes[n].Reachable()
	}
	return b.rank == rankLive
}
