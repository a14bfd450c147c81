package transport

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/tenement-fleet/tenement/consensus/secret"
)

// conn is one TCP connection under TLS. It leaves its set when it is closed, whoever
// closes it.
type conn struct {
	net.Conn
	set *conns

	// Guarded by set.mu.
	unproven *list.Element // in set.unproven, until the other side has proven its id
	evicted  bool
	ca       string // fingerprint of the CA that the other side's certificate is of
	release  func() // undoes what use did

	// Set once, before the connection is handed on.
	peer  string // the other side's node id
	proto string
}

// Close ends the connection.
func (c *conn) Close() error {
	c.set.remove(c)
	return c.Conn.Close()
}

// SyscallConn gives the socket to a pool that looks, before it uses a connection again,
// whether the other side has closed it.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// conns is every connection of a transport.
type conns struct {
	mu       sync.Mutex
	all      map[*conn]struct{}
	unproven list.List // accepted connections, oldest first
	max      int       // of unproven
	trusted  map[string]bool
	closed   bool
}

// accepted takes in a connection that somebody made to us. When there are too many that
// have proven nothing, the oldest goes: an honest handshake takes milliseconds, so that
// the oldest is one who only wants to keep the place.
func (s *conns) accepted(raw net.Conn) (*conn, bool) {
	s.mu.Lock()
	c, ok := s.add(raw)
	var oldest *conn
	if ok {
		c.unproven = s.unproven.PushBack(c)
		if s.unproven.Len() > s.max {
			oldest = s.unproven.Front().Value.(*conn)
			oldest.evicted = true
		}
	}
	s.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	return c, ok
}

// dialled takes in a connection that we made.
func (s *conns) dialled(raw net.Conn) (*conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(raw)
}

func (s *conns) add(raw net.Conn) (*conn, bool) {
	if s.closed {
		_ = raw.Close()
		return nil, false
	}
	c := &conn{Conn: raw, set: s}
	s.all[c] = struct{}{}
	return c, true
}

// prove notes whom c is connected to, by what TLS has verified.
func (s *conns) prove(c *conn, state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return errors.New("the peer showed no certificate")
	}
	chain := state.VerifiedChains[0]
	id, err := secret.NodeID(chain[0])
	if err != nil {
		return err
	}
	ca := secret.Fingerprint(chain[len(chain)-1])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if !s.trusted[ca] {
		// The secret was removed while the handshake was under way.
		return fmt.Errorf("%w: its secret has been removed", ErrCertificate)
	}
	c.peer, c.proto, c.ca = id, state.NegotiatedProtocol, ca
	if c.unproven != nil {
		s.unproven.Remove(c.unproven)
		c.unproven = nil
	}
	return nil
}

// use calls release when c is closed; at once if it is.
func (s *conns) use(c *conn, release func()) {
	s.mu.Lock()
	_, open := s.all[c]
	if open {
		c.release = release
	}
	s.mu.Unlock()
	if !open {
		release()
	}
}

func (s *conns) remove(c *conn) {
	s.mu.Lock()
	delete(s.all, c)
	if c.unproven != nil {
		s.unproven.Remove(c.unproven)
		c.unproven = nil
	}
	release := c.release
	c.release = nil
	s.mu.Unlock()
	if release != nil {
		release()
	}
}

func (s *conns) wasEvicted(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.evicted
}

// trust sets the CAs that count, and ends the connections of others.
func (s *conns) trust(cas []*secret.CA) {
	trusted := make(map[string]bool, len(cas))
	for _, ca := range cas {
		trusted[ca.Fingerprint()] = true
	}
	s.mu.Lock()
	s.trusted = trusted
	s.mu.Unlock()
	s.closeIf(func(c *conn) bool { return c.ca != "" && !trusted[c.ca] })
}

// disconnect ends all connections from and to a node.
func (s *conns) disconnect(node string) {
	s.closeIf(func(c *conn) bool { return c.peer == node })
}

func (s *conns) closeAll() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeIf(func(*conn) bool { return true })
}

func (s *conns) closeIf(which func(*conn) bool) {
	var out []*conn
	s.mu.Lock()
	for c := range s.all {
		if which(c) {
			out = append(out, c)
		}
	}
	s.mu.Unlock()
	for _, c := range out {
		_ = c.Close()
	}
}
