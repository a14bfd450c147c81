package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/peering"
)

// failing fails every request, or has a server that leaves answer it.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) {
	if f.err != nil {
		return nil, f.err
	}
	w := httptest.NewRecorder()
	err := json.NewEncoder(w).Encode(peering.Pong{Leaving: true})
	return w.Result(), err
}

// TestProber: a node whose connection for probes hangs is not silent if it answers over
// another one; one that refuses connections has ended, whatever it said before.
func TestProber(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		err   error
		heard time.Time
		check func(error) bool
	}{
		"silent":           {context.DeadlineExceeded, time.Time{}, func(err error) bool { return err != nil && !errors.Is(err, leader.ErrRefused) }},
		"heard before":     {context.DeadlineExceeded, now.Add(-time.Second), func(err error) bool { return err != nil }},
		"heard meanwhile":  {context.DeadlineExceeded, now.Add(time.Second), func(err error) bool { return err == nil }},
		"leaving":          {nil, now.Add(time.Second), func(err error) bool { return errors.Is(err, errLeaving) }},
		"refused and told": {transport.ErrRefused, now.Add(time.Second), func(err error) bool { return errors.Is(err, leader.ErrRefused) }},
	} {
		p := prober{
			client: &peering.Client{Probe: func(string) *http.Client { return &http.Client{Transport: failing{tt.err}} }},
			heard:  func(string) time.Time { return tt.heard },
			now:    func() time.Time { return now },
		}
		if err := p.Ping(t.Context(), "a"); !tt.check(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKnows: a node of the cluster is one that the state holds, or Raft; a removed one is
// in neither.
func TestKnows(t *testing.T) {
	m := member{&node{consensus: openConsensus(t), now: time.Now}}
	if !m.Knows(m.consensus.ID()) || m.Knows("") || m.Knows(stranger) {
		t.Error("it does not know itself, or knows a stranger")
	}
	joins := api.Node{ID: stranger, Name: "b", PeerAddress: "127.0.0.1:1", StateVersion: state.StateVersion}
	if _, err := m.consensus.DescribeNode(t.Context(), joins); err != nil {
		t.Fatal(err)
	}
	if !m.Knows(stranger) {
		t.Error("it does not know a node that only the state holds")
	}
	// So Raft may take it up again: it was on the way to a new address.
	if err := m.admit(t.Context(), peering.JoinRequest{Node: joins, Moves: true}); err != nil {
		t.Error(err)
	}
	if err := m.consensus.RemoveMember(t.Context(), stranger, true); err != nil {
		t.Fatal(err)
	}
	if m.Knows(stranger) {
		t.Error("it still knows a node that was removed")
	}
}

const stranger = "00000000-0000-4000-8000-000000000003"

// TestRemovedIsTold: only who leads removes others.
func TestRemovedIsTold(t *testing.T) {
	m := member{&node{consensus: openConsensus(t), removed: make(chan struct{})}}
	if err := m.Removed(stranger); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("the leader is told that it has been removed: %v", err)
	}
	select {
	case <-m.removed:
		t.Error("it believes that")
	default:
	}
	for range 2 {
		if err := m.Removed(m.consensus.ID()); err != nil {
			t.Error(err)
		}
	}
	<-m.removed
}

// TestRemovedDoesNotMoveBack: a node that was removed while it was stopped, and starts at a
// new address, is not made a member again under its old id; one that Raft has lost on the
// way to a new address is.
func TestRemovedDoesNotMoveBack(t *testing.T) {
	m := member{&node{consensus: openConsensus(t), log: slog.New(slog.DiscardHandler), now: time.Now}}
	req := peering.JoinRequest{
		ClusterID: m.consensus.ClusterID(), Moves: true,
		Node: api.Node{ID: stranger, Name: "gone", PeerAddress: "127.0.0.1:1", Status: api.NodeDown},
	}
	if err := m.admit(t.Context(), req); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "move its data directory away") {
		t.Errorf("got %v", err)
	}
	if m.Knows(stranger) {
		t.Error("it is a member again")
	}
}
