package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	fail     error            // what Place returns instead
	before   string           // the previous leader
	contact  time.Time        // with it
	leases   map[string]bool  // ended
	answers  map[string]error // of nodes, to Ping; absent: none comes
	slow     time.Duration    // what an answer takes
	late     time.Duration    // what it takes until a status is committed
	hang     chan struct{}    // Place waits for it, or for its context
}

func newFake(t *testing.T) *fakeCluster {
	f := &fakeCluster{
		Store: state.New(), t: t, changed: make(chan struct{}),
		leases: make(map[string]bool), answers: make(map[string]error),
	}
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

func (f *fakeCluster) ID() string { return "n1" }

func (f *fakeCluster) PreviousLeader() (string, time.Time) { return f.before, f.contact }

func (f *fakeCluster) EndMove(_ context.Context, m state.EndMove) error {
	f.do(state.Command{EndMove: &m})
	return nil
}

func (f *fakeCluster) SetNodeStatus(_ context.Context, s state.NodeStatus) error {
	f.mu.Lock()
	late := f.late
	f.mu.Unlock()
	time.Sleep(late)
	f.do(state.Command{NodeStatus: &s})
	return nil
}

func (f *fakeCluster) LeaseEnded(node string, _ time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases[node]
}

// Ping implements Prober.
func (f *fakeCluster) Ping(ctx context.Context, node string) error {
	f.mu.Lock()
	err, ok := f.answers[node]
	slow := f.slow
	f.mu.Unlock()
	if !ok {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(slow)
	return err
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
			Run(ctx, Config{Cluster: f, Prober: f, Logger: slog.New(slog.DiscardHandler)})
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

// two adds a second node, with an instance of each way to be dealt with, and leads, after
// what happened before.
func (f *fakeCluster) two(before ...func()) {
	f.do(state.Command{PutNode: &state.PutNode{Node: api.Node{ID: "n2", Name: "n2", Eligibility: api.EligibilityEligible}}})
	for _, d := range api.OnDisconnects() {
		s := api.Service{Name: string(d), Command: "true", OnDisconnect: d}
		s.SetDefaults()
		f.do(state.Command{PutService: &state.PutService{Service: s}})
		i := api.Instance{Service: s.Name, ID: "x"}
		i.SetDefaults()
		f.do(state.Command{PutInstance: &state.PutInstance{Instance: i}})
		f.do(state.Command{Place: &state.Place{Placements: []state.Placement{{Ref: i.Ref(), Node: "n2", Generation: 1}}}})
	}
	f.answer("n2", nil)
	for _, happened := range before {
		happened()
	}
	f.lead(true)
}

func (f *fakeCluster) answer(node string, err error) {
	f.set(func(f *fakeCluster) { f.answers[node] = err })
}

func (f *fakeCluster) silence(node string) {
	f.set(func(f *fakeCluster) { delete(f.answers, node) })
}

// waitFor returns how long it takes until ok holds, to a hundredth of a second.
func waitFor(t *testing.T, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > time.Hour {
			t.Fatal("not within an hour")
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(start)
}

func (f *fakeCluster) status(node string) api.NodeStatus {
	n, _ := f.View().Node(node)
	return n.Status
}

func (f *fakeCluster) on(service string) string {
	i, _ := f.View().Instance(api.Ref{Service: service, ID: "x"})
	return i.Node
}

func between(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: took %s, want %s to %s", what, got, least, most)
	}
}

func TestDeadProcessIsReplaced(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		// It dies right after a probe, of which there is one each half second: were it at the
		// same moment, then that probe might be answered or refused.
		time.Sleep(time.Minute + time.Millisecond)
		if !func() bool { n, _ := f.View().Node("n2"); return n.Reachable() }() {
			t.Fatal("down while it answers")
		}
		f.answer("n2", ErrRefused)
		down := waitFor(t, func() bool { return f.status("n2") == api.NodeDown })
		between(t, "down", down, 2*time.Second, 2600*time.Millisecond)
		moved := waitFor(t, func() bool { return f.on("replace") == "n1" })
		between(t, "replaced", down+moved, 3400*time.Millisecond, 4*time.Second)
		time.Sleep(time.Hour)
		if f.on("keep") != "n2" || f.on("stop") != "n2" {
			t.Errorf("keep is on %s, stop without the lease's end on %s", f.on("keep"), f.on("stop"))
		}
		f.set(func(f *fakeCluster) { f.leases["n2"] = true })
		between(t, "lease ended", waitFor(t, func() bool { return f.on("stop") == "n1" }), 0, time.Second)
		f.answer("n2", nil)
		between(t, "back", waitFor(t, func() bool { return f.status("n2") == api.NodeUp }), 0, time.Second)
		time.Sleep(time.Minute)
		if f.on("keep") != "n2" || f.on("replace") != "n1" {
			t.Error("moved again")
		}
	})
}

func TestSilentNodeIsGivenMoreTime(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		time.Sleep(10 * time.Second)
		f.silence("n2")
		down := waitFor(t, func() bool { return f.status("n2") == api.NodeDown })
		between(t, "down", down, 6*time.Second, 9*time.Second)
		between(t, "replaced", waitFor(t, func() bool { return f.on("replace") == "n1" }), 1400*time.Millisecond, 1700*time.Millisecond)
	})
}

// A node that answers once in a while is starved, not dead.
func TestSlowNodeStays(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		for range 200 {
			f.silence("n2")
			time.Sleep(3500 * time.Millisecond)
			f.answer("n2", nil)
			time.Sleep(2100 * time.Millisecond)
		}
		if f.status("n2") == api.NodeDown || f.on("replace") != "n2" {
			t.Error("a slow node was given up")
		}
	})
}

func TestLeftNodeIsWaitedFor(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		f.set(func(f *fakeCluster) { f.slow = 100 * time.Millisecond })
		time.Sleep(time.Second + 50*time.Millisecond)
		// The probe that is under way has been answered, which is heard of after the node
		// has said that it leaves.
		f.answer("n2", ErrRefused)
		f.do(state.Command{NodeStatus: &state.NodeStatus{ID: "n2", Status: api.NodeLeft, At: time.Now()}})
		between(t, "down", waitFor(t, func() bool { return f.status("n2") == api.NodeDown }), 4*time.Minute, 6*time.Minute)
	})
}

// A leader that died is missed since it was last heard of, not since its successor leads.
func TestPreviousLeader(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.before, f.contact = "n2", time.Now().Add(-1800*time.Millisecond)
		f.two()
		f.answer("n2", ErrRefused)
		between(t, "replaced", waitFor(t, func() bool { return f.on("replace") == "n1" }), time.Second, 2200*time.Millisecond)
	})
}

// A leader whose clock is a day behind that of the one before waits no longer for it.
func TestClockBehind(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		tomorrow := time.Now().Add(24 * time.Hour)
		f.do(state.Command{PutNode: &state.PutNode{Node: api.Node{ID: "n2", Name: "n2", Eligibility: api.EligibilityEligible}}})
		f.do(state.Command{NodeStatus: &state.NodeStatus{ID: "n2", Status: api.NodeDown, At: tomorrow, Deadline: tomorrow.Add(time.Second)}})
		f.answer("n2", ErrRefused)
		f.put("x")
		f.do(state.Command{Place: &state.Place{Placements: []state.Placement{{Ref: api.Ref{Service: "app", ID: "x"}, Node: "n2", Generation: 1}}}})
		f.lead(true)
		between(t, "replaced", waitFor(t, func() bool { return f.on("app") == "n1" }), 900*time.Millisecond, 1200*time.Millisecond)
	})
}

func TestLeadersOwnNodeIsUp(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.do(state.Command{NodeStatus: &state.NodeStatus{ID: "n1", Status: api.NodeDown, At: time.Now()}})
		f.lead(true)
		between(t, "up", waitFor(t, func() bool { return f.status("n1") == api.NodeUp }), 0, time.Second)
	})
}

// What serves on the node that an instance leaves is not waited for once that is lost.
func TestMoveFromALostNodeEnds(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		ref := api.Ref{Service: "app", ID: "x"}
		f.two(func() { // before the leader places it elsewhere
			no := false
			s := api.Service{Name: "app", Command: "true", StoragePersist: &no}
			s.SetDefaults()
			f.do(state.Command{PutService: &state.PutService{Service: s}})
			f.put("x")
			f.do(state.Command{Place: &state.Place{Placements: []state.Placement{{Ref: ref, Node: "n2", Generation: 1}}}})
		})
		f.do(state.Command{Report: &state.Report{Node: "n2", Reports: []api.Report{{Ref: ref, Observed: api.Observed{State: api.StateRunning, Generation: 1}}}}})
		f.do(state.Command{SetNode: &state.SetNode{ID: "n2", Eligibility: api.EligibilityDraining}})
		moving := func() bool { i, _ := f.View().Instance(ref); return i.Previous != nil }
		waitFor(t, moving)
		f.answer("n2", ErrRefused)
		waitFor(t, func() bool { return !moving() })
		if f.status("n2") != api.NodeDown || f.on("app") != "n1" {
			t.Errorf("%s, on %s", f.status("n2"), f.on("app"))
		}
	})
}

// An instance whose data is elsewhere is under way, too, but from nowhere.
func TestDataElsewhere(t *testing.T) {
	run(t, func(t *testing.T, f *fakeCluster) {
		f.two()
		ref := api.Ref{Service: "replace", ID: "x"}
		f.do(state.Command{Report: &state.Report{Node: "n2", Reports: []api.Report{{Ref: ref, Observed: api.Observed{State: api.StateRunning, Generation: 1}}}}})
		f.answer("n2", ErrRefused)
		waitFor(t, func() bool { return f.on("replace") == "n1" })
		if i, _ := f.View().Instance(ref); i.DataNode != "n2" {
			t.Fatalf("its data is on %q", i.DataNode)
		}
		f.put("later")
		waitFor(t, func() bool { return f.unplaced() == 0 })
	})
}

func TestPanicIsAnError(t *testing.T) {
	if err := guarded(func() error { panic("oh") }); err == nil || !strings.Contains(err.Error(), "panic: oh") {
		t.Errorf("got %v", err)
	}
}
