package state

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"pgregory.net/rapid"
)

// genCommand draws a command over few names, so that commands meet. What is based on a
// version of the state often fits v.
func genCommand(t *rapid.T, v *View) Command {
	service := rapid.SampledFrom([]string{"a", "a-b", "b"})
	id := rapid.SampledFrom([]string{"1", "2", "f-0", "f-1"})
	nodeID := rapid.SampledFrom([]string{"n1", "n1", "n2", "n3", "nowhere", ""})
	aRef := func() api.Ref { return ref(service.Draw(t, "service"), id.Draw(t, "id")) }
	match := func() *uint64 {
		return rapid.Ptr(rapid.Uint64Range(0, 30), true).Draw(t, "if-match")
	}
	generation := func(r api.Ref, next uint64) uint64 {
		if i, ok := v.Instance(r); ok && rapid.IntRange(0, 3).Draw(t, "fits") > 0 {
			return i.Generation + next
		}
		return rapid.Uint64Range(0, 3).Draw(t, "generation")
	}
	genPlacement := func() Placement {
		r := aRef()
		return Placement{Ref: r, Node: nodeID.Draw(t, "node"), Generation: generation(r, 1), KeepPrevious: rapid.Bool().Draw(t, "keep")}
	}
	genService := func() api.Service {
		return testService(service.Draw(t, "name"), func(s *api.Service) {
			s.Health = rapid.SampledFrom([]string{"", "/up"}).Draw(t, "health")
			s.MaxInstances = rapid.IntRange(1, 5).Draw(t, "max")
			s.StoragePersist = ptr(rapid.Bool().Draw(t, "persist"))
			s.Env = rapid.MapOfN(rapid.SampledFrom([]string{"X", "Y"}), rapid.String(), 0, 2).Draw(t, "env")
			if _, ok := s.Env["X"]; ok && rapid.Bool().Draw(t, "secret") {
				s.SecretEnv = []string{"X"}
			}
		})
	}
	switch op := rapid.IntRange(0, 26).Draw(t, "op"); op {
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
		n := testNode(rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"))
		n.StateVersion = rapid.SampledFrom([]int{0, 2, 2, 3, 3}).Draw(t, "version")
		return Command{PutNode: &PutNode{n}}
	case 8, 9, 10:
		return Command{Place: &Place{[]Placement{genPlacement(), genPlacement()}}}
	case 11, 12:
		r := aRef()
		rep := api.Report{Ref: r, DataHere: rapid.Bool().Draw(t, "data"), Observed: api.Observed{
			State: rapid.SampledFrom(api.States()).Draw(t, "state"), Since: epoch, Generation: generation(r, 0),
			ExitCode: rapid.Ptr(rapid.IntRange(0, 255), true).Draw(t, "exit"),
		}}
		node := nodeID.Draw(t, "node")
		if i, ok := v.Instance(r); ok && rapid.Bool().Draw(t, "owner") {
			node = i.Node
		}
		return Command{Report: &Report{node, []api.Report{rep}}}
	case 13, 14:
		sync := &SyncFile{Node: rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "node"), Instances: []api.Ref{aRef(), aRef()}}
		for range rapid.IntRange(0, 2).Draw(t, "services") {
			sync.Services = append(sync.Services, genService())
		}
		return Command{SyncFile: sync}
	default:
		return genCommand2(t, v, op-15, aRef, match)
	}
}

// genCommand2 draws a command of state version 2.
func genCommand2(t *rapid.T, v *View, op int, aRef func() api.Ref, match func() *uint64) Command {
	nodeID := rapid.SampledFrom([]string{"n1", "n2", "n3"})
	switch op {
	case 0, 1:
		return describe(nodeID.Draw(t, "node"), func(n *api.Node) {
			n.Name = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name")
			n.StateVersion = rapid.IntRange(1, 4).Draw(t, "version")
		})
	case 2:
		return Command{SetNode: &SetNode{nodeID.Draw(t, "node"), rapid.SampledFrom(api.Eligibilities()).Draw(t, "eligibility"), match()}}
	case 3:
		c := &NodeStatus{ID: nodeID.Draw(t, "node"), At: at(rapid.IntRange(0, 3).Draw(t, "at"))}
		c.Status = rapid.SampledFrom([]api.NodeStatus{api.NodeUp, api.NodeDown, api.NodeLeft}).Draw(t, "status")
		if n, ok := v.Node(c.ID); ok && rapid.Bool().Draw(t, "fits") {
			c.Since = n.StatusSince
		}
		return Command{NodeStatus: c}
	case 4:
		return Command{DeleteNode: &DeleteNode{nodeID.Draw(t, "node"), match()}}
	case 5, 6:
		c := putFleet(aRef().Service, "f", rapid.IntRange(0, 4).Draw(t, "replicas"), func(f *api.Fleet) {
			f.Weight = rapid.Ptr(rapid.IntRange(0, 100), true).Draw(t, "weight")
		})
		c.PutFleet.IfMatch = match()
		return c
	case 7:
		return Command{DeleteFleet: &DeleteFleet{ref(aRef().Service, "f"), match()}}
	case 8:
		r := aRef()
		i, _ := v.Instance(r)
		if i == nil {
			i = new(api.Instance)
		}
		return Command{EndMove: &EndMove{r, i.Generation}}
	case 9, 10:
		return genRouteCommand(t, match)
	default:
		return genSecretCommand(t)
	}
}

func genSecretCommand(t *rapid.T) Command {
	id := rapid.SampledFrom([]string{"0123456789ab", "ba9876543210"}).Draw(t, "id")
	switch rapid.IntRange(0, 3).Draw(t, "op") {
	case 0:
		return putJoinToken(testJoinToken(id, func(k *api.JoinToken) { k.MaxUses = rapid.IntRange(0, 2).Draw(t, "uses") }))
	case 1:
		return Command{DeleteJoinToken: &DeleteJoinToken{id}}
	case 2:
		return Command{UseJoinToken: &UseJoinToken{id, at(0)}}
	default:
		return Command{PutSecret: &PutSecret{Phase: api.SecretUse, Sealed: []byte(id), IDs: []string{id}}}
	}
}

// genLog draws entries of a command or several.
func genLog(t *rapid.T) [][]byte {
	var log [][]byte
	shadow := New()
	for n := range rapid.IntRange(0, 25).Draw(t, "length") {
		var commands [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "commands") {
			c := genCommand(t, shadow.View())
			c.Time = at(n)
			commands = append(commands, encode(t, c))
			applyOne(t, shadow, Entry(commands[len(commands)-1]))
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
			before := s.View()
			c := genCommand(t, before)
			c.Time = at(n)
			if before.Allows(&c) != nil {
				continue // as every proposer does
			}
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
			if i.Node != "" || i.Generation != 0 || i.Observed != nil || i.Previous != nil || i.DataNode != "" {
				t.Fatalf("%s is born placed or observed: %+v", i.Ref(), i)
			}
			continue
		}
		if c.PutInstance == nil && c.SyncFile == nil && c.PutFleet == nil && (!was.Equal(i) || was.Revision != i.Revision) {
			t.Fatalf("%+v wrote what users write of %s", c, i.Ref())
		}
		if c.Place == nil && (was.Node != i.Node && c.DeleteNode == nil || was.Generation != i.Generation) {
			t.Fatalf("%+v wrote the placement of %s", c, i.Ref())
		}
		ends := c.Report != nil || c.DeleteNode != nil || c.EndMove != nil
		if c.Place == nil && was.Previous != i.Previous && (!ends || i.Previous != nil) {
			t.Fatalf("%+v wrote the move of %s", c, i.Ref())
		}
		if c.Place == nil && was.DataNode != i.DataNode && (c.Report == nil && c.DeleteNode == nil || i.DataNode != "") {
			t.Fatalf("%+v wrote where the data of %s are", c, i.Ref())
		}
		if c.Report == nil && was.Observed != i.Observed {
			t.Fatalf("%+v wrote what was observed of %s", c, i.Ref())
		}
		if c.SyncFile != nil && (was.Desired != i.Desired || was.EffectiveWeight() != i.EffectiveWeight()) {
			t.Fatalf("the file wrote desired or weight of %s", i.Ref())
		}
		if i.Fleet != was.Fleet {
			t.Fatalf("%+v changed the fleet of %s", c, i.Ref())
		}
	}
	for n := range after.Nodes() {
		was, ok := before.Node(n.ID)
		if !ok || c.NodeStatus != nil {
			continue
		}
		if n.Status != was.Status || !n.StatusSince.Equal(was.StatusSince) || n.StatusReason != was.StatusReason {
			t.Fatalf("%+v wrote the status of node %s", c, n.ID)
		}
		if c.SetNode == nil && c.PutNode == nil && n.Eligibility != was.Eligibility {
			t.Fatalf("%+v wrote the eligibility of node %s", c, n.ID)
		}
	}
	if after.MinStateVersion() < after.StateVersion() {
		t.Fatalf("%+v: a node can't read the state", c)
	}
}

// checkConsistent compares the indexes and counts with what they are derived from.
func checkConsistent(t rapid.TB, v *View) {
	v.services.check(t)
	v.instances.check(t)
	v.byNode.check(t)
	v.moving.check(t)
	checkRoutes(t, v)
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
