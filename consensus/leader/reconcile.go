package leader

import (
	"context"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/schedule"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// idlePause is how long after a plan that came to nothing the next one is made at the
// earliest: instances that no node can take must not keep the leader busy with every report.
const idlePause = 50 * time.Millisecond

// leasePause is how often it is looked whether a lease has ended, while one matters.
const leasePause = 250 * time.Millisecond

// reconcile plans and places on every change and at every deadline, until something
// fails or ctx ends.
func reconcile(ctx context.Context, cfg Config, clock clock, seen sightings) error {
	c := cfg.Cluster
	for {
		now := clock.now()
		v := seen.look(c.View(), now, cfg.Now())
		plan := schedule.Plan(v, now, leases{c, cfg.Now})
		for batch := range slices.Chunk(plan, BatchSize) {
			if err := c.Place(ctx, batch); err != nil {
				return err
			}
		}
		if err := endMoves(ctx, c, v.View); err != nil {
			return err
		}
		if len(plan) == 0 && stuck(v.View) {
			if err := pause(ctx, idlePause); err != nil {
				return err
			}
		}
		if err := nextChange(ctx, v, clock); err != nil {
			return err
		}
	}
}

// nextChange waits until another plan may come of it. What has changed since v, our own
// placements included, has closed its channel already: the next round sees all of it at
// once.
func nextChange(ctx context.Context, v patientView, clock clock) error {
	var timer <-chan time.Time
	now := clock.now()
	if at, ok := schedule.NextDeadline(v, now); ok {
		timer = time.After(at.Sub(now))
	} else if overdue(v, now) {
		timer = time.After(leasePause)
	}
	select {
	case <-v.Changed():
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stuck reports whether there is an instance that no node took.
func stuck(v *state.View) bool {
	for range v.Unplaced() {
		return true
	}
	return false
}

// overdue reports whether a node is lost and still has instances: of those whose lease
// has not ended, or that nobody else can take.
func overdue(v patientView, now time.Time) bool {
	for n := range v.Nodes() {
		if n.Status == api.NodeDown && !now.Before(n.Deadline) && v.InstanceCountOn(n.ID) > 0 {
			return true
		}
	}
	return false
}

// endMoves ends the moves from nodes that were lost meanwhile.
func endMoves(ctx context.Context, c Cluster, v *state.View) error {
	for i := range v.Moving() {
		if i.Previous == nil || !movedFrom(v, i) {
			continue
		}
		if err := c.EndMove(ctx, state.EndMove{Ref: i.Ref(), Generation: i.Generation}); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
