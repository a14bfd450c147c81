package agent

import (
	"slices"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// rolls restarts running instances whose service changed in what they are started from:
// one at a time per service, each accepting connections before the next is taken. The
// first that does not come up halts its service's roll, and the others keep running what
// they run until the service changes again.
type rolls struct {
	mu     sync.Mutex
	queues map[string][]api.Ref // by service; the first one is being rolled
}

// add queues an instance and reports whether somebody must begin to work the queue off.
func (r *rolls) add(ref api.Ref) (begin bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[ref.Service]
	if len(q) > 0 && slices.Contains(q[1:], ref) {
		return false
	}
	r.queues[ref.Service] = append(q, ref)
	return len(q) == 0
}

// next drops the first of the queue, or all of it, and returns the one after.
func (r *rolls) next(service string, halt bool) (ref api.Ref, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[service][1:]
	if len(q) == 0 || halt {
		delete(r.queues, service)
		return api.Ref{}, false
	}
	r.queues[service] = q
	return q[0], true
}

// roll has the instance restarted with its service's current spec, in its turn.
func (a *Agent) roll(ref api.Ref) {
	if !a.rolls.add(ref) {
		return
	}
	a.wg.Go(func() {
		for ok := true; ok; {
			err := a.ask(a.ctx, ref, onRoll)
			code := api.CodeOf(err)
			halt := code == api.CodeFailed || code == api.CodeTimeout || a.ctx.Err() != nil
			if halt && a.ctx.Err() == nil {
				a.cfg.Logger.Warn("roll halted: the changed service does not come up; its other instances keep running as they are",
					"instance", ref, "error", err)
			}
			ref, ok = a.rolls.next(ref.Service, halt)
		}
	})
}
