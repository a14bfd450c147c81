// Package leader does what only the leader of the cluster does: it keeps the state
// moving from what is declared to what is placed.
package leader

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/consensus/schedule"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Cluster is what the leader's work needs of consensus.
type Cluster interface {
	// Leadership reports whether this node leads, and returns a channel that is closed
	// when that has changed, if only for a moment.
	Leadership() (leading bool, changed <-chan struct{})
	// Barrier returns once everything committed before it has been applied here.
	Barrier(ctx context.Context) error
	View() *state.View
	Place(ctx context.Context, placements []state.Placement) error
}

// BatchSize is how many placements go into one command.
const BatchSize = 1000

// Pause before work that failed is tried again: after losing a race, on a full disk.
const retryPause = time.Second

// Run leads whenever this node is the leader, until ctx ends.
func Run(ctx context.Context, c Cluster, log *slog.Logger) {
	for ctx.Err() == nil {
		leading, changed := c.Leadership()
		if leading {
			lead(ctx, changed, c, log)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// lead is one term of leadership, from the barrier to the moment that changed is
// closed: whatever a leader does runs in this scope and ends with it.
func lead(ctx context.Context, changed <-chan struct{}, c Cluster, log *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-lost }()

	for ctx.Err() == nil {
		err := c.Barrier(ctx)
		if err == nil {
			log.Debug("leading", "index", c.View().Index())
			err = reconcile(ctx, c)
		}
		if ctx.Err() != nil {
			return
		}
		log.Warn("leader's work failed, trying again", "error", err, "in", retryPause)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// reconcile plans and places on every change, until something fails or ctx ends.
func reconcile(ctx context.Context, c Cluster) error {
	for {
		v := c.View()
		for batch := range slices.Chunk(schedule.Plan(v, time.Now(), nil), BatchSize) {
			if err := c.Place(ctx, batch); err != nil {
				return err
			}
		}
		// What has changed meanwhile, our own placements included, has closed this
		// already: the next round sees all of it at once.
		select {
		case <-v.Changed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
