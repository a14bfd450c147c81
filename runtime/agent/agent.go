// Package agent converges the instances that are placed on this node: it starts, wakes,
// watches, restarts, puts to sleep and stops them, each by its own supervisor, which is
// a pure state machine (see machine.go) and the goroutine that drives it.
//
// An instance without a process has no supervisor, so that sleepers cost nothing.
// DESIGN.md tells why things are the way they are.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// Specs is the current local state: this node's share only.
type Specs interface {
	Assignment(ref api.Ref) (api.Assignment, bool)
	Assigned(yield func(api.Assignment) bool)
	// Exists reports whether there is such an instance, here or anywhere. One that is not
	// assigned and exists has moved away.
	Exists(ref api.Ref) bool
}

// Data fetches what instances have left on other nodes.
type Data interface {
	// Fetch fills dir, which is empty, with the data that an instance has on the node of
	// that id. An error that wraps ErrNoData says that there is nothing to be had from there
	// any more. Any other is worth another try.
	Fetch(ctx context.Context, ref api.Ref, from, dir string) error
	// Await returns nil once nothing of an instance that keeps no data can run on the node
	// of that id any more. Any error is worth another try.
	Await(ctx context.Context, ref api.Ref, from string) error
}

// ErrNoData is the end of an attempt to fetch data that nobody has.
var ErrNoData = errors.New("the data is lost")

// Gate is the traffic gate of each instance. Moving it never blocks for long and never
// calls back.
type Gate interface {
	// Open: the instance accepts connections at ep; requests flow, waiting ones included.
	Open(ref api.Ref, ep api.Endpoint)
	// Sleep closes the gate; a request wakes the instance.
	Sleep(ref api.Ref)
	// Down closes the gate; requests for the instance wait, weighted ones go elsewhere.
	Down(ref api.Ref)
	// Hold closes the gate; requests are refused.
	Hold(ref api.Ref)
	// TryClose does what Sleep does, but only when no request is open and none has ended
	// within idle. Otherwise it says how long it will be until that could be so.
	TryClose(ref api.Ref, idle time.Duration) (wait time.Duration, closed bool)
	// Drain waits until the accepted requests have finished, or ctx ends.
	Drain(ctx context.Context, ref api.Ref) error
}

// Output captures what programs print.
type Output interface {
	// Open returns the write ends for a new run; the caller closes its copies.
	Open(ref api.Ref) (stdout, stderr *os.File, err error)
	// Attach resumes the capture of an adopted instance.
	Attach(ref api.Ref) error
	// Close ends the capture of a run that has ended, everything in the pipes included.
	Close(ref api.Ref) error
}

// Readiness waits until a program accepts connections on the port or the socket.
type Readiness interface {
	// Wait takes a listener on the port for the program's when owns, which may be nil,
	// says so of its inode.
	Wait(ctx context.Context, port int, socket string, owns func(inode uint64) bool) (api.Endpoint, error)
}

// Checker checks an instance's health once; nil means healthy. An empty path only connects.
type Checker interface {
	Check(ctx context.Context, ep api.Endpoint, path string) error
}

// Reporter hands observations to the cluster. When it returns nil, Specs shows them.
type Reporter interface {
	Report(ctx context.Context, reports []api.Report) error
}

// Config is what an Agent is made of. Every field without a stated default is required.
type Config struct {
	NodeID    string
	DataDir   string // instances' data, {service}/{id}
	RunDir    string // the records by which the next ten finds the processes
	SocketDir string // instances' default sockets; its path should be short
	Drivers   map[api.Isolation]driver.Driver
	Specs     Specs
	Gate      Gate
	Output    Output
	Readiness Readiness
	Checker   Checker
	Reporter  Reporter
	Data      Data // nil: instances have all their data here

	MaxStarts  int                   // concurrent starts; 0 means the larger of 4 and 2×GOMAXPROCS
	BootID     string                // names this boot of the machine; empty means the kernel's name
	Getenv     func(string) string   // nil means os.Getenv
	Now        func() time.Time      // nil means time.Now
	Random     func() float64        // in [0, 1), spreads the health checks; nil means rand.Float64
	Logger     *slog.Logger          // nil means none
	Registerer prometheus.Registerer // nil means none
}

func (c *Config) setDefaults() error {
	for name, missing := range map[string]bool{
		"DataDir": c.DataDir == "", "RunDir": c.RunDir == "", "SocketDir": c.SocketDir == "",
		"Specs": c.Specs == nil, "Gate": c.Gate == nil, "Output": c.Output == nil,
		"Readiness": c.Readiness == nil, "Checker": c.Checker == nil, "Reporter": c.Reporter == nil,
	} {
		if missing {
			return fmt.Errorf("create agent: Config.%s is not set", name)
		}
	}
	if c.MaxStarts <= 0 {
		c.MaxStarts = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if c.BootID == "" {
		c.BootID = bootID()
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return nil
}

// Agent runs this node's instances.
type Agent struct {
	cfg      Config
	data     *os.Root // DataDir
	records  *records
	fates    *fates
	arrivals *arrivals
	ports    *ports
	slots    *semaphore.Weighted // concurrent starts, first come, first served
	fetches  *semaphore.Weighted // concurrent fetches of data
	reports  *reports
	rolls    *rolls
	metrics  *metrics

	//nolint:containedctx // the life of every goroutine that the agent owns
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	recovered chan struct{} // closed once every process that there was is known

	mu          sync.Mutex
	leaving     bool // no new supervisors: see StopAll
	closed      bool
	supervisors map[api.Ref]*supervisor
}

// New returns an agent that has not looked at anything yet; see [Agent.Recover].
func New(cfg Config) (*Agent, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.DataDir, cfg.RunDir, cfg.SocketDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create agent: %w", err)
		}
	}
	a := &Agent{
		cfg:         cfg,
		slots:       semaphore.NewWeighted(int64(cfg.MaxStarts)),
		fetches:     semaphore.NewWeighted(fetchesAtOnce),
		reports:     newReports(cfg.Reporter, cfg.Logger),
		rolls:       &rolls{queues: make(map[string][]api.Ref)},
		supervisors: make(map[api.Ref]*supervisor),
		recovered:   make(chan struct{}),
	}
	if err := a.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("create agent: %w", err), a.closeFiles())
	}
	low, high := ephemeralPorts()
	a.ports = newPorts(canListen, low, high, rand.N(maxPort)) //nolint:gosec // spreads, protects nothing
	a.ports.claim = claimPort
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.wg.Go(func() { a.reports.run(a.ctx) })
	return a, nil
}

func (a *Agent) open() (err error) {
	if a.data, err = os.OpenRoot(a.cfg.DataDir); err != nil {
		return err
	}
	if a.records, err = openRecords(a.cfg.RunDir); err != nil {
		return err
	}
	if a.fates, err = openFates(a.cfg.RunDir); err != nil {
		return err
	}
	if a.arrivals, err = openArrivals(a.cfg.RunDir, a.data); err != nil {
		return err
	}
	a.metrics, err = newMetrics(a)
	return err
}

func (a *Agent) closeFiles() error {
	var errs []error
	if a.data != nil {
		errs = append(errs, a.data.Close())
	}
	if a.records != nil {
		errs = append(errs, a.records.close())
	}
	return errors.Join(errs...)
}

// Changed says that an instance's assignment has changed, appeared or vanished. It may
// be called too often, and returns at once.
func (a *Agent) Changed(ref api.Ref) {
	if asg, ok := a.cfg.Specs.Assignment(ref); ok {
		a.converge(ref, asg)
	} else {
		a.vanished(ref)
	}
}

// converge brings an instance to what is desired of it.
func (a *Agent) converge(ref api.Ref, asg api.Assignment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.supervisors[ref]
	if s == nil {
		if asg.Service.Persist() {
			a.logError("data still marked as ephemeral", ref, a.fates.mark(ref, false))
		}
		if asg.Leaving {
			return // there is nothing left to go on with
		}
		if o := a.lastObserved(ref, asg.Instance); a.dataOn(asg.Instance) == "" && settled(asg, o) {
			a.moveGate(ref, restGate(asg, o), api.Endpoint{})
			return
		}
		s = a.supervise(ref, asg)
	}
	if s != nil {
		s.post(s.sync)
	}
}

// vanished removes what there is of an instance that is not assigned any more.
func (a *Agent) vanished(ref api.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.supervisors[ref]
	if s == nil {
		a.reports.forget(ref)
		if a.fates.of(ref) == kept && !a.arrivals.marked(ref) {
			a.logError("socket not removed", ref, a.removeSocketDir(ref))
			return
		}
		s = a.supervise(ref, api.Assignment{Service: removedService(ref, true)})
	}
	if s != nil {
		s.post(s.sync)
	}
}

func (a *Agent) logError(what string, ref api.Ref, err error) {
	if err != nil {
		a.cfg.Logger.Error(what, "instance", ref, "error", err)
	}
}

// settled reports whether an instance without a process is as it should be.
func settled(asg api.Assignment, o *api.Observed) bool {
	want := asg.Instance.Desired
	if o == nil {
		return want != api.DesiredRunning
	}
	if o.Desired != want || o.Generation != asg.Instance.Generation {
		return false
	}
	switch o.State {
	case api.StateAsleep, api.StateStopped:
		return true
	case api.StateFailed: // a changed service is a reason to try again
		return o.ServiceRevision == asg.Service.Revision
	default: // it had a process and has none
		return false
	}
}

// restGate is where the gate of a settled instance stands.
func restGate(asg api.Assignment, o *api.Observed) gatePosition {
	m := rest(asg, o)
	return m.gate()
}

// supervise returns a new supervisor of an instance without a process; nil when the
// agent is closing. a.mu is held, and there is none yet.
func (a *Agent) supervise(ref api.Ref, asg api.Assignment) *supervisor {
	if a.closed || a.leaving {
		return nil
	}
	s := newSupervisor(a, ref, asg)
	a.supervisors[ref] = s
	a.moveGate(ref, s.m.gate(), api.Endpoint{}) // nobody may have moved it since ten was started
	a.wg.Go(s.execute)
	return s
}

// lastObserved returns the freshest observation of an instance without a supervisor.
func (a *Agent) lastObserved(ref api.Ref, i *api.Instance) *api.Observed {
	if o, ok := a.reports.latest(ref); ok {
		return &o
	}
	if i == nil {
		return nil
	}
	return i.Observed
}

// Observed returns the freshest local knowledge of an instance; false when it was never
// observed.
func (a *Agent) Observed(ref api.Ref) (api.Observed, bool) {
	a.mu.Lock()
	s := a.supervisors[ref]
	a.mu.Unlock()
	if s != nil {
		if o := s.observed.Load(); o != nil {
			return *o.Clone(), true
		}
	}
	asg, _ := a.cfg.Specs.Assignment(ref)
	if o := a.lastObserved(ref, asg.Instance); o != nil {
		return *o.Clone(), true
	}
	return api.Observed{}, false
}

// Wake starts the instance unless it runs, and returns when its gate is open. However
// many call, there is one start. The error is an *api.Error: CodeNotFound; CodeFailed
// when it can't be started; CodeUnavailable when it is, or was meanwhile, stopped or put
// to sleep, or ten is closing; CodeTimeout when it accepted no connections in time, or
// ctx ended. The start goes on when ctx ends.
func (a *Agent) Wake(ctx context.Context, ref api.Ref) error {
	return a.ask(ctx, ref, onWake)
}

// Restart stops the instance, starts it, and returns when it accepts connections. One
// that has no process is started. Errors are those of [Agent.Wake].
func (a *Agent) Restart(ctx context.Context, ref api.Ref) error {
	return a.ask(ctx, ref, onRestart)
}

// Sleep puts the instance to sleep because a user stops it, whether or not it is idle:
// data that does not persist is removed. It returns when the instance's
// process is gone. Whatever is desired, the next request wakes it.
func (a *Agent) Sleep(ctx context.Context, ref api.Ref) error {
	return a.ask(ctx, ref, onStop)
}

// ask puts an event to the instance's supervisor and waits for the answer.
func (a *Agent) ask(ctx context.Context, ref api.Ref, ev event) error {
	select {
	case <-a.recovered: // or it might be started beside a process that is not known yet
	case <-ctx.Done():
		return api.Errorf(api.CodeTimeout, "%s %s: %w", ev, ref, context.Cause(ctx))
	case <-a.ctx.Done():
		return errClosing(ref)
	}
	t := &ticket{ctx: ctx, answer: make(chan error, 1)}
	if err := a.post(ref, func(s *supervisor) { s.ask(t, ev) }); err != nil {
		return err
	}
	select {
	case err := <-t.answer:
		return err
	case <-ctx.Done():
		return api.Errorf(api.CodeTimeout, "%s %s: %w", ev, ref, context.Cause(ctx))
	case <-a.ctx.Done():
		return errClosing(ref)
	}
}

// post lets the instance's supervisor do f; there is one afterwards if there was none.
func (a *Agent) post(ref api.Ref, f func(*supervisor)) error {
	asg, ok := a.cfg.Specs.Assignment(ref)
	if !ok {
		return api.Errorf(api.CodeNotFound, "no instance %s here", ref)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.supervisors[ref]
	if s == nil {
		s = a.supervise(ref, asg)
	}
	if s == nil {
		return errClosing(ref)
	}
	s.post(func() { f(s) })
	return nil
}

// AtRest reports whether nothing of an instance runs here, or is about to: its data may
// be read.
func (a *Agent) AtRest(ref api.Ref) bool {
	select {
	case <-a.recovered:
	default:
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.supervisors[ref] == nil
}

// dataOn returns the node from which an instance's data must be fetched; "" for none.
func (a *Agent) dataOn(i *api.Instance) string {
	if i == nil || a.cfg.Data == nil || i.DataNode == a.cfg.NodeID || a.arrivals.isKnown(i.Ref(), i.Generation) {
		return ""
	}
	return i.DataNode
}

func errClosing(ref api.Ref) error {
	return api.Errorf(api.CodeUnavailable, "%s: ten is shutting down", ref)
}

func (a *Agent) moveGate(ref api.Ref, to gatePosition, ep api.Endpoint) {
	switch to {
	case gateOpen:
		a.cfg.Gate.Open(ref, ep)
	case gateAsleep:
		a.cfg.Gate.Sleep(ref)
	case gateDown:
		a.cfg.Gate.Down(ref)
	case gateHeld:
		a.cfg.Gate.Hold(ref)
	}
}

// Close lets go of every instance; all keep running. It waits, at most until ctx ends,
// for what the agent had begun, and hands over the last observations.
func (a *Agent) Close(ctx context.Context) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()

	a.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("close agent: %w", context.Cause(ctx))
	}
	a.ports.close()
	a.reports.flush(ctx)
	a.metrics.unregister(a.cfg.Registerer)
	if err := a.closeFiles(); err != nil {
		return fmt.Errorf("close agent: %w", err)
	}
	return nil
}
