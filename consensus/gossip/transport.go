package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxStreams bounds the streams that others may hold open; memberlist reads each in a
// goroutine of its own for up to ten seconds.
const maxStreams = 512

// sockets is memberlist's transport over UDP and TCP with dials that end with it.
type sockets struct {
	*memberlist.NetTransport
	ctx    context.Context
	cancel context.CancelFunc
}

func listen(bind string, port int, logger *log.Logger) (*sockets, error) {
	// The port that TCP found free may be taken for UDP.
	for try := 0; ; try++ {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind}, BindPort: port, Logger: logger,
		})
		if err == nil {
			ctx, cancel := context.WithCancel(context.Background())
			return &sockets{t, ctx, cancel}, nil
		}
		if port != 0 || try == 10 {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(s.ctx, "tcp", a.Addr)
}

// Shutdown implements memberlist.Transport.
func (s *sockets) Shutdown() error {
	s.cancel()
	return s.NetTransport.Shutdown()
}

// transport lies between memberlist and the network. It sees what memberlist does not
// tell: which probes fail over UDP, and how TCP then answers. It also ends every stream
// on Shutdown, for memberlist does not wait for those it reads.
type transport struct {
	Transport
	probes     *probes
	refused    func(reason string)
	tcpTimeout time.Duration // a dial with less patience is a probe
	streams    chan net.Conn
	done       chan struct{}
	wg         sync.WaitGroup
	once       sync.Once

	mu     sync.Mutex
	open   map[*stream]struct{} // nil after Shutdown
	in     int
	joined map[string]bool // addresses being joined → a connection was made
}

func newTransport(inner Transport, p *probes, tcpTimeout time.Duration, refused func(string)) *transport {
	t := &transport{
		Transport: inner, probes: p, refused: refused, tcpTimeout: tcpTimeout,
		streams: make(chan net.Conn), done: make(chan struct{}),
		open: map[*stream]struct{}{}, joined: map[string]bool{},
	}
	t.wg.Go(t.accept)
	return t
}

func (t *transport) accept() {
	for {
		select {
		case c := <-t.Transport.StreamCh():
			if s, ok := t.track(c, "", true); ok {
				t.hand(s)
			}
		case <-t.done:
			return
		}
	}
}

// hand gives memberlist a stream to read.
func (t *transport) hand(c net.Conn) {
	select {
	case t.streams <- c:
	case <-t.done:
		_ = c.Close()
	}
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if a.Name != "" && timeout < t.tcpTimeout {
		t.probes.silent(a.Name) // a probe dials only when UDP has not answered
	}
	c, err := t.Transport.DialAddressTimeout(a, timeout)
	if err != nil {
		t.probes.stream(a.Name, err)
		return nil, err
	}
	t.mu.Lock()
	if _, ok := t.joined[a.Addr]; ok {
		t.joined[a.Addr] = true
	}
	t.mu.Unlock()
	s, ok := t.track(c, a.Name, false)
	if !ok {
		return nil, net.ErrClosed
	}
	return s, nil
}

// watchJoin reports, once the returned function is called, whether a connection to addr
// was made meanwhile.
func (t *transport) watchJoin(addr string) func() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.joined[addr] = false
	return func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		made := t.joined[addr]
		delete(t.joined, addr)
		return made
	}
}

func (t *transport) track(c net.Conn, peer string, in bool) (*stream, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil || in && t.in >= maxStreams {
		if t.open != nil {
			t.refused(reasonOverload)
		}
		_ = c.Close()
		return nil, false
	}
	s := &stream{Conn: c, t: t, peer: peer, in: in}
	t.open[s] = struct{}{}
	if in {
		t.in++
	}
	return s, true
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() (err error) {
	t.once.Do(func() { // memberlist calls it also when it fails to start
		err = t.Transport.Shutdown()
		close(t.done)
		t.wg.Wait()
		t.mu.Lock()
		open := t.open
		t.open = nil
		t.mu.Unlock()
		for s := range open {
			err = errors.Join(err, s.Conn.Close())
		}
	})
	return err
}

// stream is a connection whose first answer is evidence that the peer lives.
type stream struct {
	net.Conn
	t    *transport
	peer string // empty: nobody in particular
	in   bool
	once sync.Once
}

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.once.Do(func() {
		if n > 0 {
			s.t.probes.stream(s.peer, nil)
		} else if err != nil {
			s.t.probes.stream(s.peer, err)
		}
	})
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.t.mu.Lock()
	if _, ok := s.t.open[s]; ok {
		delete(s.t.open, s)
		if s.in {
			s.t.in--
		}
	}
	s.t.mu.Unlock()
	return s.Conn.Close()
}
