// Package schedule decides which node runs which instance. It is pure: a view of the
// state goes in, placements come out, and the same view gives the same placements.
package schedule

import (
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Plan returns a placement for every instance that is on no node, dealt in turn to the
// eligible nodes; none when no node is eligible. What is placed stays where it is.
//
// Whether a node can run an instance is not asked here: one that can't says so in what
// it observes, where its users see why, instead of leaving it pending for ever.
func Plan(v *state.View) []state.Placement {
	var nodes []string
	for n := range v.Nodes() {
		if n.Eligibility == api.EligibilityEligible {
			nodes = append(nodes, n.ID)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	var plan []state.Placement
	for i := range v.Unplaced() {
		plan = append(plan, state.Placement{
			Ref:        i.Ref(),
			Node:       nodes[len(plan)%len(nodes)],
			Generation: i.Generation + 1,
		})
	}
	return plan
}
