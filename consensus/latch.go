package consensus

import "sync"

// latch remembers the first failure that a node must not survive. After a failed write
// nobody knows what is on the disk: Raft would try again with the next entry, succeed,
// and leave a hole in the log. So nothing is written any more and the process ends.
type latch struct {
	once  sync.Once
	done  chan struct{}
	err   error // written before done is closed
	fatal func(error)
}

func newLatch(fatal func(error)) *latch {
	return &latch{done: make(chan struct{}), fatal: fatal}
}

func (l *latch) trip(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.done)
		l.fatal(err)
	})
}

// tripped returns the failure, nil if there was none.
func (l *latch) tripped() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}
