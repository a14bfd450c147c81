package consensus

import "time"

// stuckAfter is how long writes may be pending while nothing at all is applied.
const stuckAfter = 3 * time.Second

// watchdog notices that Raft hangs, on a disk that neither works nor fails
// (hashicorp/raft#503). It counts looks instead of reading a clock: a process that was
// itself stopped for an hour looks once when it goes on, and finds no fault.
type watchdog struct {
	ticks int // looks without progress that make it stuck
	seen  uint64
	idle  int
}

// stuck takes one look. To be busy applying is no fault: only a disk keeps Raft waiting.
func (w *watchdog) stuck(pending int, busy bool, progress uint64) bool {
	if pending == 0 || busy || progress != w.seen {
		w.seen, w.idle = progress, 0
		return false
	}
	w.idle++
	return w.idle >= w.ticks
}
