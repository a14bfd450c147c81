package health

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// dumpEvery is how often, in looks, the whole table of listeners is read although
// looking up the waiters' ports one by one is cheaper: only the table shows a listener
// that is bound to an address other than a wildcard or loopback.
const dumpEvery = 64

// claimEvery is how often, in looks, a port on which somebody listens who may not is
// looked at for others: who shares a port is not seen by a lookup of it.
const claimEvery = 16

// yieldEvery is below the 10 ms after which Go's scheduler preempts.
const yieldEvery = 5 * time.Millisecond

// prober finds out who listens. Only wake may be called from several goroutines.
type prober struct {
	log   *slog.Logger
	how   method
	event int   // eventfd, made readable by wake
	diag  *diag // nil unless how is methodDiag
	socks *socks

	yielded time.Time

	looks    uint64
	dumpCost estimate // of reading the whole table
	portCost estimate // of looking up one port

	ports []int
	hits  map[int]listener // by port, of this look
}

// openProber opens the first method from how on that works here.
func openProber(how method, log *slog.Logger) (*prober, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	p := &prober{log: log, how: how, event: event, hits: make(map[int]listener)}
	if p.how == methodDiag {
		if p.diag, err = openDiag(); err != nil {
			p.fallBack(err)
		}
	}
	if p.how == methodProc {
		if err := readProcNet(func(int, listener) {}); err != nil {
			p.fallBack(err)
		}
	}
	p.socks = openSocks(p.diag, log)
	return p, nil
}

// fallBack gives up the current method because of err.
func (p *prober) fallBack(err error) {
	p.how++
	p.log.Warn("cannot watch listening sockets the fast way; programs that start are noticed later", "error", err)
}

func (p *prober) close() error {
	var diagErr error
	if p.diag != nil {
		diagErr = p.diag.close()
	}
	if err := errors.Join(p.socks.close(), diagErr, unix.Close(p.event)); err != nil {
		return fmt.Errorf("close readiness watcher: %w", err)
	}
	return nil
}

func (p *prober) enter(w *waiter) { p.socks.enter(w) }
func (p *prober) leave(w *waiter) { p.socks.leave(w) }

// wake makes a running or the next pause end at once.
func (p *prober) wake() {
	// It can only fail with EAGAIN, when the counter is at its end: readable all the same.
	_, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// pause sleeps in the kernel, because Go's timers round up to a millisecond when the
// process is idle. A change in a watched socket directory and wake end it early.
func (p *prober) pause(d time.Duration) {
	fds := []unix.PollFd{
		{Fd: int32(p.event), Events: unix.POLLIN},        //nolint:gosec // fds are small
		{Fd: int32(p.socks.notify), Events: unix.POLLIN}, //nolint:gosec // fds are small; -1 is ignored
	}
	p.yield()
	ts := unix.NsecToTimespec(int64(d))
	n, err := unix.Ppoll(fds, &ts, nil)
	if err != nil || n == 0 {
		return // interrupted or over: either way the next look is due
	}
	if fds[0].Revents != 0 {
		var counter [8]byte
		_, _ = unix.Read(p.event, counter[:]) // resets it
	}
	if fds[1].Revents != 0 {
		p.socks.read()
	}
}

// yield goes through Go's scheduler at times. Without it the runtime takes a goroutine
// that does nothing but system calls for one that hogs its processor, takes that away
// in each call, and wakes two more threads to do so: it doubles what waiting costs.
func (p *prober) yield() {
	if now := time.Now(); now.Sub(p.yielded) > yieldEvery {
		runtime.Gosched()
		p.yielded = now
	}
}

// probe looks once for every waiter and tells those that can go.
func (p *prober) probe(waiters []*waiter) {
	p.ports = p.ports[:0]
	for _, w := range waiters {
		if w.port != 0 {
			p.ports = append(p.ports, w.port)
		}
	}
	clear(p.hits)
	if len(p.ports) > 0 {
		p.findPorts()
	}
	p.looks++
	for _, w := range waiters {
		l, ok := p.hits[w.port]
		switch {
		case w.port == 0:
		case !ok:
			w.claim.forget()
		case w.owns == nil || l.inode == 0:
			w.ready <- tcpEndpoint(l.addr, w.port)
		case w.claim.undecided(l.inode) || w.claim.idle() && p.looks%claimEvery == 0:
			p.find(w)
		}
	}
	for _, w := range p.socks.listening(waiters) {
		if len(w.ready) == 0 {
			w.ready <- unixEndpoint(w.socket)
		}
	}
}

// find tells a waiter of all who listen on its port.
func (p *prober) find(w *waiter) {
	var (
		all  []listener
		err  error
		each = func(l listener) { all = append(all, l) }
	)
	if p.how == methodDiag {
		err = p.diag.listeners(w.port, each)
	} else {
		err = readProcNet(func(port int, l listener) {
			if port == w.port {
				each(l)
			}
		})
	}
	if err != nil {
		p.fallBack(err)
		return
	}
	if w.claim.put(all) {
		runtime.Gosched() // the waiter goes first; in the pause nobody might notice that it can
	}
}

// findPorts fills hits with those of p.ports that somebody listens on.
func (p *prober) findPorts() {
	hit := func(port int, l listener) {
		if preferred(l.addr, p.hits[port].addr) {
			p.hits[port] = l
		}
	}
	var err error
	switch p.how {
	case methodDiag:
		err = p.findByDiag(hit)
	case methodProc:
		err = readProcNet(hit)
	case methodConnect:
		for _, port := range p.ports {
			if addr, ok := connectTCP(port); ok {
				hit(port, listener{addr: addr})
			}
		}
	}
	if err != nil {
		p.fallBack(err)
	}
}

// findByDiag reads the table of listeners or looks up single ports, whichever is cheaper.
func (p *prober) findByDiag(hit func(int, listener)) error {
	start := time.Now()
	if n := estimate(len(p.ports)); p.looks%dumpEvery != 0 && n*p.portCost <= p.dumpCost {
		err := p.diag.lookup(p.ports, hit)
		p.portCost.add(time.Since(start) / time.Duration(n))
		return err
	}
	err := p.diag.dump(p.ports, hit)
	p.dumpCost.add(time.Since(start))
	return err
}
