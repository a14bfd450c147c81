package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func look(id string, at byte, s memberlist.NodeStateType) memberlist.Node {
	a := addr(at)
	return memberlist.Node{Name: id, Addr: a.Addr().AsSlice(), Port: a.Port(), State: s}
}

func TestWhoHasAnAddress(t *testing.T) {
	const alive, suspect, dead = memberlist.StateAlive, memberlist.StateSuspect, memberlist.StateDead
	type looks = [][]memberlist.Node
	tests := map[string]struct {
		looks looks
		taken string // whose address is another's
	}{
		"alone":                   {looks{{look("a", 1, dead), look("b", 2, alive)}}, ""},
		"both new: nobody knows":  {looks{{look("a", 1, alive), look("b", 1, alive)}}, ""},
		"both new, one is silent": {looks{{look("a", 1, suspect), look("b", 1, alive)}}, "a"},
		"who comes later":         {looks{{look("a", 1, alive)}, {look("a", 1, alive), look("b", 1, alive)}}, "a"},
		"who moves there":         {looks{{look("a", 1, alive), look("b", 2, alive)}, {look("a", 1, alive), look("b", 1, alive)}}, "a"},
		"the later one is dead":   {looks{{look("a", 1, alive)}, {look("a", 1, alive), look("b", 1, dead)}}, ""},
		"the later one is silent": {looks{{look("a", 1, alive)}, {look("a", 1, alive), look("b", 1, suspect)}}, ""},
		"the earlier one comes back": {looks{
			{look("a", 1, dead), look("b", 1, alive)},
			{look("a", 1, alive), look("b", 1, suspect)},
		}, "b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			known, now := table{}, time.Unix(0, 0)
			for _, nodes := range tt.looks {
				now = now.Add(time.Second)
				known.merge(nodes, now)
			}
			for id, r := range known {
				if taken := known.taken(r) != nil; taken != (id == tt.taken) {
					t.Errorf("%s: taken is %v", id, taken)
				}
			}
		})
	}
}

func TestMergeSaysWhatChanged(t *testing.T) {
	known, now := table{}, time.Unix(0, 0)
	steps := []struct {
		nodes   []memberlist.Node
		turned  int
		changed bool
	}{
		{[]memberlist.Node{look("a", 1, memberlist.StateAlive)}, 1, true},
		{[]memberlist.Node{look("a", 1, memberlist.StateAlive)}, 0, false},
		{[]memberlist.Node{look("a", 2, memberlist.StateAlive)}, 0, true},
		{[]memberlist.Node{look("a", 2, memberlist.StateSuspect)}, 1, true},
		{nil, 1, true}, // forgotten between two looks
		{nil, 0, false},
		{[]memberlist.Node{look("a", 2, memberlist.StateLeft)}, 1, true},
	}
	for i, s := range steps {
		turned, changed := known.merge(s.nodes, now)
		if len(turned) != s.turned || changed != s.changed {
			t.Errorf("step %d: turned %d, changed %v", i, len(turned), changed)
		}
	}
}

func TestTheGoneAreForgottenInTime(t *testing.T) {
	known, now := table{}, time.Unix(0, 0)
	for i := range 2 * maxGone {
		known.merge([]memberlist.Node{look(fmt.Sprint(i), byte(i), memberlist.StateAlive)}, now)
		now = now.Add(time.Second)
		known.merge(nil, now)
	}
	if len(known) != maxGone || known[fmt.Sprint(2*maxGone-1)] == nil {
		t.Errorf("%d nodes are remembered", len(known))
	}
}
