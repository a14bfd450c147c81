package route

import (
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// State is where an instance's gate stands.
type State uint8

// The states of a gate.
const (
	Asleep State = iota // the next request wakes it
	Open                // requests flow
	Down                // crashed, starting or unhealthy: its own requests wait, weighted ones go elsewhere
	Held                // desired = stopped: requests are refused
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"asleep", "open", "down", "held"}[s]
}

// The gate word: the number of open requests, the state, a flag that somebody waits
// for the number to reach zero, and a count of all claims, so that a word read twice
// with one value means that nothing was claimed in between.
const (
	countMask  = 1<<24 - 1
	stateShift = 24
	stateMask  = 3 << stateShift
	drainFlag  = 1 << 26
	claimOne   = 1<<27 | 1 // one more claim made, one more open
)

func wordState(w uint64) State { return State(w & stateMask >> stateShift) }

// Target is one instance as the proxy sees it. 100,000 of them sleep in memory, so it
// holds only what every instance needs; what only a running one needs is its [Backend].
type Target struct {
	id       string
	service  *Service
	word     atomic.Uint64                // the gate
	ended    atomic.Int64                 // when a request last ended or the gate last opened, since the router's base
	instance atomic.Pointer[api.Instance] // nil: not declared, or not any more
	backend  atomic.Pointer[Backend]      // nil unless the gate is open
}

func (t *Target) key() string { return t.id }

// Ref returns the instance's name.
func (t *Target) Ref() api.Ref { return api.Ref{Service: t.service.name, ID: t.id} }

// Service returns the service that it is an instance of.
func (t *Target) Service() *Service { return t.service }

// State returns how requests for the instance fare at this moment: the gate's state,
// but for what the agent, who moves the gate, may not have acted upon yet. An instance
// that is desired to be stopped, or not declared any more, is held at once; one that is
// no longer desired to be stopped is as good as asleep.
func (t *Target) State() State {
	inst := t.instance.Load()
	if !routable(inst) {
		return Held
	}
	if id, remote := t.remote(inst); remote {
		return t.remoteState(id)
	}
	if s := wordState(t.word.Load()); s != Held {
		return s
	}
	return Asleep
}

func routable(inst *api.Instance) bool {
	return inst != nil && inst.Desired != api.DesiredStopped
}

// InFlight returns the number of open requests.
func (t *Target) InFlight() int { return int(t.word.Load() & countMask) }

// Declared reports whether the instance still exists.
func (t *Target) Declared() bool { return t.instance.Load() != nil }

// Claim opens a request: while it is open the instance is not put to sleep, and a
// drain waits for it. It fails unless the state is [Open]. Every successful Claim is
// followed by one Release.
func (t *Target) Claim() (*Backend, bool) {
	for {
		inst := t.instance.Load()
		if !routable(inst) {
			break
		}
		if id, remote := t.remote(inst); remote {
			b := t.service.router.peer(id).open()
			if b != nil {
				t.word.Add(claimOne)
			}
			return b, b != nil
		}
		w := t.word.Load()
		if wordState(w) != Open {
			return nil, false
		}
		if !t.word.CompareAndSwap(w, w+claimOne) {
			continue
		}
		if b := t.backend.Load(); b != nil {
			return b, true
		}
		t.unclaim() // closed since, and the backend is gone already
		break
	}
	return nil, false
}

// Release ends a claimed request at now.
func (t *Target) Release(now time.Time) {
	t.ended.Store(t.service.router.since(now))
	t.unclaim()
}

func (t *Target) unclaim() {
	if w := t.word.Add(^uint64(0)); w&countMask == 0 && w&drainFlag != 0 {
		t.service.router.drained(t)
	}
}

// setState moves the gate to s.
func (t *Target) setState(s State) {
	for {
		w := t.word.Load()
		if t.word.CompareAndSwap(w, w&^stateMask|uint64(s)<<stateShift) {
			return
		}
	}
}

// forgettable reports whether nothing is lost when the target is dropped: it is not
// declared, its gate was closed by the agent, and no request is open.
func (t *Target) forgettable() bool {
	w := t.word.Load()
	return !t.Declared() && wordState(w) != Open && w&countMask == 0
}

// shut moves the gate to a closed state. What claimed before goes on with its backend.
func (t *Target) shut(s State) {
	t.setState(s)
	t.retire()
}

func (t *Target) retire() {
	if b := t.backend.Swap(nil); b != nil {
		b.close()
	}
}

// tryClose puts an idle gate to sleep; else it says how long until it could be.
func (t *Target) tryClose(idle time.Duration) (wait time.Duration, closed bool) {
	w := t.word.Load()
	switch {
	case wordState(w) == Asleep:
		return 0, true
	case wordState(w) != Open || w&countMask != 0:
		return idle, false
	}
	r := t.service.router
	if quiet := time.Duration(r.since(r.now()) - t.ended.Load()); quiet < idle {
		return idle - quiet, false
	}
	// An unchanged word means that nothing was claimed since it was read, so that
	// ended was the last one's end.
	if !t.word.CompareAndSwap(w, w&^stateMask|uint64(Asleep)<<stateShift) {
		return idle, false
	}
	t.retire()
	return 0, true
}

// share returns the target's share of weighted traffic, 0 to leave it out, and the fleet
// with which it has that together.
func (t *Target) share() (weight uint64, fleet string) {
	inst := t.instance.Load()
	if inst == nil || inst.Desired != api.DesiredRunning {
		return 0, ""
	}
	return uint64(max(0, inst.EffectiveWeight())), inst.Fleet
}
