package schedule

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// cpu reports what an operation takes of a CPU, which is what counts on a busy machine.
func cpu(b *testing.B) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1e6, "cpu-ms/op") }
}

// big is a cluster of nodes in three zones with instances of services, all in the real
// state, as what a view costs is part of what a plan costs.
func big(tb testing.TB, nodes, services, instances int) *state.Store {
	s := state.New()
	var batch [][]byte
	flush := func() {
		res, err := s.Apply(state.Entry(batch...))
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range res[0] {
			if r.Err != nil {
				tb.Fatal(r.Err)
			}
		}
		batch = nil
	}
	do := func(c state.Command) {
		b, err := c.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		if batch = append(batch, b); len(batch) == 1000 {
			flush()
		}
	}
	for n := range nodes {
		id := fmt.Sprintf("node-%04d", n)
		do(state.Command{PutNode: &state.PutNode{Node: api.Node{
			ID: id, Name: id, Eligibility: api.EligibilityEligible, Zone: fmt.Sprint("zone-", n%3), Region: "eu",
			Capacity: api.Capacity{CPUs: 32, Memory: 64 << 30}, Isolations: []api.Isolation{api.IsolationNamespace},
			Labels: map[string]string{"disk": "ssd"},
		}}})
	}
	for n := range services {
		v := api.Service{
			Name: fmt.Sprintf("app-%05d", n), Command: "true", MaxInstances: 1_000_000,
			MemoryLimit: api.Size(64+n%8*32) << 20, CPUShares: 64,
			Placement: &api.PlacementRules{Constraints: []api.Constraint{"label.disk = ssd", "region != us"}},
		}
		if n%2 == 1 {
			v.Placement.SpreadBy = api.SpreadByZone
		}
		v.SetDefaults()
		do(state.Command{PutService: &state.PutService{Service: v}})
	}
	for n := range instances {
		i := api.Instance{Service: fmt.Sprintf("app-%05d", n%services), ID: fmt.Sprint("i", n)}
		i.SetDefaults()
		do(state.Command{PutInstance: &state.PutInstance{Instance: i}})
	}
	flush()
	return s
}

func place(tb testing.TB, s *state.Store, plan []state.Placement) {
	c := state.Command{Place: &state.Place{Placements: plan}}
	b, err := c.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.Apply(state.Entry(b)); err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, services := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("scratch/services=%d", services), func(b *testing.B) {
			v := big(b, 1000, services, 100_000).View()
			b.ReportAllocs()
			report := cpu(b)
			for b.Loop() {
				if got := len(Plan(v, start, nil)); got != 100_000 {
					b.Fatalf("placed %d", got)
				}
			}
			report()
		})
	}
	s := big(b, 1000, 1000, 100_000)
	place(b, s, Plan(s.View(), start, nil))
	b.Run("settled", func(b *testing.B) {
		v := s.View()
		report := cpu(b)
		for b.Loop() {
			if got := len(Plan(v, start, nil)); got != 0 {
				b.Fatalf("placed %d", got)
			}
		}
		report()
	})
	n, _ := s.View().Node("node-0500")
	c := state.Command{NodeStatus: &state.NodeStatus{ID: n.ID, Since: n.StatusSince, Status: api.NodeDown, At: start, Deadline: start}}
	e, err := c.Encode()
	if err != nil {
		b.Fatal(err)
	}
	if res, err := s.Apply(state.Entry(e)); err != nil || res[0][0].Err != nil {
		b.Fatal(res, err)
	}
	b.Run("death", func(b *testing.B) {
		v := s.View()
		b.ReportAllocs()
		report := cpu(b)
		for b.Loop() {
			if got := len(Plan(v, start, nil)); got < 50 || got > 200 {
				b.Fatalf("placed %d", got)
			}
		}
		report()
	})
	b.Run("explain", func(b *testing.B) {
		v := s.View()
		report := cpu(b)
		for b.Loop() {
			r, err := Explain(v, start, nil, api.PlanRequest{})
			if err != nil || len(r.Changes) < 50 {
				b.Fatal(r, err)
			}
		}
		report()
	})
}
