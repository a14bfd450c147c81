package gossip

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// probes remembers how this node's own probes of the others went, so that it can be said
// why one is suspected.
type probes struct {
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]evidence // by node id
}

// evidence is how one node answered.
type evidence struct {
	answered time.Time     // its last answer, of any kind
	rtt      time.Duration // of the last one over UDP
	silent   time.Time     // since when UDP is not answered; zero: it is
	tcpAt    time.Time     // last attempt over TCP
	tcp      error         // what came of it; nil: an answer
}

func newProbes(now func() time.Time) *probes {
	return &probes{now: now, seen: map[string]evidence{}}
}

func (p *probes) change(id string, f func(e *evidence, now time.Time)) {
	if id == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.seen[id]
	f(&e, p.now())
	p.seen[id] = e
}

// answered notes an answer over UDP.
func (p *probes) answered(id string, rtt time.Duration) {
	p.change(id, func(e *evidence, now time.Time) { e.answered, e.rtt, e.silent = now, rtt, time.Time{} })
}

// silent notes that UDP was not answered in time.
func (p *probes) silent(id string) {
	p.change(id, func(e *evidence, now time.Time) {
		if e.silent.IsZero() {
			e.silent = now
		}
	})
}

// stream notes what came of an attempt over TCP.
func (p *probes) stream(id string, err error) {
	p.change(id, func(e *evidence, now time.Time) {
		e.tcpAt, e.tcp = now, err
		if err == nil {
			e.answered = now
		}
	})
}

func (p *probes) of(id string) evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[id]
}

// keep forgets all nodes that known does not name.
func (p *probes) keep(known func(id string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.seen {
		if !known(id) {
			delete(p.seen, id)
		}
	}
}

// tcpOnly reports whether the node answers over TCP but not over UDP.
func (e evidence) tcpOnly() bool {
	return !e.silent.IsZero() && e.tcp == nil && !e.tcpAt.Before(e.silent)
}

// failing reports whether this node's own last probe had no answer at all.
func (e evidence) failing() bool { return !e.silent.IsZero() && !e.tcpOnly() }

// why says what is known about a node that is not heard from any more.
func (e evidence) why(now time.Time) string {
	last := "never answered a probe of this node"
	if !e.answered.IsZero() {
		last = fmt.Sprintf("last answer to this node %s ago", now.Sub(e.answered).Round(time.Second))
	}
	if !e.failing() {
		return "reported by another member; " + last
	}
	tcp := "not tried"
	if e.tcp != nil {
		tcp = cause(e.tcp)
	}
	return fmt.Sprintf("no answer over UDP, TCP: %s; %s", tcp, last)
}

// cause is the short form of a network error.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if ne, ok := errors.AsType[net.Error](err); errors.Is(err, os.ErrDeadlineExceeded) || ok && ne.Timeout() {
		return "timed out"
	}
	return err.Error()
}
