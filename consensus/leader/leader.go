// Package leader does what only the leader of the cluster does: it watches the nodes, and
// keeps the state moving from what is declared to what is placed.
package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Cluster is what the leader's work needs of consensus. Its writes return once they are
// applied here.
type Cluster interface {
	// ID returns this node's id.
	ID() string
	// Leadership reports whether this node leads, and returns a channel that is closed
	// when that has changed, if only for a moment.
	Leadership() (leading bool, changed <-chan struct{})
	// PreviousLeader returns the id of the leader before this node and when it was last
	// heard of; "" if there was none.
	PreviousLeader() (id string, contact time.Time)
	// Barrier returns once everything committed before it has been applied here.
	Barrier(ctx context.Context) error
	View() *state.View
	Place(ctx context.Context, placements []state.Placement) error
	EndMove(ctx context.Context, move state.EndMove) error
	SetNodeStatus(ctx context.Context, status state.NodeStatus) error
	// LeaseEnded reports whether a node has provably stopped by itself what it must not
	// run while it is cut off.
	LeaseEnded(node string, now time.Time) bool
}

// Prober reaches the nodes.
type Prober interface {
	// Ping returns nil once the node has answered. [ErrRefused] is in the error if the
	// machine answers and the process does not.
	Ping(ctx context.Context, node string) error
}

// ErrRefused is wrapped by the errors of probes to which a machine answered that nobody
// listens there: the process has ended. A slow machine does not say that.
var ErrRefused = errors.New("refused")

// Config is what Run needs. Zero times take the defaults.
type Config struct {
	Cluster Cluster
	Prober  Prober // nil: nodes are not watched
	Logger  *slog.Logger
	Times   Times
	Now     func() time.Time // the clock of deadlines and leases, Cluster's; default: time.Now
}

// Times say how patient the leader is.
type Times struct {
	// ProbeEvery is the pause between two probes of a node, ProbeTimeout how long one waits.
	ProbeEvery, ProbeTimeout time.Duration
	// A node is down when its machine has refused connections for Refused, or when it has
	// not answered for Silent, or for Left after it said that it would be back.
	Refused, Silent, Left time.Duration
	// Grace is how long after that its instances are replaced, and how long a leader that
	// finds it down, for another gave it up, asks it itself before.
	Grace time.Duration
}

// DefaultTimes returns the times that suit a network, and machines that are starved for
// a while: a process that ended is replaced after 3.5 s, a machine that went silent after
// 7.5 s.
func DefaultTimes() Times {
	return Times{
		ProbeEvery: 500 * time.Millisecond, ProbeTimeout: 2 * time.Second,
		Refused: 2 * time.Second, Silent: 6 * time.Second, Left: 5 * time.Minute,
		Grace: 1500 * time.Millisecond,
	}
}

// BatchSize is how many placements go into one command.
const BatchSize = 1000

// Pause before work that failed is tried again: after losing a race, on a full disk.
const retryPause = time.Second

// Run leads whenever this node is the leader, until ctx ends.
func Run(ctx context.Context, cfg Config) {
	if cfg.Times == (Times{}) {
		cfg.Times = DefaultTimes()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for ctx.Err() == nil {
		leading, changed := cfg.Cluster.Leadership()
		if leading {
			lead(ctx, changed, cfg)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// lead is one term of leadership, from the barrier to the moment that changed is
// closed: whatever a leader does runs in this scope and ends with it.
func lead(ctx context.Context, changed <-chan struct{}, cfg Config) {
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

	seen := sightings{}
	for ctx.Err() == nil {
		err := cfg.Cluster.Barrier(ctx)
		if err == nil {
			cfg.Logger.Debug("leading", "index", cfg.Cluster.View().Index())
			err = work(ctx, cfg, seen)
		}
		if ctx.Err() != nil {
			return
		}
		cfg.Logger.Warn("leader's work failed, trying again", "error", err, "in", retryPause)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// work does everything at once until one thing fails or ctx ends.
func work(ctx context.Context, cfg Config, seen sightings) error {
	ctx, cancel := context.WithCancelCause(ctx)
	clock := newClock(cfg.Cluster.View(), cfg.Now)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if cfg.Prober != nil {
			cancel(guarded(func() error { return watchNodes(ctx, cfg, clock) }))
		}
	}()
	err := guarded(func() error { return reconcile(ctx, cfg, clock, seen) })
	cancel(err)
	<-watched
	return context.Cause(ctx)
}

// guarded turns a panic into an error: a mistake in planning must not end the process
// that serves requests, and then the next leader's, one after the other.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// clock tells the time for the deadlines that are in the state. They were written by
// another leader's clock, perhaps. A time in the state that lies in the future proves
// that this node's clock is behind that one: it counts from there, so that nothing
// waits for a day because a clock is a day off. A clock that is ahead shortens nothing:
// deadlines count from their [sightings].
type clock struct {
	source func() time.Time
	began  time.Time // has a monotonic reading
	base   time.Time
}

func newClock(v *state.View, source func() time.Time) clock {
	c := clock{source: source, began: source()}
	c.base = c.began.Round(0).UTC()
	for n := range v.Nodes() {
		if n.StatusSince.After(c.base) {
			c.base = n.StatusSince
		}
	}
	return c
}

func (c clock) now() time.Time { return c.base.Add(c.source().Sub(c.began)) }

// leases adapts Cluster to what the planner asks.
type leases struct {
	Cluster
	now func() time.Time
}

// Ended implements schedule.Leases. The planner's time is that of deadlines, a lease is
// counted on this node alone.
func (l leases) Ended(node string, _ time.Time) bool { return l.LeaseEnded(node, l.now()) }

// movedFrom reports whether the node that an instance still runs on, while it moves, is
// lost, so that nothing is to be waited for there.
func movedFrom(v *state.View, i *api.Instance) bool {
	n, ok := v.Node(i.Previous.Node)
	return !ok || !n.Reachable()
}
