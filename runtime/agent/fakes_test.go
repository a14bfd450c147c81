package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// node is a machine as the agent sees it. Its processes, state and gates outlive an
// agent, so that a test can go on with the next one.
type node struct {
	t     testing.TB
	dirs  string
	boot  string
	agent *Agent
	bench bool // programs write nothing
	// canListen is how ports are found to be free; nil: all are.
	canListen func(port int) bool

	mu       sync.Mutex
	services map[string]*api.Service
	insts    map[api.Ref]*api.Instance
	revision uint64
	procs    map[string]*proc // by start
	last     map[api.Ref]*proc
	starts   map[api.Ref]int
	most     int // processes that were being started at once
	starting int
	gates    map[api.Ref]*gate
	// elsewhere has the instances that exist on other nodes, fenced those that must not run.
	elsewhere, fenced map[api.Ref]bool
	leaving           atomic.Bool // all instances are
	reports           [][]api.Report
	attached          []api.Ref
	log               strings.Builder

	// How programs behave; nil means the obvious.
	onStart  hook[func(spec driver.Spec) error]            // an error keeps the program from being executed
	onTerm   hook[func(p *proc)]                           // default: it ends
	onReady  hook[func(ctx context.Context, p *proc) bool] // default: it accepts connections at once
	onCheck  hook[func(p *proc) error]
	onReport hook[func([]api.Report) error]
}

// hook is a function that a test may change while the agent runs.
type hook[F any] struct{ f atomic.Pointer[F] }

func (h *hook[F]) set(f F) { h.f.Store(&f) }

func (h *hook[F]) get() (f F) {
	if p := h.f.Load(); p != nil {
		f = *p
	}
	return f
}

type gate struct {
	at       gatePosition
	requests int
	lastEnd  time.Time
	quiet    chan struct{} // closed when requests falls to 0
}

type proc struct {
	node *node
	spec driver.Spec
	pid  int
	done chan struct{}
	once sync.Once
	exit driver.Exit
	term atomic.Bool
}

func newNode(t testing.TB) *node {
	return &node{
		t: t, dirs: t.TempDir(), boot: "boot-1",
		services: make(map[string]*api.Service), insts: make(map[api.Ref]*api.Instance),
		procs: make(map[string]*proc), last: make(map[api.Ref]*proc), starts: make(map[api.Ref]int), gates: make(map[api.Ref]*gate),
		elsewhere: make(map[api.Ref]bool), fenced: make(map[api.Ref]bool),
	}
}

// open starts an agent on the node, as a new ten would.
func (n *node) open(change ...func(*Config)) *Agent {
	n.t.Helper()
	cfg := Config{
		NodeID: "n1", DataDir: filepath.Join(n.dirs, "data"), RunDir: filepath.Join(n.dirs, "run"), SocketDir: filepath.Join(n.dirs, "sock"),
		Drivers: map[api.Isolation]driver.Driver{api.IsolationProcess: n},
		Specs:   n, Gate: n, Output: fakeOutput{n}, Readiness: n, Checker: n, Reporter: n,
		BootID: n.boot, Getenv: func(string) string { return "" },
		Random: func() float64 { return 0.5 }, // checks come exactly when they are due
		Logger: slog.New(slog.NewTextHandler(&n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	if a.ports.listen = n.canListen; n.canListen == nil {
		a.ports.listen = func(int) bool { return true }
	}
	n.agent = a
	if err := a.Recover(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return a
}

// stop closes the agent; what ran keeps running.
func (n *node) stop() {
	n.t.Helper()
	if err := n.agent.Close(context.Background()); err != nil {
		n.t.Error(err)
	}
	if strings.Contains(n.log.String(), "impossible event") {
		n.t.Error(n.log.String())
	}
}

// inBubble runs a test on a node with a fake clock.
func inBubble(t *testing.T, f func(t *testing.T, n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		defer func() {
			if n.agent != nil {
				n.stop()
			}
		}()
		f(t, n)
	})
}

// put declares a service, and changes it.
func (n *node) put(change func(*api.Service)) *api.Service {
	n.mu.Lock()
	svc := testService(true)
	svc.Health = ""
	change(svc)
	n.revision++
	svc.Revision = n.revision
	n.services[svc.Name] = svc
	var refs []api.Ref
	for ref := range n.insts {
		if ref.Service == svc.Name {
			refs = append(refs, ref)
		}
	}
	n.mu.Unlock()
	n.changed(refs...)
	return svc
}

// want declares an instance, and changes what is desired of it.
func (n *node) want(ref api.Ref, d api.Desired) {
	n.mu.Lock()
	i := n.insts[ref]
	if i == nil {
		i = &api.Instance{Service: ref.Service, ID: ref.ID, Node: "n1", Generation: 1}
	}
	i = i.Clone()
	i.Desired = d
	n.revision++
	i.Revision = n.revision
	n.insts[ref] = i
	n.mu.Unlock()
	n.changed(ref)
}

// place changes what the leader says of an instance.
func (n *node) place(ref api.Ref, change func(*api.Instance)) {
	n.mu.Lock()
	i := n.insts[ref]
	if i == nil {
		i = &api.Instance{Service: ref.Service, ID: ref.ID, Node: "n1", Generation: 1, Desired: api.DesiredRunning}
	}
	i = i.Clone()
	change(i)
	n.insts[ref] = i
	n.mu.Unlock()
	n.changed(ref)
}

// moveAway places an instance on another node.
func (n *node) moveAway(ref api.Ref) {
	n.mu.Lock()
	n.elsewhere[ref] = true
	n.mu.Unlock()
	n.remove(ref)
}

// fence says whether the instance must not run.
func (n *node) fence(ref api.Ref, fenced bool) {
	n.mu.Lock()
	n.fenced[ref] = fenced
	n.mu.Unlock()
	n.changed(ref)
}

func (n *node) remove(ref api.Ref) {
	n.mu.Lock()
	delete(n.insts, ref)
	n.mu.Unlock()
	n.changed(ref)
}

func (n *node) changed(refs ...api.Ref) {
	if n.agent != nil {
		for _, ref := range refs {
			n.agent.Changed(ref)
		}
	}
}

func (n *node) Assignment(ref api.Ref) (api.Assignment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, svc := n.insts[ref], n.services[ref.Service]
	return api.Assignment{Instance: i, Service: svc, Fenced: n.fenced[ref], Leaving: n.leaving.Load()}, i != nil && svc != nil
}

func (n *node) Assigned(yield func(api.Assignment) bool) {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.insts))
	n.mu.Unlock()
	for _, i := range all {
		if a, ok := n.Assignment(i.Ref()); ok && !yield(a) {
			return
		}
	}
}

// Exists implements Specs.
func (n *node) Exists(ref api.Ref) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.elsewhere[ref] || n.insts[ref] != nil
}

// Report implements Reporter: what it is told becomes part of the state.
func (n *node) Report(_ context.Context, reports []api.Report) error {
	if f := n.onReport.get(); f != nil {
		if err := f(reports); err != nil {
			return err
		}
	}
	n.mu.Lock()
	n.reports = append(n.reports, reports)
	var refs []api.Ref
	for _, r := range reports {
		if i := n.insts[r.Ref]; i != nil && i.Generation == r.Observed.Generation {
			i = i.Clone()
			i.Observed = r.Observed.Clone()
			if r.DataHere {
				i.DataNode = ""
			}
			n.insts[r.Ref] = i
			refs = append(refs, r.Ref)
		}
	}
	n.mu.Unlock()
	n.changed(refs...) // as the server does
	return nil
}

// The gate.

func (n *node) gate(ref api.Ref) *gate {
	g := n.gates[ref]
	if g == nil {
		g = &gate{}
		n.gates[ref] = g
	}
	return g
}

func (n *node) gateOf(ref api.Ref) gatePosition {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gate(ref).at
}

func (n *node) move(ref api.Ref, to gatePosition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gate(ref).at = to
}

func (n *node) Sleep(ref api.Ref) { n.move(ref, gateAsleep) }
func (n *node) Down(ref api.Ref)  { n.move(ref, gateDown) }
func (n *node) Hold(ref api.Ref)  { n.move(ref, gateHeld) }

func (n *node) Open(ref api.Ref, ep api.Endpoint) {
	if n.process(ref) == nil {
		n.t.Errorf("the gate of %s opens and nobody is behind it", ref)
	}
	if ep.Address == "" {
		n.t.Errorf("the gate of %s opens to nowhere", ref)
	}
	n.move(ref, gateOpen)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gate(ref).lastEnd = time.Now() // idleness begins now
}

func (n *node) TryClose(ref api.Ref, idle time.Duration) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.gate(ref)
	if g.requests > 0 {
		return idle, false
	}
	if wait := idle - time.Since(g.lastEnd); wait > 0 {
		return wait, false
	}
	g.at = gateAsleep
	return 0, true
}

func (n *node) Drain(ctx context.Context, ref api.Ref) error {
	n.mu.Lock()
	g := n.gate(ref)
	quiet := g.quiet
	if g.requests == 0 {
		n.mu.Unlock()
		return nil
	}
	n.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request begins a request; the returned function ends it.
func (n *node) request(ref api.Ref) (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.gate(ref)
	if g.requests == 0 {
		g.quiet = make(chan struct{})
	}
	g.requests++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		g.requests--
		g.lastEnd = time.Now()
		if g.requests == 0 {
			close(g.quiet)
		}
	}
}

// expect settles what can be settled without time passing, and compares.
func (n *node) expect(ref api.Ref, want api.State, wantGate gatePosition) api.Observed {
	n.t.Helper()
	synctest.Wait()
	o, _ := n.agent.Observed(ref)
	g := n.gateOf(ref)
	if o.State != want || g != wantGate {
		n.t.Fatalf("%s is %q (%s), its gate %s; want %s, %s\n%s", ref, o.State, o.Reason, g, want, wantGate, n.log.String())
	}
	if alive := n.process(ref) != nil; alive != (o.PID != 0) {
		n.t.Fatalf("%s is %s with pid %d; has a process: %t", ref, o.State, o.PID, alive)
	}
	return o
}

// expectState is expect without a look at the gate.
func (n *node) expectState(ref api.Ref, want api.State) {
	n.t.Helper()
	if o, _ := n.agent.Observed(ref); o.State != want {
		n.t.Fatalf("%s is %q (%s), want %s\n%s", ref, o.State, o.Reason, want, n.log.String())
	}
}

func (n *node) dataDir(ref api.Ref) string {
	return filepath.Join(n.dirs, "data", ref.Service, ref.ID)
}

func (n *node) hasData(ref api.Ref) bool {
	_, err := os.Stat(filepath.Join(n.dataDir(ref), "written"))
	return err == nil
}

func (n *node) record(ref api.Ref) *record {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dirs, "run", recordsFile))
	if err != nil {
		n.t.Fatal(err)
	}
	for ; len(b) > 0; b = b[min(slotSize, len(b)):] {
		r, err := parseSlot(b[:min(slotSize, len(b))])
		if err != nil {
			n.t.Fatal(err)
		}
		if r != nil && r.Ref == ref {
			return r
		}
	}
	return nil
}

// async calls f in a goroutine and returns where its error will be.
func async(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

var errNo = errors.New("no")

var (
	ref1 = api.Ref{Service: "web", ID: "one"}
	ref2 = api.Ref{Service: "web", ID: "two"}
	ref3 = api.Ref{Service: "web", ID: "three"}
)
