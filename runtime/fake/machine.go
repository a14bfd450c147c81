// Package fake is a driver that runs no programs: it only acts as if, in ways that a
// test chooses, down to listening on the instance's port and answering requests.
//
// A [Machine] is what outlives ten. Every [Machine.Driver] is the driver of one ten on
// that machine; what one of them started, the next one recovers.
package fake

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// Behaviour is how one program acts. The zero value starts at once, prints nothing,
// listens nowhere, and runs until it is told to end.
type Behaviour struct {
	// StartDelay is how long Start takes; StartError is how it fails then, if set.
	StartDelay time.Duration
	StartError error
	// Output is printed to stdout at the start.
	Output string
	// Listen makes it answer HTTP, on "tcp", at PORT of its environment on 127.0.0.1, or
	// on "unix", at SOCKET_PATH, from ReadyAfter the start on. It ends with code 1 when
	// it can't listen. The default Handler answers with the name of the instance, and
	// GET /env with its environment, a variable a line.
	Listen     string
	ReadyAfter time.Duration
	Handler    http.Handler
	// ExitAfter the start it ends by itself with ExitCode; 0 means never.
	ExitAfter time.Duration
	ExitCode  int
	// Stubborn programs ignore Terminate. Others end TermDelay later: like one without a
	// handler for SIGTERM, or, if Graceful, with ExitCode.
	Stubborn  bool
	Graceful  bool
	TermDelay time.Duration
}

// Op is what was asked of a driver or of a process.
type Op string

// The operations that a Machine counts.
const (
	OpStart     Op = "start"
	OpRecover   Op = "recover"
	OpFind      Op = "find"
	OpTerminate Op = "terminate"
	OpKill      Op = "kill"
	OpRelease   Op = "release"
)

// Call is one operation. Ref is empty where no such program was found.
type Call struct {
	Op    Op
	Ref   api.Ref
	Start string
	Err   error
}

// callsKept is how many calls a Machine remembers at least, so that a test of a
// hundred thousand cycles does not run out of memory.
const callsKept = 8192

// Machine is a computer whose programs are not real. The methods may be called from
// several goroutines.
type Machine struct {
	behave func(driver.Spec) Behaviour
	bootID string

	mu       sync.Mutex
	programs map[int]*program // those that run, by pid
	pid      int
	calls    []Call
	counts   map[counted]int
	closed   bool
}

type counted struct {
	op  Op
	ref api.Ref
}

// firstPID is beyond what Linux ever gives to a real process.
const firstPID = 1 << 22

var boots atomic.Uint64

// NewMachine returns a Machine. behave is asked how each program acts; nil means that
// all of them listen on tcp.
func NewMachine(behave func(driver.Spec) Behaviour) *Machine {
	if behave == nil {
		behave = func(driver.Spec) Behaviour { return Behaviour{Listen: "tcp"} }
	}
	return &Machine{
		behave: behave, bootID: fmt.Sprintf("fake-%d", boots.Add(1)), pid: firstPID,
		programs: map[int]*program{}, counts: map[counted]int{},
	}
}

// Driver returns a driver of the level given, as a newly started ten would open it.
func (m *Machine) Driver(name api.Isolation) driver.Driver { return &fakeDriver{m, name} }

// Close ends every program and waits for that.
func (m *Machine) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, p := range m.running() {
		p.end(killed)
		<-p.done
	}
}

// Crash ends the running programs of an instance with the exit given and returns how
// many there were.
func (m *Machine) Crash(ref api.Ref, exit driver.Exit) int {
	n := 0
	for _, p := range m.running() {
		if p.spec.Ref == ref {
			n++
			p.end(exit)
			<-p.done
		}
	}
	return n
}

// Running returns the handles of the programs of an instance that run; the zero Ref
// means every instance.
func (m *Machine) Running(ref api.Ref) []driver.Handle {
	var handles []driver.Handle
	for _, p := range m.running() {
		if ref == (api.Ref{}) || p.spec.Ref == ref {
			handles = append(handles, p.handle)
		}
	}
	return handles
}

// Calls returns the latest calls, at least the last 8,192, oldest first.
func (m *Machine) Calls() []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Call(nil), m.calls...)
}

// Count returns how often an operation was asked for an instance, whether it succeeded
// or not; the zero Ref means every instance.
func (m *Machine) Count(op Op, ref api.Ref) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[counted{op, ref}]
}

func (m *Machine) record(op Op, ref api.Ref, start string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[counted{op, api.Ref{}}]++
	if ref != (api.Ref{}) {
		m.counts[counted{op, ref}]++
	}
	if len(m.calls) == 2*callsKept {
		m.calls = append(m.calls[:0], m.calls[callsKept:]...)
	}
	m.calls = append(m.calls, Call{op, ref, start, err})
}

func (m *Machine) running() []*program {
	m.mu.Lock()
	defer m.mu.Unlock()
	programs := make([]*program, 0, len(m.programs))
	for _, p := range m.programs {
		programs = append(programs, p)
	}
	return programs
}

// find returns the running program that match accepts, or nil.
func (m *Machine) find(match func(driver.Handle) bool) *program {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.programs {
		if match(p.handle) {
			return p
		}
	}
	return nil
}

// run starts a program under the next pid.
func (m *Machine) run(name api.Isolation, spec driver.Spec, b Behaviour) (*program, error) {
	out, err := duplicate(spec.Stdout)
	if err != nil {
		return nil, fmt.Errorf("keep stdout of %s: %w", spec.Ref, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		if out != nil {
			_ = out.Close()
		}
		return nil, fmt.Errorf("start %s: the machine is closed", spec.Ref)
	}
	m.pid++
	p := &program{
		machine: m, spec: spec, behaviour: b, out: out,
		handle: driver.Handle{
			Driver: name, PID: m.pid, StartTime: uint64(m.pid - firstPID), //nolint:gosec // positive
			BootID: m.bootID, Start: spec.Start,
		},
		term: make(chan struct{}), ends: make(chan driver.Exit, 1), done: make(chan struct{}),
	}
	m.programs[m.pid] = p
	go p.run()
	return p, nil
}
