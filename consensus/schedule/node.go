package schedule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// amounts are what an instance needs, or what is taken of a node.
type amounts struct{ memory, cpu, storage int64 }

func (a amounts) compare(b amounts) int {
	return cmp.Or(cmp.Compare(a.memory, b.memory), cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.storage, b.storage))
}

// load is what a node has to do, for comparing nodes only: limits, and for those that
// have none the nominal ones, so that a node full of them does not look empty.
type load struct{ mebibytes, shares int64 }

const (
	nominalMebibytes = 64
	nominalShares    = 100
	// What a node counts as that does not say what it has.
	unknownMebibytes = 4096
	unknownShares    = 2 * api.CPUSharesPerCPU
)

// add adds m, sign times.
func (l *load) add(m load, sign int64) {
	l.mebibytes += sign * m.mebibytes
	l.shares += sign * m.shares
}

// node is a node and what is on it.
type node struct {
	*api.Node
	// shut is why it takes nothing new, 0 if it does.
	shut reason
	// hash breaks ties, together with a group's.
	hash     uint64
	taken    amounts
	capacity amounts // 0: no bound
	load     load
	size     load
	// domains are the numbers of what it is part of, by level of spreading.
	domains [levels]int32
}

// The levels of spreading.
const (
	levelNone = iota // everything is one domain
	levelNode
	levelZone
	levelRegion
	levels
)

func (p *planner) readNodes() {
	for n := range p.view.Nodes() {
		p.nodes = append(p.nodes, node{Node: n, shut: shut(n), hash: hash(n.ID), capacity: amounts{
			memory:  int64(n.Capacity.Memory),
			cpu:     int64(n.Capacity.CPUs) * api.CPUSharesPerCPU,
			storage: int64(n.Capacity.Storage),
		}})
	}
	slices.SortFunc(p.nodes, func(a, b node) int { return strings.Compare(a.ID, b.ID) })
	zones, regions := map[[2]string]int32{}, map[string]int32{}
	for i := range p.nodes {
		n := &p.nodes[i]
		p.byID[n.ID] = int32(i)
		n.size = load{mebibytes: n.capacity.memory >> 20, shares: n.capacity.cpu}
		if n.size.mebibytes == 0 {
			n.size.mebibytes = unknownMebibytes
		}
		if n.size.shares == 0 {
			n.size.shares = unknownShares
		}
		n.domains[levelNode] = int32(i)
		n.domains[levelZone] = number(zones, [2]string{n.Region, n.Zone})
		n.domains[levelRegion] = number(regions, n.Region)
	}
}

// number returns the number of a key, the next free one for a new key.
func number[K comparable](numbers map[K]int32, key K) int32 {
	n, ok := numbers[key]
	if !ok {
		n = int32(len(numbers))
		numbers[key] = n
	}
	return n
}

// shut returns why a node takes nothing new, whatever it is.
func shut(n *api.Node) reason {
	switch {
	case n.Status == api.NodeLeft:
		return reason{kind: left}
	case !n.Reachable():
		return reason{kind: down}
	case n.Eligibility == api.EligibilityDraining:
		return reason{kind: draining}
	case n.Eligibility == api.EligibilityCordoned:
		return reason{kind: cordoned}
	default:
		return reason{}
	}
}

// take adds a, sign times, to what is taken of the node.
func (n *node) take(a amounts, sign int64) {
	n.taken.memory += sign * a.memory
	n.taken.cpu += sign * a.cpu
	n.taken.storage += sign * a.storage
}

// room returns what of it does not fit on the node any more, 0 if all does. A node that
// has more on it than it can give keeps that, but takes only what needs nothing of it.
func (n *node) room(a amounts) reason {
	switch {
	case a.memory > 0 && n.capacity.memory > 0 && n.taken.memory+a.memory > n.capacity.memory:
		return reason{kind: noMemory}
	case a.cpu > 0 && n.capacity.cpu > 0 && n.taken.cpu+a.cpu > n.capacity.cpu:
		return reason{kind: noCPU}
	case a.storage > 0 && n.capacity.storage > 0 && n.taken.storage+a.storage > n.capacity.storage:
		return reason{kind: noStorage}
	default:
		return reason{}
	}
}

// with returns how loaded the node would be with l added: the mean of its memory and
// its CPU, in millionths.
func (n *node) with(l load) int64 {
	const million = 1_000_000
	memory := (n.load.mebibytes + l.mebibytes) * million / n.size.mebibytes
	cpu := (n.load.shares + l.shares) * million / n.size.shares
	return (memory + cpu) / 2
}

// hash is FNV-1a of the parts, each ended by a zero byte.
func hash(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range parts {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h *= 1099511628211
	}
	return h
}

// mix makes one hash of two, in which every bit depends on every bit of both: the
// finalizer of splitmix64.
func mix(a, b uint64) uint64 {
	x := a ^ b*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
