package state

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// mover drives one instance from node to node.
type mover struct {
	*driven
	t *testing.T
}

func newMover(t *testing.T, change ...func(*api.Service)) mover {
	m := mover{drive(t), t}
	m.must(putService(testService("app", change...)))
	for _, id := range []string{"n1", "n2", "n3"} {
		m.must(describe(id))
	}
	m.must(putInstance(testInstance("app", "a")))
	return m
}

func (m mover) instance() *api.Instance {
	i, _ := m.View().Instance(ref("app", "a"))
	return i
}

// place puts the instance on a node, at the next generation.
func (m mover) place(node string, keep bool) {
	m.t.Helper()
	p := Placement{Ref: ref("app", "a"), Node: node, Generation: m.instance().Generation + 1, KeepPrevious: keep}
	if m.must(place(p)) != 1 {
		m.t.Fatalf("%+v had no effect", p)
	}
}

func (m mover) report(s api.State, dataHere bool) {
	m.t.Helper()
	i := m.instance()
	r := seen(i.Ref(), i.Generation, s)
	r.DataHere = dataHere
	if m.must(report(i.Node, r)) != 1 {
		m.t.Fatalf("%+v had no effect", r)
	}
}

// is fails unless the instance is on a node, its previous one still serves and its data
// are where they are said to be.
func (m mover) is(node, previous, data string) {
	m.t.Helper()
	i, was := m.instance(), ""
	if i.Previous != nil {
		was = i.Previous.Node
	}
	if i.Node != node || was != previous || i.DataNode != data {
		m.t.Fatalf("got it on %q, previous %q, data on %q; want %q, %q, %q", i.Node, was, i.DataNode, node, previous, data)
	}
	moving := 0
	for range m.View().Moving() {
		moving++
	}
	if (moving == 1) != (previous != "" || data != "") {
		m.t.Fatalf("%d instances are moving", moving)
	}
	checkConsistent(m.t, m.View())
}

func TestMoveNewFirst(t *testing.T) {
	m := newMover(t, func(s *api.Service) { s.StoragePersist = ptr(false) })
	m.place("n1", true)
	m.is("n1", "", "")
	m.report(api.StateRunning, false)
	m.place("n2", true)
	m.is("n2", "n1", "")
	if p := m.instance().Previous; p.Generation != 1 || m.instance().Observed.Generation != 1 {
		t.Errorf("got %+v", m.instance())
	}
	if m.must(report("n1", seen(ref("app", "a"), 1, api.StateAsleep))) != 0 {
		t.Error("the previous node wrote what the new one does")
	}
	m.report(api.StateStarting, false)
	m.is("n2", "n1", "")
	m.place("n3", true) // n2 never served: n1 still does
	m.is("n3", "n1", "")
	m.report(api.StateRunning, false)
	m.is("n3", "", "")
	m.place("n1", true)
	m.place("n3", true) // back, before n1 served
	m.is("n3", "", "")
	m.place("n2", true)
	m.place("n2", true)
	m.is("n2", "n3", "")
	m.place("n1", false)
	m.is("n1", "", "")
	m.place("n2", true)
	m.place("", true)
	m.is("", "", "")
	m.place("n2", true)
	m.is("n2", "", "")
}

// TestMoveSingleWriter: what must never run twice is to end where it was first, also when
// it keeps no data.
func TestMoveSingleWriter(t *testing.T) {
	m := newMover(t, func(s *api.Service) { s.StoragePersist, s.OnDisconnect = ptr(false), api.DisconnectStop })
	m.place("n1", false)
	m.is("n1", "", "")
	m.report(api.StateRunning, false)
	m.place("n2", false)
	m.is("n2", "", "n1")
	m.report(api.StatePending, true)
	m.is("n2", "", "")
}

func TestEndMove(t *testing.T) {
	m := newMover(t, func(s *api.Service) { s.StoragePersist = ptr(false) })
	end := func(generation uint64) {
		t.Helper()
		m.must(Command{EndMove: &EndMove{Ref: ref("app", "a"), Generation: generation}})
	}
	m.place("n1", false)
	m.place("n2", true)
	end(1)
	m.is("n2", "n1", "")
	end(2)
	m.is("n2", "", "")
	before := m.View()
	if end(2); m.View() != before {
		t.Error("the end of no move changed something")
	}
	m.fails(Command{EndMove: &EndMove{Ref: ref("app", "b")}}, api.CodeNotFound)
}

func TestDataFollow(t *testing.T) {
	m := newMover(t)
	m.place("n1", false)
	m.place("n2", false) // never started, so it has no data
	m.is("n2", "", "")
	m.report(api.StateRunning, false)
	m.place("n2", false)
	m.is("n2", "", "")
	m.place("n3", false)
	m.is("n3", "", "n2")
	m.place("n1", false) // n3 had not fetched them
	m.is("n1", "", "n2")
	m.place("n2", false)
	m.is("n2", "", "")
	m.place("", false)
	m.is("", "", "n2")
	m.place("n1", false)
	m.is("n1", "", "n2")
	m.report(api.StateStarting, false)
	m.is("n1", "", "n2")
	m.report(api.StateStarting, true)
	m.is("n1", "", "")
	m.place("n3", false)
	m.is("n3", "", "n1")
}

// Users write neither where an instance is moving from nor where its data are.
func TestPutKeepsTheMove(t *testing.T) {
	m := newMover(t)
	m.place("n1", false)
	m.report(api.StateRunning, false)
	m.place("n2", true)
	i := testInstance("app", "a", func(i *api.Instance) { i.Weight, i.Pin = ptr(3), "n2" })
	i.DataNode, i.Previous = "x", &api.Previous{Node: "y"}
	m.must(putInstance(i))
	m.is("n2", "n1", "n1")
	if i := m.instance(); i.Pin != "n2" || i.EffectiveWeight() != 3 {
		t.Errorf("got %+v", i)
	}
	i.ID = "new"
	if i := m.must(putInstance(i)).(*api.Instance); i.Previous != nil || i.DataNode != "" {
		t.Errorf("got %+v", i)
	}
}
