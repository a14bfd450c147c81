package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster is a store whose commands apply at once.
type fakeCluster struct {
	*state.Store
	t *testing.T

	mu       sync.Mutex
	leading  bool
	changed  chan struct{}
	barriers int
	batches  []int
	fail     error         // what Place returns instead
	hang     chan struct{} // Place waits for it, or for its context
}

func newFake(t *testing.T) *fakeCluster {
	f := &fakeCluster{Store: state.New(), t: t, changed: make(chan struct{})}
	f.do(state.Command{PutNode: &state.PutNode{Node: api.Node{ID: "n1", Name: "n1", Eligibility: api.EligibilityEligible}}})
	s := api.Service{Name: "app", Command: "true", MaxInstances: 10_000}
	s.SetDefaults()
	f.do(state.Command{PutService: &state.PutService{Service: s}})
	return f
}

func (f *fakeCluster) do(c state.Command) {
	b, err := c.Encode()
	if err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if res, err := f.Apply(state.Entry(b)); err != nil || res[0][0].Err != nil {
		f.t.Errorf("got %v %v", res, err)
	}
}

func (f *fakeCluster) put(id string) {
	i := api.Instance{Service: "app", ID: id}
	i.SetDefaults()
	f.do(state.Command{PutInstance: &state.PutInstance{Instance: i}})
}

func (f *fakeCluster) set(change func(*fakeCluster)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeCluster) lead(leading bool) {
	f.set(func(f *fakeCluster) {
		f.leading = leading
		close(f.changed)
		f.changed = make(chan struct{})
	})
}

func (f *fakeCluster) Leadership() (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leading, f.changed
}

func (f *fakeCluster) Barrier(context.Context) error {
	f.set(func(f *fakeCluster) { f.barriers++ })
	return nil
}

func (f *fakeCluster) Place(ctx context.Context, p []state.Placement) error {
	f.mu.Lock()
	fail, hang := f.fail, f.hang
	f.batches = append(f.batches, len(p))
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail == nil {
		f.do(state.Command{Place: &state.Place{Placements: p}})
	}
	return fail
}

func (f *fakeCluster) unplaced() (n int) {
	for range f.View().Unplaced() {
		n++
	}
	return n
}

func run(t *testing.T, test func(t *testing.T, f *fakeCluster)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, f, slog.New(slog.DiscardHandler))
		}()
		test(t, f)
		cancel()
		<-done
	})
}

func TestOnlyTheLeaderPlaces(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.put("a")
		synctest.Wait()
		if f.unplaced() != 1 {
			t.Fatal("placed without leading")
		}
		f.lead(true)
		synctest.Wait()
		if f.unplaced() != 0 || f.barriers != 1 {
			t.Fatalf("leading: %d unplaced, %d barriers", f.unplaced(), f.barriers)
		}
		f.put("b")
		synctest.Wait()
		if f.unplaced() != 0 {
			t.Fatal("a new instance is not placed")
		}
		f.lead(false)
		synctest.Wait()
		f.put("c")
		synctest.Wait()
		if f.unplaced() != 1 {
			t.Fatal("placed after losing leadership")
		}
		f.lead(true)
		synctest.Wait()
		if f.unplaced() != 0 || f.barriers != 2 {
			t.Fatalf("leading again: %d unplaced, %d barriers", f.unplaced(), f.barriers)
		}
	})
}

func TestBatches(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		for i := range 2*BatchSize + 5 {
			f.put(fmt.Sprint(i))
		}
		f.lead(true)
		synctest.Wait()
		if got, want := fmt.Sprint(f.batches), "[1000 1000 5]"; got != want {
			t.Errorf("got batches of %s, want %s", got, want)
		}
	})
}

func TestFailedWorkIsTriedAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.fail = errors.New("disk full")
		f.put("a")
		f.lead(true)
		time.Sleep(10*retryPause + retryPause/2)
		n := 0
		f.set(func(f *fakeCluster) { n = len(f.batches) })
		if n != 11 {
			t.Errorf("tried %d times in 10 pauses, want 11", n)
		}
		f.set(func(f *fakeCluster) { f.fail = nil })
		time.Sleep(retryPause)
		synctest.Wait()
		if f.unplaced() != 0 {
			t.Error("not placed after the failure has passed")
		}
	})
}

func TestLosingLeadershipUnwinds(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.hang = make(chan struct{}) // never closed: only the context can end Place
		f.put("a")
		f.lead(true)
		synctest.Wait()
		f.lead(false)
		synctest.Wait()
		f.set(func(f *fakeCluster) { f.hang = nil })
		f.lead(true)
		synctest.Wait()
		if f.unplaced() != 0 {
			t.Error("the second term does not work")
		}
	})
}
