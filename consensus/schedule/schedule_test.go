package schedule

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"pgregory.net/rapid"
)

type world struct {
	*state.Store
	t rapid.TB
}

func (w *world) do(c state.Command) {
	b, err := c.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if res, err := w.Apply(state.Entry(b)); err != nil || res[0][0].Err != nil {
		w.t.Fatalf("got %v %v", res, err)
	}
}

func (w *world) node(id string, e api.Eligibility) {
	w.do(state.Command{PutNode: &state.PutNode{Node: api.Node{ID: id, Name: id, Eligibility: e}}})
}

func (w *world) instances(n int) {
	s := api.Service{Name: "app", Command: "true"}
	s.SetDefaults()
	w.do(state.Command{PutService: &state.PutService{Service: s}})
	for id := range n {
		i := api.Instance{Service: "app", ID: fmt.Sprint(id)}
		i.SetDefaults()
		w.do(state.Command{PutInstance: &state.PutInstance{Instance: i}})
	}
}

func TestPlanOneNode(t *testing.T) {
	w := &world{Store: state.New(), t: t}
	w.instances(2)
	if got := Plan(w.View()); got != nil {
		t.Errorf("without a node: got %v", got)
	}
	w.node("cordoned", api.EligibilityCordoned)
	if got := Plan(w.View()); got != nil {
		t.Errorf("without an eligible node: got %v", got)
	}
	w.node("n1", api.EligibilityEligible)
	want := []state.Placement{
		{Ref: api.Ref{Service: "app", ID: "0"}, Node: "n1", Generation: 1},
		{Ref: api.Ref{Service: "app", ID: "1"}, Node: "n1", Generation: 1},
	}
	if got := Plan(w.View()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Carrying out a plan leaves nothing to plan, touches nothing placed, and uses eligible
// nodes alone, evenly.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{Store: state.New(), t: t}
		eligible := map[string]int{}
		for n := range rapid.IntRange(0, 5).Draw(t, "nodes") {
			e := rapid.SampledFrom([]api.Eligibility{api.EligibilityEligible, api.EligibilityCordoned}).Draw(t, "eligibility")
			w.node(fmt.Sprint("n", n), e)
			if e == api.EligibilityEligible {
				eligible[fmt.Sprint("n", n)] = 0
			}
		}
		w.instances(rapid.IntRange(0, 20).Draw(t, "instances"))
		plan := Plan(w.View())
		if !slices.Equal(plan, Plan(w.View())) {
			t.Fatal("the same view gave another plan")
		}
		if len(eligible) == 0 {
			if plan != nil {
				t.Fatalf("no eligible node, but %v", plan)
			}
			return
		}
		w.do(state.Command{Place: &state.Place{Placements: plan}})
		for i := range w.View().Instances("") {
			if _, ok := eligible[i.Node]; !ok || i.Generation != 1 {
				t.Fatalf("%s is on %q under generation %d", i.Ref(), i.Node, i.Generation)
			}
			eligible[i.Node]++
		}
		share := w.View().InstanceCount("") / len(eligible)
		for id, n := range eligible {
			if n != share && n != share+1 {
				t.Fatalf("%s has %d instances, others about %d", id, n, share)
			}
		}
		if rest := Plan(w.View()); rest != nil {
			t.Fatalf("left over: %v", rest)
		}
	})
}
