package sim

import (
	"sync"
	"time"
)

// troubles is when faults have concerned a machine.
type troubles struct {
	mu    sync.Mutex
	now   int
	since time.Time
	past  []span
}

type span struct{ from, to time.Time }

// begin notes a fault. Faults may overlap.
func (t *troubles) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now++; t.now == 1 {
		t.since = time.Now()
	}
}

func (t *troubles) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now--; t.now == 0 {
		t.past = append(t.past, span{t.since, time.Now()})
	}
}

// within reports whether there was a fault in the last d.
func (t *troubles) within(d time.Duration) bool { return t.long(0, d) }

// long reports whether there was a fault that lasted, in the last d.
func (t *troubles) long(lasted, d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.now > 0 && now.Sub(t.since) >= lasted {
		return true
	}
	for i := len(t.past) - 1; i >= 0 && now.Sub(t.past[i].to) <= d; i-- {
		if t.past[i].to.Sub(t.past[i].from) >= lasted {
			return true
		}
	}
	return false
}
