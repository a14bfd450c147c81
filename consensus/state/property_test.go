package state

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"pgregory.net/rapid"
)

// genCommand draws a command over few names, so that commands meet.
func genCommand(t *rapid.T) Command {
	service := rapid.SampledFrom([]string{"a", "a-b", "b"})
	id := rapid.SampledFrom([]string{"1", "2", "3"})
	nodeID := rapid.SampledFrom([]string{"n1", "n2", "nowhere", ""})
	aRef := func() api.Ref { return ref(service.Draw(t, "service"), id.Draw(t, "id")) }
	match := func() *uint64 {
		return rapid.Ptr(rapid.Uint64Range(0, 30), true).Draw(t, "if-match")
	}
	genService := func() api.Service {
		return testService(service.Draw(t, "name"), func(s *api.Service) {
			s.Health = rapid.SampledFrom([]string{"", "/up"}).Draw(t, "health")
			s.MaxInstances = rapid.IntRange(1, 4).Draw(t, "max")
			s.Env = rapid.MapOfN(rapid.SampledFrom([]string{"X", "Y"}), rapid.String(), 0, 2).Draw(t, "env")
		})
	}
	switch rapid.IntRange(0, 10).Draw(t, "op") {
	case 0:
		return Command{InitCluster: &InitCluster{rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "cluster")}}
	case 1, 2:
		return Command{PutService: &PutService{genService(), match()}}
	case 3:
		return Command{DeleteService: &DeleteService{service.Draw(t, "service"), match()}}
	case 4, 5:
		r := aRef()
		return Command{PutInstance: &PutInstance{testInstance(r.Service, r.ID, func(i *api.Instance) {
			i.Desired = rapid.SampledFrom(api.DesiredStates()).Draw(t, "desired")
			i.Weight = rapid.Ptr(rapid.IntRange(0, 100), true).Draw(t, "weight")
		}), match()}}
	case 6:
		return Command{DeleteInstance: &DeleteInstance{aRef(), match()}}
	case 7:
		return Command{PutNode: &PutNode{testNode(rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"))}}
	case 8:
		p := Placement{Ref: aRef(), Node: nodeID.Draw(t, "node"), Generation: rapid.Uint64Range(0, 3).Draw(t, "generation")}
		return Command{Place: &Place{[]Placement{p, {Ref: aRef(), Node: "n1", Generation: 1}}}}
	case 9:
		r := api.Report{Ref: aRef(), Observed: api.Observed{
			State: rapid.SampledFrom(api.States()).Draw(t, "state"), Since: epoch,
			Generation: rapid.Uint64Range(0, 3).Draw(t, "generation"),
			ExitCode:   rapid.Ptr(rapid.IntRange(0, 255), true).Draw(t, "exit"),
		}}
		return Command{Report: &Report{nodeID.Draw(t, "node"), []api.Report{r}}}
	default:
		sync := &SyncFile{Instances: []api.Ref{aRef(), aRef()}}
		for range rapid.IntRange(0, 2).Draw(t, "services") {
			sync.Services = append(sync.Services, genService())
		}
		return Command{SyncFile: sync}
	}
}

// genLog draws entries of a command or several.
func genLog(t *rapid.T) [][]byte {
	var log [][]byte
	for n := range rapid.IntRange(0, 25).Draw(t, "length") {
		var commands [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "commands") {
			c := genCommand(t)
			c.Time = at(n)
			commands = append(commands, encode(t, c))
		}
		log = append(log, Entry(commands...))
	}
	return log
}

func snapshotOf(t rapid.TB, v *View) []byte {
	var buf bytes.Buffer
	n, err := v.WriteTo(&buf)
	if err != nil || n != int64(buf.Len()) {
		t.Fatalf("write snapshot: %v, %d of %d bytes", err, n, buf.Len())
	}
	return buf.Bytes()
}

// The same log gives the same state and results, in one batch or in many, and through
// a snapshot taken anywhere.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := genLog(t)
		one, batched, restored := New(), New(), New()
		cut := rapid.IntRange(0, len(log)).Draw(t, "cut")
		apply := func(s *Store, entries ...[]byte) (out string) {
			res, err := s.Apply(entries...)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range res {
				for _, r := range entry {
					out += fmt.Sprintln(r.Index, r.Err)
				}
			}
			return out
		}
		single := ""
		for n, e := range log {
			if n == cut {
				if err := restored.Restore(bytes.NewReader(snapshotOf(t, one.View()))); err != nil {
					t.Fatal(err)
				}
			}
			single += apply(one, e)
			if n >= cut {
				apply(restored, e)
			}
		}
		if all := apply(batched, log[:cut]...) + apply(batched, log[cut:]...); all != single {
			t.Fatalf("got %s in a batch, %s alone", all, single)
		}
		if one.View().Hash() != batched.View().Hash() {
			t.Fatal("a batch gives another state")
		}
		if cut < len(log) && one.View().Hash() != restored.View().Hash() {
			t.Fatalf("snapshot and tail give another state:\n%s\n%s", snapshotOf(t, one.View()), snapshotOf(t, restored.View()))
		}
	})
}

// Every field has one writer, failed commands change nothing, and no view ever changes.
func TestOneWriterPerField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		type seen struct {
			view *View
			hash [32]byte
		}
		var views []seen
		for n := range rapid.IntRange(1, 40).Draw(t, "length") {
			c := genCommand(t)
			c.Time = at(n)
			before := s.View()
			views = append(views, seen{before, before.Hash()})
			res := applyOne(t, s, Entry(encode(t, c)))
			after := s.View()
			if res.Err != nil && after != before {
				t.Fatalf("%+v failed with %v and changed the state", c, res.Err)
			}
			select {
			case <-before.Changed():
				if after == before {
					t.Fatal("told of a change that was none")
				}
			default:
				if after != before {
					t.Fatal("a change went untold")
				}
			}
			checkWriters(t, &c, before, after)
			checkConsistent(t, after)
		}
		for _, v := range views {
			if v.view.Hash() != v.hash {
				t.Fatal("a view has changed")
			}
		}
	})
}

func checkWriters(t *rapid.T, c *Command, before, after *View) {
	for i := range after.Instances("") {
		was, ok := before.Instance(i.Ref())
		if !ok {
			if i.Node != "" || i.Generation != 0 || i.Observed != nil {
				t.Fatalf("%s is born placed or observed: %+v", i.Ref(), i)
			}
			continue
		}
		if c.PutInstance == nil && c.SyncFile == nil && (!was.Equal(i) || was.Revision != i.Revision) {
			t.Fatalf("%+v wrote what users write of %s", c, i.Ref())
		}
		if c.Place == nil && c.DeleteService == nil && (was.Node != i.Node || was.Generation != i.Generation) {
			t.Fatalf("%+v wrote the placement of %s", c, i.Ref())
		}
		if c.Report == nil && was.Observed != i.Observed {
			t.Fatalf("%+v wrote what was observed of %s", c, i.Ref())
		}
		if c.SyncFile != nil && (was.Desired != i.Desired || was.EffectiveWeight() != i.EffectiveWeight()) {
			t.Fatalf("the file wrote desired or weight of %s", i.Ref())
		}
	}
}

// checkConsistent compares the indexes and counts with what they are derived from.
func checkConsistent(t rapid.TB, v *View) {
	v.services.check(t)
	v.instances.check(t)
	v.byNode.check(t)
	v.moving.check(t)
	counts, on, moving, members := map[string]int{}, map[string]int{}, 0, 0
	for i := range v.Instances("") {
		counts[i.Service]++
		on[i.Node]++
		if _, ok := v.Service(i.Service); !ok {
			t.Fatalf("%s has no service", i.Ref())
		}
		if at, ok := v.byNode.get(placedOf(i)); !ok || at != i {
			t.Fatalf("%s: not found on its node %q", i.Ref(), i.Node)
		}
		at, ok := v.moving.get(i.Ref())
		if ok != (i.Previous != nil || i.DataNode != "") || ok && at != i {
			t.Fatalf("%+v: moving %v", i, ok)
		}
		if ok {
			moving++
		}
		if i.Previous != nil && i.Previous.Node == i.Node || i.DataNode != "" && i.DataNode == i.Node {
			t.Fatalf("%+v moves from its own node", i)
		}
		if i.Fleet != "" {
			members++
		}
	}
	if v.byNode.len != v.instances.len || v.moving.len != moving {
		t.Fatalf("indexes hold %d and %d, want %d and %d", v.byNode.len, v.moving.len, v.instances.len, moving)
	}
	for n := range v.Nodes() {
		if v.InstanceCountOn(n.ID) != on[n.ID] {
			t.Fatalf("node %s: count %d, has %d", n.ID, v.InstanceCountOn(n.ID), on[n.ID])
		}
		delete(on, n.ID)
	}
	delete(on, "")
	if len(on) > 0 {
		t.Fatalf("instances on nodes that are not there: %v", on)
	}
	for f := range v.Fleets("") {
		if _, ok := v.Service(f.Service); !ok {
			t.Fatalf("fleet %s has no service", f.Ref())
		}
		for n := range f.Replicas {
			i, ok := v.Instance(f.Member(n))
			if !ok || i.Fleet != f.Name || i.EffectiveWeight() != f.EffectiveWeight() || i.Source != api.SourceFleet {
				t.Fatalf("fleet %+v: its member %s is %+v", f, f.Member(n), i)
			}
		}
		members -= f.Replicas
	}
	if members != 0 {
		t.Fatalf("%d members too many", members)
	}
	for s := range v.Services() {
		if counts[s.Name] != v.InstanceCount(s.Name) {
			t.Fatalf("service %s: count %d, has %d", s.Name, v.InstanceCount(s.Name), counts[s.Name])
		}
	}
}
