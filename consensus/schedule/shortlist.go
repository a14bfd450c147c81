package schedule

import (
	"cmp"

	"github.com/tenement-fleet/tenement/api"
)

// shortlist holds the nodes that could take the instances of one batch, the best first:
// a heap of domains, each a heap of nodes. A choice makes one node and one domain less
// attractive, so that the next takes two walks down a heap.
type shortlist struct {
	built   bool
	domains []domain
	room    int // how many nodes are left

	compare func(a, b *candidate) int
	// weigh is what an instance in a domain costs, and ahead what affinity is worth.
	weigh, ahead int64

	// excluded is what there was to say when excludedRoom nodes were left.
	excluded     []api.Exclusion
	excludedRoom int

	// Kept from batch to batch for their memory.
	all, sorted []candidate
	own         []int32 // by node: instances of the group
	inside      []int32 // by domain: instances of the group
	starts      []int32 // by domain: where its candidates begin in sorted
}

type candidate struct {
	node     int32
	domain   int32
	own      int32 // instances of the group on it
	affinity int32
	load     int64 // with the next instance
	hash     uint64
}

type domain struct {
	candidates []candidate // a heap
	count      int64       // instances of the group in it
	cost       int64       // of its best candidate
}

func (l *shortlist) reset() { l.built, l.excluded = false, nil }

// best returns the best node for an instance of b.
func (l *shortlist) best(p *planner, b *batch) (int32, bool) {
	if !l.built {
		l.build(p, b)
	}
	if len(l.domains) == 0 {
		return 0, false
	}
	return l.domains[0].candidates[0].node, true
}

// chosen takes into account that an instance of b was put on the best node.
func (l *shortlist) chosen(p *planner, b *batch, n int32) {
	if !l.built {
		return
	}
	d := &l.domains[0]
	d.count++
	top := &d.candidates[0]
	if l.weigh > 0 {
		top.own++
	}
	top.load = p.nodes[n].with(b.group.load)
	if p.crowded(b, n).kind != none {
		l.room--
		last := len(d.candidates) - 1
		d.candidates[0] = d.candidates[last]
		d.candidates = d.candidates[:last]
	}
	if len(d.candidates) == 0 {
		last := len(l.domains) - 1
		l.domains[0] = l.domains[last]
		l.domains = l.domains[:last]
	} else {
		sink(d.candidates, 0, l.compare)
		l.price(d)
	}
	if len(l.domains) > 0 {
		sink(l.domains, 0, l.compareDomains)
	}
}

// build looks at every node once.
func (l *shortlist) build(p *planner, b *batch) {
	g := b.group
	l.built = true
	l.compare = compareSpread
	if g.packs() {
		l.compare = comparePack
	}
	level := g.level()
	l.countGroup(p, g, level)
	l.all = l.all[:0]
	for _, n := range g.class.open {
		if p.crowded(b, n).kind != none {
			continue
		}
		node := &p.nodes[n]
		c := candidate{
			node:     n,
			domain:   node.domains[level],
			own:      l.own[n],
			affinity: g.class.affinity[n],
			load:     node.with(g.load),
			hash:     mix(g.hash, node.hash),
		}
		l.all = append(l.all, c)
		l.starts[c.domain]++
	}
	l.room = len(l.all)
	l.divide(level)
	l.weigh, l.ahead = 0, 1
	if level != levelNone {
		domains := int64(len(l.domains))
		l.weigh, l.ahead = 100*domains, max(int64(g.total), domains)
	}
	for i := range l.domains {
		d := &l.domains[i]
		d.count = int64(l.inside[d.candidates[0].domain])
		order(d.candidates, l.compare)
		l.price(d)
	}
	order(l.domains, l.compareDomains)
}

// countGroup counts the instances of the group by node and by domain.
func (l *shortlist) countGroup(p *planner, g *group, level int) {
	l.own = zeroes(l.own, len(p.nodes))
	l.inside = zeroes(l.inside, len(p.nodes)+1)
	l.starts = zeroes(l.starts, len(p.nodes)+1)
	for n, count := range g.here {
		l.own[n] = count
		l.inside[p.nodes[n].domains[level]] += count
	}
}

// divide sorts all candidates by domain; starts has how many each has.
func (l *shortlist) divide(level int) {
	l.domains = l.domains[:0]
	if level == levelNode { // one each, and sorted already
		for i := range l.all {
			l.domains = append(l.domains, domain{candidates: l.all[i : i+1 : i+1]})
		}
		return
	}
	if cap(l.sorted) < len(l.all) {
		l.sorted = make([]candidate, len(l.all))
	}
	l.sorted = l.sorted[:len(l.all)]
	at := int32(0)
	for i, size := range l.starts {
		l.starts[i] = at
		if size > 0 {
			l.domains = append(l.domains, domain{candidates: l.sorted[at : at+size : at+size]})
		}
		at += size
	}
	for _, c := range l.all {
		l.sorted[l.starts[c.domain]] = c
		l.starts[c.domain]++
	}
}

// price sets what an instance on the domain's best node costs. A domain's cost grows by
// 100 for each share of the group in it, a share being what it has when all domains have
// the same; an affinity takes off its weight. All is multiplied by the share's divisor.
func (l *shortlist) price(d *domain) {
	d.cost = l.weigh*(d.count+1) - l.ahead*int64(d.candidates[0].affinity)
}

func (l *shortlist) compareDomains(a, b *domain) int {
	if a.cost != b.cost {
		return cmp.Compare(a.cost, b.cost)
	}
	return l.compare(&a.candidates[0], &b.candidates[0])
}

// compareSpread puts the emptier node first.
func compareSpread(a, b *candidate) int {
	switch {
	case a.affinity != b.affinity:
		return int(b.affinity - a.affinity)
	case a.own != b.own:
		return int(a.own - b.own)
	case a.load != b.load:
		return cmp.Compare(a.load, b.load)
	default:
		return compareHash(a, b)
	}
}

// comparePack puts the fuller node first.
func comparePack(a, b *candidate) int {
	switch {
	case a.affinity != b.affinity:
		return int(b.affinity - a.affinity)
	case a.load != b.load:
		return cmp.Compare(b.load, a.load)
	default:
		return compareHash(a, b)
	}
}

func compareHash(a, b *candidate) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	return int(a.node - b.node)
}

// order makes a heap of h, the smallest first.
func order[T any](h []T, compare func(a, b *T) int) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		sink(h, i, compare)
	}
}

// sink restores a heap of which only the element at i may be too large for its place.
func sink[T any](h []T, i int, compare func(a, b *T) int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if other := child + 1; other < len(h) && compare(&h[other], &h[child]) < 0 {
			child = other
		}
		if compare(&h[i], &h[child]) <= 0 {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// zeroes returns n zeroes, in s if they fit.
func zeroes(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	s = s[:n]
	clear(s)
	return s
}
