package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/server/peering"
)

// grantingNode is granted every lease, but may not know yet what the leader knew then.
type grantingNode struct {
	heldState
	behind error
}

func (grantingNode) IsLeader() bool                           { return true }
func (grantingNode) Leader() (id, address string, ok bool)    { return "n1", "", true }
func (grantingNode) GrantLease(context.Context, string) error { return nil }

func (n grantingNode) ConsistentView(context.Context) (*state.View, error) { return n.View(), n.behind }

// TestLeaseNeedsTheState: a node that was cut off is granted a lease the moment it is back,
// and must not hold it before it knows what was given to others meanwhile.
func TestLeaseNeedsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := grantingNode{moved(t), errors.New("the state is old still")}
		l := newLease(&node, nil, slog.New(slog.DiscardHandler))
		booted := time.Now()
		l.now = func() time.Duration { return time.Since(booted) }
		l.renew(t.Context())
		if l.held() {
			t.Error("it is held by a node that does not know what the leader knew")
		}
		node.behind = nil
		l.renew(t.Context())
		time.Sleep(leaseTerm - time.Nanosecond)
		if !l.held() {
			t.Error("it is not held, or not as long as it was granted for")
		}
		node.behind = errors.New("cut off again")
		l.renew(t.Context())
		if time.Sleep(time.Nanosecond); l.held() {
			t.Error("it has not ended")
		}
	})
}

// leasing answers what other nodes ask about leases.
type leasing struct {
	peering.Node
	ended map[string]bool
	err   error
}

func (leasing) Knows(string) bool { return true }

func (l leasing) LeaseEnded(_ context.Context, node string) (bool, error) {
	return l.ended[node], l.err
}

// TestLeaseEndedElsewhere: the leader's word about a lease reaches the node that asks.
func TestLeaseEndedElsewhere(t *testing.T) {
	answers := leasing{ended: map[string]bool{"a/b": true}}
	c := peering.Client{To: func(string) *http.Client {
		return &http.Client{Transport: answering{peering.Handler(peering.Config{Node: answers, Runtime: local{}})}}
	}}
	for node, want := range map[string]bool{"a/b": true, "c": false} {
		if got, err := c.LeaseEnded(t.Context(), "leader", node); got != want || err != nil {
			t.Errorf("%s: %t, %v", node, got, err)
		}
	}
	answers = leasing{ended: answers.ended, err: consensus.ErrNotLeader}
	if ended, err := c.LeaseEnded(t.Context(), "leader", "a/b"); ended || !errors.Is(err, consensus.ErrNotLeader) {
		t.Errorf("of a node that does not lead: %t, %v", ended, err)
	}
}

// answering is a connection to a handler.
type answering struct{ http.Handler }

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	a.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestLeaseEndedHere: the leader tells, when it still leads.
func TestLeaseEndedHere(t *testing.T) {
	n := &node{consensus: openConsensus(t), now: time.Now}
	if err := n.consensus.GrantLease(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	if ended, err := n.leaseEnded(t.Context(), "n2"); ended || err != nil {
		t.Errorf("at once: %t, %v", ended, err)
	}
	n.now = func() time.Time { return time.Now().Add(time.Hour) }
	if ended, err := n.leaseEnded(t.Context(), "n2"); !ended || err != nil {
		t.Errorf("after an hour: %t, %v", ended, err)
	}
}
