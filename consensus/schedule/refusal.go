package schedule

import (
	"slices"

	"github.com/tenement-fleet/tenement/api"
)

// reason is why a node does not take an instance; the zero one is that it does. Where
// several hold, the first in the order of the kinds counts.
type reason struct {
	kind  kind
	index uint8 // of the constraint, or of the service kept away from
}

type kind uint8

const (
	none kind = iota
	down
	left
	draining
	cordoned
	pinnedElsewhere
	isolation
	constraint
	antiAffinity
	avoided
	noMemory
	noCPU
	noStorage
)

// text returns the reason in words.
func (r reason) text(g *group) string {
	switch r.kind {
	case down:
		return "down"
	case left:
		return "left"
	case draining:
		return "draining"
	case cordoned:
		return "cordoned"
	case pinnedElsewhere:
		return "pinned to another"
	case isolation:
		return "isolation " + string(g.service.Isolation)
	case constraint:
		return string(g.rules.Constraints[r.index])
	case antiAffinity:
		return "anti-affinity with " + g.rules.AntiAffinity[r.index]
	case avoided:
		return "anti-affinity of another service"
	case noMemory:
		return "memory"
	case noCPU:
		return "cpu"
	case noStorage:
		return "storage"
	default:
		return ""
	}
}

// refusal returns why node n does not take an instance of b.
func (p *planner) refusal(b *batch, n int32) reason {
	node := &p.nodes[n]
	r := b.group.class.reasons[n]
	switch {
	case b.pin == "" || r.kind == down || r.kind == left || r.kind == draining:
	case b.pin != node.ID:
		return reason{kind: pinnedElsewhere}
	case r.kind == cordoned: // who pins something to a node has that node in mind
		r = unsuited(node.Node, b.group.service.Isolation, b.group.class.holds)
	}
	if r.kind != none {
		return r
	}
	return p.crowded(b, n)
}

// crowded returns why a node that is suited does not take an instance of b, with what is
// on it by now.
func (p *planner) crowded(b *batch, n int32) reason {
	g := b.group
	for i, c := range g.near {
		if c[n] > 0 {
			return reason{kind: antiAffinity, index: uint8(i)}
		}
	}
	if len(g.shy) > 0 && g.shy[n] > 0 {
		return reason{kind: avoided}
	}
	return p.nodes[n].room(b.need())
}

// unsuited returns why a node can never take what is isolated like that and constrained
// to nodes of which holds are true.
func unsuited(n *api.Node, level api.Isolation, holds []func(*api.Node) bool) reason {
	if len(n.Isolations) > 0 && !slices.Contains(n.Isolations, level) {
		return reason{kind: isolation}
	}
	for i, hold := range holds {
		if !hold(n) {
			return reason{kind: constraint, index: uint8(i)}
		}
	}
	return reason{}
}
