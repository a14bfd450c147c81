package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
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
)

// lease is this node's.
type lease struct {
	node   leaseNode
	client *peering.Client
	until  atomic.Pointer[time.Time] // by the monotonic clock
}

// leaseNode is the part of [consensus.Node] that a lease rests on.
type leaseNode interface {
	viewer
	IsLeader() bool
	Leader() (id, address string, ok bool)
	GrantLease(ctx context.Context, node string) error
	ConsistentView(ctx context.Context) (*state.View, error)
}

func newLease(node leaseNode, client *peering.Client) *lease {
	return &lease{node: node, client: client}
}

func (l *lease) held() bool {
	until := l.until.Load()
	return until != nil && time.Now().Before(*until)
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
		}
		if now := l.held(); now != held {
			held = now
			changed()
		}
		wait := leaseAsk
		if until := l.until.Load(); held && until != nil {
			wait = min(wait, time.Until(*until)) // to notice its end at once
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
	return false
}

func (l *lease) renew(ctx context.Context) {
	began := time.Now()
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
	if err == nil {
		until := began.Add(leaseTerm)
		l.until.Store(&until)
	}
}
