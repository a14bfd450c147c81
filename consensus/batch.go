package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/consensus/state"
)

const (
	// An entry takes commands up to this many bytes, or one. Bigger ones cost more than
	// they save: bolt writes the entries beside a new one again.
	maxEntryBytes = 8 << 10
	// maxFlights is how many entries Raft may have in hand: less than the room of its
	// channel, so that giving it one never waits.
	maxFlights = 64
)

// proposal is a command on its way into the log. It holds one of the node's slots.
type proposal struct {
	command []byte
	done    chan answer // takes one without a reader
}

type answer struct {
	result state.Result
	err    error
}

// flight is an entry that has been given to Raft.
type flight struct {
	future    raft.ApplyFuture
	proposals []proposal
}

// batch turns proposals into entries: while some are being written those that come wait,
// and share the next write, most of them an entry too. The next entries are formed the
// moment that a write ends, by Raft's own main loop: to wake somebody for it would leave
// the disk idle, and to form them earlier would close them to those who come meanwhile.
type batch struct {
	apply   func(entry []byte) raft.ApplyFuture
	flights chan flight // in the order of the log; has room for maxFlights

	mu      sync.Mutex
	waiting []proposal
	flying  int  // entries given to Raft and not answered
	writing bool // some of them are not on disk yet
	closed  bool
	empty   chan struct{} // closed when closed and nothing flies
}

func newBatch(apply func([]byte) raft.ApplyFuture) *batch {
	return &batch{apply: apply, flights: make(chan flight, maxFlights), empty: make(chan struct{})}
}

// add gives proposals to Raft, now or as soon as what is being written is written. Those
// that are given at once share that write.
func (b *batch) add(some ...proposal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		for _, p := range some {
			p.done <- answer{err: errClosing}
		}
		return
	}
	b.waiting = append(b.waiting, some...)
	if !b.writing {
		b.send()
	}
}

// written is called when Raft has written entries to disk.
func (b *batch) written() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = false
	b.send()
}

// answered is called when Raft has answered for an entry, written or not.
func (b *batch) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flying--
	if b.closed {
		b.land()
		return
	}
	b.writing = b.writing && b.flying > 0
	if !b.writing {
		b.send()
	}
}

// close refuses what waits and what is yet to come. The channel that it returns is
// closed when Raft has answered for everything that it was given: it does so as long as
// it runs, and forgets some of it when it is stopped.
func (b *batch) close() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		for _, p := range b.waiting {
			p.done <- answer{err: errClosing}
		}
		b.waiting = nil
		b.land()
	}
	return b.empty
}

func (b *batch) land() {
	if b.flying == 0 {
		close(b.empty)
	}
}

func (b *batch) send() {
	for len(b.waiting) > 0 && b.flying < maxFlights {
		n, size := 0, 0
		var commands [][]byte
		for n < len(b.waiting) && (n == 0 || size+len(b.waiting[n].command) <= maxEntryBytes) {
			commands = append(commands, b.waiting[n].command)
			size += len(b.waiting[n].command)
			n++
		}
		sent := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		b.writing = true
		b.flying++
		b.flights <- flight{b.apply(state.Entry(commands...)), sent}
	}
}

// answerAll tells proposers what became of their commands, until the batch is closed and
// empty.
func (n *Node) answerAll() {
	for {
		select {
		case f := <-n.batch.flights:
			n.answer(f)
		case <-n.batch.empty:
			return
		}
	}
}

func (n *Node) answer(f flight) {
	err := f.future.Error()
	var results []state.Result
	if err != nil {
		err = raftError(err)
	} else {
		results, _ = f.future.Response().([]state.Result)
	}
	for i, p := range f.proposals {
		a := answer{err: err}
		switch {
		case i < len(results):
			a.result = results[i]
		case err == nil: // the latch has tripped before it was applied
			a.err = stopped(n.latch.tripped())
		}
		p.done <- a
		<-n.slots
	}
	n.batch.answered()
}
