// Package schedule decides which node runs which instance. It is pure: a view of the
// state and a time go in, placements come out, and the same view gives the same ones,
// in whatever order it yields its objects. DESIGN.md says how it chooses, and why so.
package schedule

import (
	"iter"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// View is what planning needs of the state. A *[state.View] is one.
type View interface {
	Index() uint64
	Nodes() iter.Seq[*api.Node]
	Service(name string) (*api.Service, bool)
	Fleet(ref api.Ref) (*api.Fleet, bool)
	// Instances yields the instances of a service, or of all with "".
	Instances(service string) iter.Seq[*api.Instance]
	// InstancesOn yields the instances that are placed on a node, on none with "".
	InstancesOn(node string) iter.Seq[*api.Instance]
}

var _ View = (*state.View)(nil)

// Leases tells which nodes may still be running the instances of services whose
// on_disconnect is stop, although nobody hears of them.
type Leases interface {
	// Ended reports whether the node has provably stopped such instances by itself.
	Ended(node string, now time.Time) bool
}

// Plan returns the placements that bring the cluster closer to what is declared: of
// instances that are on no node, or on one that is lost, and of the next one of every
// node that is being drained. What is well where it is stays there, even where better
// nodes have come up since or its rules have changed. Nil leases never end.
func Plan(v View, now time.Time, leases Leases) []state.Placement {
	p := newPlanner(v, now, leases)
	if p.settled() {
		return nil
	}
	p.run()
	return p.placements
}

// NextDeadline returns the earliest time after now at which the same view could give
// another plan: when the instances of a node that is down are to be replaced. The end
// of a lease is not among them: whoever keeps the leases knows it.
func NextDeadline(v View, now time.Time) (next time.Time, ok bool) {
	for n := range v.Nodes() {
		if n.Status == api.NodeDown && now.Before(n.Deadline) && (!ok || n.Deadline.Before(next)) {
			next, ok = n.Deadline, true
		}
	}
	return next, ok
}
