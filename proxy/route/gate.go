package route

import (
	"context"
	"fmt"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Open lets requests flow to the instance at ep. Opening an open gate again at the same
// endpoint changes nothing; at another one, the connections to the old one are dropped.
func (r *Router) Open(ref api.Ref, ep api.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.target(ref)
	if b := t.backend.Load(); b != nil && b.Endpoint == ep {
		return
	}
	t.ended.Store(r.since(r.now())) // the idle time starts now
	if old := t.backend.Swap(newBackend(ep)); old != nil {
		old.close()
	}
	t.setState(Open)
}

// Sleep closes the gate: the next request wakes the instance.
func (r *Router) Sleep(ref api.Ref) { r.shut(ref, Asleep) }

// Down closes the gate of an instance that can't serve for now: requests for it wait,
// weighted traffic steps past it.
func (r *Router) Down(ref api.Ref) { r.shut(ref, Down) }

// Hold closes the gate of an instance that is desired to be stopped: requests are refused
// for as long as that is so.
func (r *Router) Hold(ref api.Ref) { r.shut(ref, Held) }

func (r *Router) shut(ref api.Ref, s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.find(ref); ok {
		t.shut(s)
		r.prune(t)
	}
}

// TryClose closes the gate as asleep if no request is open and none ended within idle.
// Otherwise it says how long until that could be. The gate of an instance that nobody
// can reach counts as closed.
func (r *Router) TryClose(ref api.Ref, idle time.Duration) (wait time.Duration, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.find(ref)
	if !ok {
		return 0, true
	}
	return t.tryClose(idle)
}

// Drain waits until no request of the instance is open. It closes no gate: whoever
// wants the number to stay at zero closes it first.
func (r *Router) Drain(ctx context.Context, ref api.Ref) error {
	r.mu.Lock()
	t, ok := r.find(ref)
	if !ok {
		r.mu.Unlock()
		return nil
	}
	ch, ok := r.drains[t]
	if !ok {
		ch = make(chan struct{})
		r.drains[t] = ch
		t.word.Or(drainFlag)
		// The last request may have ended before the flag was up: nobody else will tell.
		r.endDrain(t)
	}
	r.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain instance %s: %d requests open: %w", ref, t.InFlight(), context.Cause(ctx))
	}
}

// drained is called when the last open request of a drained target has ended.
func (r *Router) drained(t *Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endDrain(t)
}

func (r *Router) endDrain(t *Target) {
	ch, ok := r.drains[t]
	if !ok || t.InFlight() > 0 {
		return
	}
	t.word.And(^uint64(drainFlag))
	delete(r.drains, t)
	close(ch)
	r.prune(t)
}

// IsOpen reports whether requests for the instance flow at this moment.
func (r *Router) IsOpen(ref api.Ref) bool {
	t, ok := r.find(ref)
	return ok && t.State() == Open
}

// InFlight returns the number of open requests of an instance.
func (r *Router) InFlight(ref api.Ref) int {
	if t, ok := r.find(ref); ok {
		return t.InFlight()
	}
	return 0
}

// LastRequest returns when the instance last had a request open: now if it has one, the
// zero time if it had none since its gate was first opened.
func (r *Router) LastRequest(ref api.Ref) time.Time {
	t, ok := r.find(ref)
	if !ok {
		return time.Time{}
	}
	if t.InFlight() > 0 {
		return r.now()
	}
	if ended := t.ended.Load(); ended != 0 {
		return r.base.Add(time.Duration(ended))
	}
	return time.Time{}
}
