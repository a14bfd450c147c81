package leader

import (
	"iter"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// sightings is when this leader has found in the state that a node is down, in this term.
//
// What the state says may be old: it was there before this leader was, or it was written
// into the log by a leader that lost its followers, and committed when they were back. So
// the node is asked again, for as long as it is due from when it was given up to when its
// instances are replaced.
type sightings map[string]sighting

type sighting struct {
	since time.Time // the node's StatusSince: which time that it is down
	at    time.Time // by the leader's own clock
}

// patientView is a view in which the deadlines of nodes that are down count from their
// sighting.
type patientView struct {
	*state.View
	deadlines map[string]time.Time
}

// look notes which nodes are down in v. Now is the time of deadlines, at the leader's own.
func (s sightings) look(v *state.View, now, at time.Time) patientView {
	p := patientView{View: v}
	for n := range v.Nodes() {
		if n.Status != api.NodeDown {
			delete(s, n.ID)
			continue
		}
		seen, ok := s[n.ID]
		if !ok || !seen.since.Equal(n.StatusSince) {
			seen = sighting{since: n.StatusSince, at: at}
			s[n.ID] = seen
		}
		if p.deadlines == nil {
			p.deadlines = make(map[string]time.Time)
		}
		due := max(0, n.Deadline.Sub(n.StatusSince)) // there may be no deadline
		p.deadlines[n.ID] = now.Add(due - at.Sub(seen.at))
	}
	return p
}

// Nodes implements [schedule.View].
func (p patientView) Nodes() iter.Seq[*api.Node] {
	if len(p.deadlines) == 0 {
		return p.View.Nodes()
	}
	return func(yield func(*api.Node) bool) {
		for n := range p.View.Nodes() {
			if d, ok := p.deadlines[n.ID]; ok {
				down := *n
				down.Deadline = d
				n = &down
			}
			if !yield(n) {
				return
			}
		}
	}
}
