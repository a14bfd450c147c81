package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network carries gossip in memory, for tests and simulations of many nodes. It works in
// the bubbles of testing/synctest.
type Network struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*port
	cut   map[[2]netip.AddrPort]bool // from, to
	fault Fault
}

// Fault decides over what goes from one address to another: how long it takes and
// whether it is lost. It is called for each packet, and for each write to a stream.
type Fault func(from, to netip.AddrPort, packet bool) (delay time.Duration, lost bool)

// NewNetwork returns a network without faults.
func NewNetwork() *Network {
	return &Network{ports: map[netip.AddrPort]*port{}, cut: map[[2]netip.AddrPort]bool{}}
}

// SetFault makes f decide over all that is sent from now on; nil ends that.
func (n *Network) SetFault(f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

// Cut loses all that a and b send to each other from now on.
func (n *Network) Cut(a, b netip.AddrPort) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay loses all that goes from one address to another.
func (n *Network) CutOneWay(from, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]netip.AddrPort{from, to}] = true
}

// Heal undoes all cuts between a and b.
func (n *Network) Heal(a, b netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, [2]netip.AddrPort{a, b})
	delete(n.cut, [2]netip.AddrPort{b, a})
}

// HealAll undoes all cuts.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// Transport takes addr for one node, until the transport is shut down.
func (n *Network) Transport(addr netip.AddrPort) (Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[addr] != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	p := &port{
		net: n, addr: addr, done: make(chan struct{}),
		packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn),
	}
	n.ports[addr] = p
	return p, nil
}

// send says what becomes of something sent. to is nil if nobody is there.
func (n *Network) send(from, addr netip.AddrPort, packet bool) (to *port, delay time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, lost = n.ports[addr], n.cut[[2]netip.AddrPort{from, addr}]
	if n.fault != nil && !lost {
		delay, lost = n.fault(from, addr, packet)
	}
	return to, delay, lost
}

// port is one node's end of a Network.
type port struct {
	net     *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

var _ Transport = (*port)(nil)

// FinalAdvertiseAddr implements memberlist.Transport.
func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (p *port) WriteTo(b []byte, addr string) (time.Time, error) {
	return p.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (p *port) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	addr, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return now, err
	}
	to, delay, lost := p.net.send(p.addr, addr, true)
	if to == nil || lost {
		return now, nil
	}
	b = append([]byte(nil), b...)
	deliver := func() {
		pkt := &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(p.addr), Timestamp: time.Now()}
		select {
		case to.packets <- pkt:
		default: // as a socket's buffer that is full
		}
	}
	if delay > 0 {
		time.AfterFunc(delay, deliver)
	} else {
		deliver()
	}
	return now, nil
}

// PacketCh implements memberlist.Transport.
func (p *port) PacketCh() <-chan *memberlist.Packet { return p.packets }

// DialTimeout implements memberlist.Transport.
func (p *port) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return p.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (p *port) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	to, there, lost := p.net.send(p.addr, addr, false)
	_, back, lostBack := p.net.send(addr, p.addr, false)
	wait := there + back
	if lost = lost || lostBack || wait > timeout; lost {
		wait = timeout
	}
	select {
	case <-time.After(wait):
	case <-p.done:
		return nil, fail(net.ErrClosed)
	}
	switch {
	case lost:
		return nil, fail(os.ErrDeadlineExceeded)
	case to == nil:
		return nil, fail(syscall.ECONNREFUSED)
	}
	here, far := net.Pipe()
	select {
	case to.streams <- &pipe{Conn: far, net: p.net, from: addr, to: p.addr}:
		return &pipe{Conn: here, net: p.net, from: p.addr, to: addr}, nil
	case <-to.done:
		return nil, fail(syscall.ECONNREFUSED)
	case <-p.done:
		return nil, fail(net.ErrClosed)
	}
}

// StreamCh implements memberlist.Transport.
func (p *port) StreamCh() <-chan net.Conn { return p.streams }

// Shutdown implements memberlist.Transport.
func (p *port) Shutdown() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		delete(p.net.ports, p.addr)
		p.net.mu.Unlock()
		close(p.done)
	})
	return nil
}

// pipe is one end of a stream.
type pipe struct {
	net.Conn
	net      *Network
	from, to netip.AddrPort
	mu       sync.Mutex
	broken   bool // something was lost: what follows would make no sense
}

// Write implements net.Conn. What is lost looks as if it was sent: the reader waits.
func (c *pipe) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, delay, lost := c.net.send(c.from, c.to, false)
	if c.broken = c.broken || lost; c.broken {
		return len(b), nil
	}
	time.Sleep(delay)
	return c.Conn.Write(b)
}

// RemoteAddr implements net.Conn.
func (c *pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }
