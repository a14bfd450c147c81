package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// explanation collects, while a plan is made, why it becomes what it does. All its
// methods do nothing on nil, so that Plan and Explain run the same code.
type explanation struct {
	decisions []api.Decision
	asked     map[api.Ref]bool // told about even if they stay
}

// Explain says what [Plan] would do, and why: for every instance that it would place,
// every one that it can't, and every one that it leaves somewhere for now although
// something is wrong there; and for those that the request is about. What the request
// holds is taken as if it were put first. To drain a node in the request plans all moves
// off all draining nodes, otherwise only the next ones are. Fails with a
// [api.FieldErrors], or an [api.Error] for a service or node that does not exist.
func Explain(v View, now time.Time, leases Leases, r api.PlanRequest) (api.PlanResult, error) {
	o, err := supposing(v, r)
	if err != nil {
		return api.PlanResult{}, err
	}
	p := newPlanner(o, now, leases)
	p.wholeDrain = len(r.Drain) > 0
	p.why = &explanation{decisions: []api.Decision{}, asked: o.asked}
	p.run()
	slices.SortFunc(p.why.decisions, func(a, b api.Decision) int {
		return cmp.Or(strings.Compare(a.Ref.Service, b.Ref.Service), strings.Compare(a.Ref.ID, b.Ref.ID))
	})
	return api.PlanResult{Index: v.Index(), Changes: p.why.decisions}, nil
}

func (e *explanation) add(d api.Decision) { e.decisions = append(e.decisions, d) }

// explainStay tells of an instance that stays for now although something is wrong, and
// of one that was asked for.
func (p *planner) explainStay(g *group, i *api.Instance, f fate) {
	if p.why == nil || f == stays && !p.why.asked[i.Ref()] {
		return
	}
	n := p.nodes[p.byID[i.Node]].Node
	reason := "stays where it is"
	switch f {
	case untilDeadline:
		reason = n.Name + " is down: replaced at " + n.Deadline.UTC().Format(time.RFC3339Nano)
	case untilLease:
		reason = n.Name + " is down: replaced once it has provably stopped there"
	case keptThere:
		reason = n.Name + " is down: on_disconnect is keep"
	case nodeLeft:
		reason = n.Name + " has left and is expected back"
	case pinnedThere:
		reason = n.Name + " is draining, but it is pinned there"
	default:
		for _, k := range g.rules.Constraints {
			if !k.Compile()(n) {
				reason += fmt.Sprintf(", although %q does not hold there", k)
				break
			}
		}
	}
	p.why.add(api.Decision{Ref: i.Ref(), From: i.Node, Node: i.Node, Reason: reason})
}

// explainTurn tells of an instance that waits until others have moved.
func (p *planner) explainTurn(b *batch, it item) {
	if p.why == nil {
		return
	}
	first := "another one goes first"
	if ref, ok := p.busy[b.from]; ok {
		first = ref.String() + " is still moving"
	}
	reason := fmt.Sprintf("%s: waits, %s", p.cause(b, it), first)
	p.why.add(api.Decision{Ref: it.Ref(), From: it.Node, Node: it.Node, Reason: reason})
}

// explainPlace tells of an instance that goes to the one node for it.
func (p *planner) explainPlace(b *batch, it item, n int32, how string) {
	if p.why != nil {
		p.why.add(api.Decision{
			Ref: it.Ref(), From: it.Node, Node: p.nodes[n].ID,
			Reason: p.cause(b, it) + ": " + how,
		})
	}
}

// explainChoice tells of an instance that goes to the best node.
func (p *planner) explainChoice(b *batch, it item, n int32) {
	if p.why == nil {
		return
	}
	l, g := &p.list, b.group
	best := &l.domains[0].candidates[0]
	how := "the only node that can take it"
	if l.room > 1 {
		how = fmt.Sprintf("best of %d nodes", l.room)
		if best.affinity != 0 {
			how += fmt.Sprintf(", affinity %+d", best.affinity)
		}
		if where := p.nodes[n].place(g.level()); where != "" {
			how += fmt.Sprintf(", %d of %s %s", l.domains[0].count, g.name(), where)
		}
		how += fmt.Sprintf(", %d%% full with it", best.load/10_000)
	}
	p.why.add(api.Decision{
		Ref: it.Ref(), From: it.Node, Node: p.nodes[n].ID,
		Reason:   p.cause(b, it) + ": " + how,
		Excluded: p.excluded(b),
	})
}

func (p *planner) explainNowhere(b *batch, it item) {
	if p.why != nil {
		p.why.add(api.Decision{
			Ref: it.Ref(), From: it.Node,
			Reason:   p.cause(b, it) + ": no node can take it",
			Excluded: p.excluded(b),
		})
	}
}

// place returns what the group is counted in there, "" if it is not spread.
func (n *node) place(level int) string {
	switch level {
	case levelNode:
		return "there"
	case levelZone:
		return "in zone " + n.Zone
	case levelRegion:
		return "in region " + n.Region
	default:
		return ""
	}
}

// cause says why an instance needs a place.
func (p *planner) cause(b *batch, it item) string {
	name := it.Node
	if n, ok := p.byID[it.Node]; ok {
		name = p.nodes[n].Name
	}
	switch {
	case it.fate == unplaced && it.Generation == 0:
		return "new"
	case it.fate == unplaced:
		return "on no node"
	case it.fate == nodeGone:
		return name + " is gone"
	case it.fate == nodeDown:
		return name + " is down"
	case it.fate == leavesQuiet || it.fate == leavesFailed:
		return name + " is draining"
	case p.keepsPrevious(b, it):
		return name + " is draining, new first"
	default:
		return name + " is draining, old first"
	}
}

// excluded counts the nodes that do not take an instance of b, by reason. What has been
// placed in between is why it is counted anew when the number of nodes left changes.
func (p *planner) excluded(b *batch) []api.Exclusion {
	l := &p.list
	if l.built && l.excluded != nil && l.excludedRoom == l.room {
		return l.excluded
	}
	tally := map[reason]int{}
	for n := range p.nodes {
		if r := p.refusal(b, int32(n)); r.kind != none {
			tally[r]++
		}
	}
	reasons := make([]reason, 0, len(tally))
	for r := range tally {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b reason) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.index, b.index))
	})
	list := make([]api.Exclusion, 0, len(reasons))
	for _, r := range reasons {
		list = append(list, api.Exclusion{Reason: r.text(b.group), Nodes: tally[r]})
	}
	l.excluded, l.excludedRoom = list, l.room
	return list
}
