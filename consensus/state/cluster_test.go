package state

import (
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func status(id string, s api.NodeStatus, since, at time.Time) Command {
	return Command{NodeStatus: &NodeStatus{ID: id, Status: s, Reason: "because", At: at, Deadline: at.Add(time.Second), Since: since}}
}

func TestDescribeNode(t *testing.T) {
	d := drive(t)
	n := d.must(describe("n1")).(*api.Node)
	if n.Eligibility != api.EligibilityEligible || n.Status != "" || !n.JoinedAt.Equal(at(0)) {
		t.Errorf("new: got %+v", n)
	}
	d.must(Command{SetNode: &SetNode{ID: "n1", Eligibility: api.EligibilityDraining}})
	d.must(status("n1", api.NodeDown, time.Time{}, at(5)))
	lies := describe("n1", func(n *api.Node) {
		n.Zone, n.Eligibility, n.Status, n.StatusReason = "z", api.EligibilityEligible, api.NodeUp, "fine"
	})
	again := d.must(lies).(*api.Node)
	if again.Zone != "z" || again.Eligibility != api.EligibilityDraining || again.Status != api.NodeDown ||
		again.StatusReason != "because" || !again.StatusSince.Equal(at(5)) || !again.Deadline.Equal(at(6)) || !again.JoinedAt.Equal(at(0)) {
		t.Errorf("again: got %+v", again)
	}
	before := d.View()
	if d.must(lies); d.View() != before {
		t.Error("the same words changed something")
	}
	born := d.must(describe("n2", func(n *api.Node) { n.Status, n.Eligibility = api.NodeDown, "" })).(*api.Node)
	if born.Status != "" || born.Eligibility != api.EligibilityEligible {
		t.Errorf("got %+v", born)
	}
	d.fails(describe(""), api.CodeInvalid)
}

func TestNodeNamesAreTheirOwn(t *testing.T) {
	d := drive(t)
	named := func(id string) Command { return describe(id, func(n *api.Node) { n.Name = "one" }) }
	d.must(named("n1"))
	msg := d.fails(named("n2"), api.CodeConflict)
	if want := "describe node n2: its name one is that of node n1, which is up"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(status("n1", api.NodeLeft, time.Time{}, at(1)))
	d.must(named("n2"))
	d.fails(named("n1"), api.CodeConflict)
}

func TestSetNode(t *testing.T) {
	d := drive(t)
	set := func(match *uint64) Command {
		return Command{SetNode: &SetNode{ID: "n1", Eligibility: api.EligibilityCordoned, IfMatch: match}}
	}
	d.fails(set(nil), api.CodeNotFound)
	d.must(describe("n1"))
	d.fails(set(ptr(uint64(9))), api.CodeStaleRevision)
	n := d.must(set(ptr(uint64(1)))).(*api.Node)
	if n.Eligibility != api.EligibilityCordoned || n.Revision != 2 || n.StateVersion != StateVersion {
		t.Errorf("got %+v", n)
	}
	before := d.View()
	if d.must(set(nil)); d.View() != before {
		t.Error("the same again changed something")
	}
}

func TestNodeStatus(t *testing.T) {
	d := drive(t)
	d.fails(status("n1", api.NodeDown, time.Time{}, at(1)), api.CodeNotFound)
	d.must(describe("n1"))
	never := time.Time{}
	for _, step := range []struct {
		name   string
		c      Command
		change bool
		want   api.NodeStatus
	}{
		{"up of one that never had a status", status("n1", api.NodeUp, never, at(10)), false, ""},
		{"based on what was not", status("n1", api.NodeDown, at(3), at(11)), false, ""},
		{"down", status("n1", api.NodeDown, never, at(12)), true, api.NodeDown},
		{"down once more", status("n1", api.NodeDown, at(12), at(13)), false, api.NodeDown},
		{"a stale up", status("n1", api.NodeUp, never, at(14)), false, api.NodeDown},
		{"up", status("n1", api.NodeUp, at(12), at(15)), true, api.NodeUp},
		{"a stale down", status("n1", api.NodeDown, at(12), at(16)), false, api.NodeUp},
		{"left", status("n1", api.NodeLeft, at(15), at(17)), true, api.NodeLeft},
		{"down after it left", status("n1", api.NodeDown, at(17), at(18)), true, api.NodeDown},
	} {
		before := d.View()
		n := d.must(step.c).(*api.Node)
		if changed := d.View() != before; changed != step.change || n.Status != step.want {
			t.Fatalf("%s: changed %v, got %+v", step.name, changed, n)
		}
		if changed := step.change; changed && !n.StatusSince.Equal(step.c.NodeStatus.At) {
			t.Fatalf("%s: got %+v", step.name, n)
		}
		if up := n.Reachable(); up != (n.StatusReason == "") || up != n.Deadline.IsZero() {
			t.Fatalf("%s: got %+v", step.name, n)
		}
	}
}

func TestDeleteNode(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	for _, id := range []string{"n1", "n2", "n3"} {
		d.must(describe(id))
	}
	for _, id := range []string{"a", "b", "c"} {
		d.must(putInstance(testInstance("app", id)))
		d.must(place(Placement{Ref: ref("app", id), Node: "n1", Generation: 1}))
		d.must(report("n1", seen(ref("app", id), 1, api.StateRunning)))
	}
	d.must(place(
		Placement{Ref: ref("app", "b"), Node: "n2", Generation: 2, KeepPrevious: true},
		Placement{Ref: ref("app", "c"), Node: "n2", Generation: 2},
	))
	remove := Command{DeleteNode: &DeleteNode{ID: "n1"}}
	msg := d.fails(remove, api.CodeConflict)
	if want := "remove node n1: it is up and has 1 instances: drain it first"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(status("n1", api.NodeDown, time.Time{}, at(50)))
	d.fails(Command{DeleteNode: &DeleteNode{ID: "n1", IfMatch: ptr(uint64(1))}}, api.CodeStaleRevision)
	d.must(remove)
	for id, want := range map[string]string{"a": "", "b": "n2", "c": "n2"} {
		i, _ := d.View().Instance(ref("app", id))
		if i.Node != want || i.Previous != nil || i.DataNode != "" || i.Generation == 0 {
			t.Errorf("got %+v, want it on %q and nothing of n1", i, want)
		}
	}
	if _, ok := d.View().Node("n1"); ok || d.View().InstanceCountOn("n1") != 0 {
		t.Error("the node is still there")
	}
	d.fails(remove, api.CodeNotFound)
	d.must(Command{DeleteNode: &DeleteNode{ID: "n3"}}) // up, and has none
	checkConsistent(t, d.View())

	// Data that are on a third node stay there.
	d.must(report("n2", seen(ref("app", "b"), 2, api.StateRunning)))
	d.must(describe("n4"))
	d.must(place(Placement{Ref: ref("app", "b"), Node: "n4", Generation: 3}))
	d.must(status("n4", api.NodeDown, time.Time{}, at(60)))
	d.must(Command{DeleteNode: &DeleteNode{ID: "n4"}})
	if b, _ := d.View().Instance(ref("app", "b")); b.Node != "" || b.DataNode != "n2" || b.Generation != 3 {
		t.Errorf("got %+v", b)
	}
}

func TestInstancesOn(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(describe("n1"))
	d.must(describe("n10"))
	for n, id := range []string{"a", "b", "c", "d"} {
		d.must(putInstance(testInstance("app", id)))
		if n < 3 {
			d.must(place(Placement{Ref: ref("app", id), Node: []string{"n1", "n10", "n1"}[n], Generation: 1}))
		}
	}
	for node, want := range map[string]string{"n1": "ac", "n10": "b", "": "d", "n": ""} {
		got := ""
		for i := range d.View().InstancesOn(node) {
			got += i.ID
		}
		if got != want || node != "" && d.View().InstanceCountOn(node) != len(want) {
			t.Errorf("on %q: got %s and %d, want %s", node, got, d.View().InstanceCountOn(node), want)
		}
	}
}
