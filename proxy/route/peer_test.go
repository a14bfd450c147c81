package route

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

func fleetRouter(t rapid.TB) *Router {
	r, err := New(Config{Self: "self"})
	if err != nil {
		t.Fatal(err)
	}
	s := &api.Service{Name: "app", Command: "true"}
	s.SetDefaults()
	r.PutService(s)
	for id, zone := range map[string]string{"self": "z1", "near": "z1", "far": "z2"} {
		r.PutNode(&api.Node{ID: id, Name: id, Zone: zone, PeerAddress: id})
	}
	return r
}

func member(id, node string, weight int) *api.Instance {
	return &api.Instance{Service: "app", ID: id, Node: node, Generation: 1, Weight: &weight, Desired: api.DesiredRunning, Fleet: "f"}
}

func picks(t *testing.T, r *Router, n int) map[string]int {
	t.Helper()
	s, ok := r.Service("app")
	if !ok {
		t.Fatal("no service")
	}
	got := make(map[string]int)
	for range n {
		if p := s.Pick(nil); p != nil {
			got[p.id]++
		}
	}
	return got
}

func TestNearestMemberOfAFleet(t *testing.T) {
	r := fleetRouter(t)
	for i, node := range []string{"self", "self", "near", "far", "far"} {
		r.PutInstance(member(fmt.Sprint("f-", i), node, 60))
	}
	lone := member("lone", "far", 40)
	lone.Fleet = ""
	r.PutInstance(lone)
	check := func(what string, want map[string]int) {
		t.Helper()
		got := picks(t, r, 100)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("all up", map[string]int{"f-0": 30, "f-1": 30, "lone": 40})
	r.Down(api.Ref{Service: "app", ID: "f-0"})
	check("one of two here down", map[string]int{"f-1": 60, "lone": 40})
	r.Down(api.Ref{Service: "app", ID: "f-1"})
	check("none here", map[string]int{"f-2": 60, "lone": 40})
	r.PutNode(&api.Node{ID: "near", Name: "near", Zone: "z1", PeerAddress: "near", Status: api.NodeDown})
	check("none near", map[string]int{"f-3": 30, "f-4": 30, "lone": 40})
	failed := member("f-3", "far", 60)
	failed.Observed = &api.Observed{State: api.StateBackoff, Generation: 1}
	r.PutInstance(failed)
	check("one reported to be down", map[string]int{"f-4": 60, "lone": 40})
	r.PutInstance(member("f-2", "self", 60))
	check("moved here", map[string]int{"f-2": 60, "lone": 40})
}

// A fleet has its share however many members it has.
func TestFleetSharesOneWeight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := fleetRouter(rt)
		members := rapid.IntRange(1, 20).Draw(rt, "members")
		weight, other := rapid.IntRange(1, 100).Draw(rt, "weight"), rapid.IntRange(1, 100).Draw(rt, "other")
		for i := range members {
			r.PutInstance(member(fmt.Sprint("f-", i), "self", weight))
		}
		lone := member("lone", "self", other)
		lone.Fleet = ""
		r.PutInstance(lone)
		s, _ := r.Service("app")
		got := make(map[string]int)
		const rounds = 20
		for range rounds * 100 {
			got[s.Pick(nil).id]++
		}
		share := rounds * 100 * float64(other) / float64(weight+other)
		if d := float64(got["lone"]) - share; d > rounds || d < -rounds {
			rt.Fatalf("the lone instance was chosen %d times, its share is %.1f", got["lone"], share)
		}
		least, most := rounds*100, 0
		for i := range members {
			n := got[fmt.Sprint("f-", i)]
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 {
			rt.Fatalf("members were chosen %d to %d times", least, most)
		}
	})
}

func TestRemoteStates(t *testing.T) {
	now := time.Now()
	r, err := New(Config{Self: "self", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	r.PutService(&api.Service{Name: "app"})
	ref := api.Ref{Service: "app", ID: "x"}
	put := func(node string, change func(*api.Instance)) *Target {
		i := &api.Instance{Service: "app", ID: "x", Node: node, Generation: 2, Desired: api.DesiredRunning}
		if change != nil {
			change(i)
		}
		r.PutInstance(i)
		s, _ := r.Service("app")
		target, _ := s.Target("x")
		return target
	}
	want := func(what string, x *Target, s State) {
		t.Helper()
		if x.State() != s {
			t.Errorf("%s: %s, want %s", what, x.State(), s)
		}
		b, ok := x.Claim()
		if ok != (s == Open) {
			t.Errorf("%s: claimed: %v", what, ok)
		}
		if ok {
			if x.InFlight() != 1 || b == nil {
				t.Errorf("%s: %d in flight, backend %v", what, x.InFlight(), b)
			}
			x.Release(now)
		}
	}
	want("on no node", put("", nil), Asleep)
	want("on an unknown node", put("n2", nil), Down)
	r.PutNode(&api.Node{ID: "n2", PeerAddress: "a"})
	want("on a node that is up", put("n2", nil), Open)
	want("held", put("n2", func(i *api.Instance) { i.Desired = api.DesiredStopped }), Held)
	x := put("n2", nil)
	b, _ := x.Claim()
	x.Release(now)
	b.Peer.Suspect()
	want("suspected", x, Down)
	now = now.Add(suspectFor)
	want("a moment later", x, Open)
	r.PutNode(&api.Node{ID: "n2", PeerAddress: "b"})
	select {
	case <-b.Retired():
	default:
		t.Error("connections to the old address are kept")
	}
	r.PutNode(&api.Node{ID: "n2", PeerAddress: "b", Status: api.NodeDown})
	want("on a node that is down", x, Down)
	r.PutNode(&api.Node{ID: "n2", PeerAddress: "b", Status: api.NodeUp})
	want("back", x, Open)
	want("moving there from here, gate closed", put("n2", func(i *api.Instance) { i.Previous = &api.Previous{Node: "self", Generation: 1} }), Asleep)
	r.Open(ref, api.Endpoint{Network: "tcp", Address: "127.0.0.1:1"})
	want("and open", x, Open)
	if !x.Here() {
		t.Error("not here while it serves here")
	}
	want("moved", put("n2", nil), Open)
	if x.Here() {
		t.Error("here though it has moved")
	}
	r.DeleteNode("n2")
	want("on a node that is gone", x, Down)
}
