package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

// Config is what a [Transport] is made from.
type Config struct {
	// Listener is the peer port. It is closed with the transport.
	Listener net.Listener
	// Advertise is the address at which other nodes reach the port. Default: the
	// listener's, which does for one that is bound to a single address.
	Advertise string
	// NodeID is this node's id.
	NodeID string
	// Keyring says whom to trust. It is followed: connections that were made under a
	// secret end when the secret is removed.
	Keyring *secret.Keyring
	// Handler answers peer HTTP. [PeerID] tells it who asks.
	Handler http.Handler
	// JoinHandler answers those who have a join token but no certificate yet; see
	// [JoinHandler]. Nil refuses them.
	JoinHandler http.Handler
	// Allow returns why a node must not talk to this one, nil if it may. It is asked for
	// each Raft stream and each HTTP request. Default: all that have a certificate may.
	Allow func(nodeID string) error
	// AddressOf returns the address of a node's peer port, if it is known.
	AddressOf func(nodeID string) (string, bool)

	// DialTimeout bounds making a connection, the handshake included. Default 5 s.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the handshake of one who connects. Default 5 s.
	HandshakeTimeout time.Duration
	// MaxUnproven is how many connections there may be whose other side has not proven
	// who it is; one more ends the oldest. Default 256.
	MaxUnproven int
	// RaftTimeout bounds each of Raft's messages. Default 5 s.
	RaftTimeout time.Duration

	Logger     *slog.Logger          // default: discards
	Now        func() time.Time      // default: time.Now
	Registerer prometheus.Registerer // default: no metrics
}

func (c *Config) setDefaults() {
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.RaftTimeout, 5*time.Second)
	setDefault(&c.MaxUnproven, 256)
	if c.Advertise == "" && c.Listener != nil {
		c.Advertise = c.Listener.Addr().String()
	}
	if c.Allow == nil {
		c.Allow = func(string) error { return nil }
	}
	if c.AddressOf == nil {
		c.AddressOf = func(string) (string, bool) { return "", false }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (c *Config) validate() error {
	switch {
	case c.Listener == nil:
		return errors.New("check transport config: Listener is nil")
	case c.Keyring == nil:
		return errors.New("check transport config: Keyring is nil")
	case c.Handler == nil:
		return errors.New("check transport config: Handler is nil")
	case c.MaxUnproven < 0:
		return fmt.Errorf("check transport config: MaxUnproven: got %d, want 1 or more", c.MaxUnproven)
	}
	if err := secret.CheckNodeID(c.NodeID); err != nil {
		return fmt.Errorf("check transport config: NodeID: %w", err)
	}
	return nil
}
