package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/fence"
	"github.com/tenement-fleet/tenement/server/peering"
)

// A node may run the instances of a service whose on_disconnect is stop only while it
// holds a lease. It counts the lease from before it asked, the leader from after it
// answered, and the leader answers only after a quorum has said, since it was asked,
// that it still leads. So no clock is compared with another one.
const (
	leaseTerm = 10 * time.Second
	leaseAsk  = leaseTerm / 4
	// leaseGrace bounds how long such an instance may take to stop once the lease has
	// ended. The leader counts the term longer by that, and by the time that a kill takes;
	// it adds a margin for clocks that run at different speeds.
	leaseGrace = 5 * time.Second
	leaseEnd   = leaseTerm + leaseGrace + 2*time.Second
	// leaseKill is how long after the lease's end a guard ends what still runs.
	leaseKill = leaseGrace + time.Second
)

// lease is this node's.
type lease struct {
	node   leaseNode
	client *peering.Client
	log    *slog.Logger
	// now is the time since the machine was booted; it goes on while that is suspended.
	now   func() time.Duration
	until atomic.Int64 // a time of now; 0 never
	// fence ends what outlives the lease when this process can't; nil on the nodes of tests.
	fence *fence.Fence
	// fences reports whether something may run here that needs a lease, whatever its service
	// says by now.
	fences func() bool
}

// leaseNode is the part of [consensus.Node] that a lease rests on.
type leaseNode interface {
	viewer
	IsLeader() bool
	Leader() (id, address string, ok bool)
	GrantLease(ctx context.Context, node string) error
	ConsistentView(ctx context.Context) (*state.View, error)
}

func newLease(node leaseNode, client *peering.Client, log *slog.Logger) *lease {
	return &lease{node: node, client: client, log: log, now: fence.Now, fences: func() bool { return true }}
}

func (l *lease) held() bool { return l.left() > 0 }

// left is how long it is held still.
func (l *lease) left() time.Duration { return time.Duration(l.until.Load()) - l.now() }

// resume has what runs here since before this process guarded at once: when its lease has
// ended already, it is ended before anything is waited for.
func (l *lease) resume(runDir string) error {
	if l.fence == nil {
		return nil
	}
	if l.alone() {
		return l.fence.Rest()
	}
	found, err := agent.AnyFenced(runDir, agent.BootID())
	if err == nil && found {
		err = l.fence.Watch()
	}
	if err != nil {
		return fmt.Errorf("guard programs that must not run twice: %w", err)
	}
	return nil
}

// alone reports whether there is no other node that anything could run on twice.
func (l *lease) alone() bool {
	n := 0
	for range l.node.View().Nodes() {
		n++
	}
	return n < 2
}

// guard has the guard know of a lease that is about to be held.
func (l *lease) guard(until time.Duration) error {
	switch {
	case l.fence == nil:
		return nil
	case l.alone():
		return l.fence.Rest()
	default:
		return l.fence.Extend(until + leaseKill)
	}
}

// rest says that there is nothing here that needs a lease.
func (l *lease) rest() {
	if l.fence == nil {
		return
	}
	if err := l.fence.Rest(); err != nil {
		l.log.Warn("the guard of leases does not rest", "error", err)
	}
}

// close leaves what runs here to the guard.
func (l *lease) close() error {
	if l.fence == nil {
		return nil
	}
	if !l.fences() {
		l.rest()
	}
	return l.fence.Close()
}

// begin takes the lease before the first look at what runs here, if anything needs one.
// Without it what a crash has left running would be stopped, although nobody may replace
// it yet.
func (l *lease) begin(ctx context.Context) {
	for end := time.Now().Add(leaseTerm / 2); l.needed() && !l.held() && time.Now().Before(end); {
		l.renew(ctx)
		if l.held() {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// run keeps the lease while this node has instances that need one. Changed is called
// whenever it was gained or lost.
func (l *lease) run(ctx context.Context, changed func()) {
	held := l.held()
	for {
		if l.needed() {
			l.renew(ctx)
		} else {
			l.rest()
		}
		if now := l.held(); now != held {
			held = now
			changed()
		}
		wait := leaseAsk
		if held {
			wait = min(wait, l.left()) // to notice its end at once
		}
		select {
		case <-time.After(max(wait, 10*time.Millisecond)):
		case <-ctx.Done():
			return
		}
	}
}

// needed reports whether anything here must not run without a lease.
func (l *lease) needed() bool {
	v := l.node.View()
	for s := range v.Services() {
		if s.Disconnect() == api.DisconnectStop {
			return true
		}
	}
	return l.fences()
}

func (l *lease) renew(ctx context.Context) {
	began := l.now()
	ctx, cancel := context.WithTimeout(ctx, leaseAsk)
	defer cancel()
	var err error
	if l.node.IsLeader() {
		err = l.node.GrantLease(ctx, l.node.ID())
	} else if leader, _, ok := l.node.Leader(); ok {
		err = l.client.Lease(ctx, leader)
	} else {
		return
	}
	if err == nil {
		// A node that was cut off must not start anew what has been given to another since:
		// the lease is good once this node knows what the leader knew when it granted it.
		_, err = l.node.ConsistentView(ctx)
	}
	if err != nil {
		return
	}
	if err := l.guard(began + leaseTerm); err != nil {
		l.log.Error("no lease without a guard: what must never run twice does not run here", "error", err)
		return
	}
	l.until.Store(int64(began + leaseTerm))
}
