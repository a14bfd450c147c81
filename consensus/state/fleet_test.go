package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestFleetLifeCycle(t *testing.T) {
	d := drive(t)
	d.fails(putFleet("app", "f", 1), api.CodeNotFound)
	d.must(putService(testService("app")))
	d.must(putService(testService("zoo")))
	is := func(want string) {
		t.Helper()
		if got := refs(d.View()); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		checkConsistent(t, d.View())
	}
	f := d.must(putFleet("app", "f", 2, func(f *api.Fleet) { f.Weight = ptr(40) })).(*api.Fleet)
	is("app:f-0 app:f-1")
	i, _ := d.View().Instance(ref("app", "f-1"))
	if i.Fleet != "f" || i.Source != api.SourceFleet || i.EffectiveWeight() != 40 || i.Desired != api.DesiredRunning ||
		i.Revision != f.Revision || !i.CreatedAt.Equal(f.CreatedAt) {
		t.Errorf("got %+v", i)
	}
	d.must(describe("n1"))
	d.must(place(Placement{Ref: ref("app", "f-0"), Node: "n1", Generation: 1}))
	before := d.View()
	if d.must(putFleet("app", "f", 2, func(f *api.Fleet) { f.Weight = ptr(40) })); d.View() != before {
		t.Error("the same fleet again changed something")
	}
	d.must(putFleet("app", "f", 12))
	if i, _ := d.View().Instance(ref("app", "f-0")); i.Node != "n1" || i.EffectiveWeight() != 100 || i.Revision != d.View().Index() {
		t.Errorf("after another weight: got %+v", i)
	}
	d.must(putFleet("app", "f", 3))
	is("app:f-0 app:f-1 app:f-2")
	d.must(putFleet("app", "f-1", 1))
	d.must(putFleet("zoo", "f", 1))
	is("app:f-0 app:f-1 app:f-1-0 app:f-2 zoo:f-0")
	var names string
	for f := range d.View().Fleets("app") {
		names += f.Ref().String() + " "
	}
	for f := range d.View().Fleets("") {
		names += f.Ref().String() + " "
	}
	if want := "app:f app:f-1 app:f app:f-1 zoo:f "; names != want {
		t.Errorf("got fleets %s, want %s", names, want)
	}
	d.must(putFleet("app", "f", 0))
	is("app:f-1-0 zoo:f-0")
	d.fails(Command{DeleteFleet: &DeleteFleet{Ref: ref("app", "f-1"), IfMatch: ptr(uint64(1))}}, api.CodeStaleRevision)
	d.must(Command{DeleteFleet: &DeleteFleet{Ref: ref("app", "f-1")}})
	d.fails(Command{DeleteFleet: &DeleteFleet{Ref: ref("app", "f-1")}}, api.CodeNotFound)
	is("zoo:f-0")
	d.must(Command{DeleteService: &DeleteService{Name: "zoo"}})
	is("")
	if _, ok := d.View().Fleet(ref("zoo", "f")); ok {
		t.Error("a service took not its fleet with it")
	}
}

func TestFleetEvents(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(putFleet("app", "f", 1))
	d.must(Command{DeleteService: &DeleteService{Name: "app"}})
	events, _, _ := d.Events(1)
	got := ""
	for _, e := range events {
		got += fmt.Sprint(e.Index, " ", e.Type, " ", e.Key, " ", e.Fleet != nil, "\n")
	}
	want := "2 fleet.updated app:f true\n2 instance.updated app:f-0 false\n" +
		"3 instance.deleted app:f-0 false\n3 fleet.deleted app:f false\n3 service.deleted app false\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFleetRefuses(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 4 })))
	d.must(putInstance(testInstance("app", "f-2")))
	msg := d.fails(putFleet("app", "f", 3), api.CodeConflict)
	if want := "scale fleet app:f to 3: instance app:f-2 exists and is not the fleet's"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(putFleet("app", "f", 2))
	msg = d.fails(putFleet("app", "g", 2), api.CodeConflict)
	if want := "scale fleet app:g to 2: service app has 3 other instances, its max_instances is 4"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.fails(putFleet("app", "f", 2, func(f *api.Fleet) { f.Name = "" }), api.CodeInvalid)
	d.fails(putFleet("app", "f", -1), api.CodeInvalid)
	d.fails(putFleet("app", "f", maxReplicas+1), api.CodeInvalid)
	// A fleet that is over a limit which came later may stay, or shrink.
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 1 })))
	d.must(putFleet("app", "f", 2, func(f *api.Fleet) { f.Weight = ptr(1) }))
	d.fails(putFleet("app", "f", 3), api.CodeConflict)
	d.must(putFleet("app", "f", 1))
}

func TestMembersBelongToTheirFleet(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(putFleet("app", "f", 1, func(f *api.Fleet) { f.Weight = ptr(40) }))
	member := func(change func(*api.Instance)) Command {
		return putInstance(testInstance("app", "f-0", func(i *api.Instance) {
			i.Weight, i.Fleet, i.Source = ptr(40), "f", api.SourceFleet
			change(i)
		}))
	}
	msg := d.fails(member(func(i *api.Instance) { i.Weight = ptr(1) }), api.CodeConflict)
	if want := "change fleet, pin or weight of instance app:f-0: it is a member of fleet app:f: change or scale the fleet"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.fails(member(func(i *api.Instance) { i.Pin = "n1" }), api.CodeConflict)
	d.fails(member(func(i *api.Instance) { i.Fleet = "g" }), api.CodeConflict)
	d.fails(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "f-0")}}, api.CodeConflict)
	d.fails(Command{SyncFile: &SyncFile{Node: "n1", Instances: []api.Ref{ref("app", "f-0")}}}, api.CodeConflict)
	msg = d.fails(putInstance(testInstance("app", "f-1", func(i *api.Instance) { i.Fleet = "f" })), api.CodeConflict)
	if want := "put instance app:f-1: only scaling fleet app:f makes members of it"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	// As clients write it that know nothing of fleets.
	i := d.must(member(func(i *api.Instance) { i.Desired, i.Fleet, i.Source = api.DesiredStopped, "", api.SourceAPI })).(*api.Instance)
	if i.Desired != api.DesiredStopped || i.Fleet != "f" || i.Source != api.SourceFleet || i.Revision != d.View().Index() {
		t.Errorf("got %+v", i)
	}
	d.must(putFleet("app", "f", 2, func(f *api.Fleet) { f.Weight = ptr(7) }))
	if i, _ := d.View().Instance(ref("app", "f-0")); i.Desired != api.DesiredStopped || i.EffectiveWeight() != 7 {
		t.Errorf("got %+v", i)
	}
}

// The largest fleet there may be comes and goes in one command each.
func TestLargestFleet(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 1_000_000 })))
	for _, replicas := range []int{api.MaxReplicas, 0} {
		start := time.Now()
		d.must(putFleet("app", "f", replicas))
		t.Logf("to %d replicas: %s", replicas, time.Since(start))
		if got := d.View().InstanceCount("app"); got != replicas {
			t.Errorf("got %d instances, want %d", got, replicas)
		}
	}
}
