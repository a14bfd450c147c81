package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// The versions of what nodes tell one another beside memberlist's own protocol. A node
// whose range does not hold the version that another speaks is no member for it.
const (
	delegateVersion    = 1
	delegateVersionMin = 1
	delegateVersionMax = 1
)

// Config is what a [Pool] needs.
type Config struct {
	// NodeID is the UUID of this node, and its name in gossip.
	NodeID string
	// ClusterID is put before every packet and stream; what has another one is dropped.
	ClusterID string
	// Bind is the IP address to listen on, UDP and TCP.
	Bind string
	// Port to listen on; 0 takes any, which is for tests.
	Port int
	// Advertise is the IP address that others reach this node at; empty means Bind, which
	// then must not be 0.0.0.0 or ::.
	Advertise string
	// Keys returns the keys of 32 bytes that encrypt gossip. The first one encrypts, all
	// decrypt.
	Keys func() [][]byte
	// KeysChanged returns a channel that the next change of Keys closes. Nil: they stay.
	KeysChanged func() <-chan struct{}
	// Meta is what the others shall know about this node.
	Meta Meta
	// Transport replaces sockets, Bind and Port; see [Network].
	Transport Transport

	Logger     *slog.Logger
	Now        func() time.Time
	Registerer prometheus.Registerer

	// tune lets tests shorten memberlist's intervals.
	tune func(*memberlist.Config)
	// keysSet, for tests, is sent to after each change of keys.
	keysSet chan struct{}
}

// Transport carries packets and streams between nodes.
type Transport = memberlist.NodeAwareTransport

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.KeysChanged == nil {
		c.KeysChanged = func() <-chan struct{} { return nil }
	}
}

func (c *Config) validate() error {
	if !isUUID(c.NodeID) {
		return fmt.Errorf("node id %q: a UUID in lower case", c.NodeID)
	}
	if c.ClusterID == "" || len(c.ClusterID) > memberlist.LabelMaxSize {
		return fmt.Errorf("cluster id %q: 1 to %d bytes", c.ClusterID, memberlist.LabelMaxSize)
	}
	if c.Keys == nil {
		return errors.New("keys: missing")
	}
	if c.Transport != nil {
		return nil
	}
	// memberlist takes what is no IP address for "every interface".
	bind, err := netip.ParseAddr(c.Bind)
	if err != nil {
		return fmt.Errorf("bind %q: an IP address", c.Bind)
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("port %d: 0 to 65535", c.Port)
	}
	if c.Advertise == "" {
		if bind.IsUnspecified() {
			return fmt.Errorf("advertise: needed when bind is %s", c.Bind)
		}
	} else if a, err := netip.ParseAddr(c.Advertise); err != nil || a.IsUnspecified() {
		return fmt.Errorf("advertise %q: an IP address that others can reach", c.Advertise)
	}
	return nil
}

func isUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// lan returns memberlist's settings for a local network under the rules of this
// project, without delegates and transport.
func (c *Config) lan() *memberlist.Config {
	m := memberlist.DefaultLANConfig()
	m.Name = c.NodeID
	m.Label = c.ClusterID
	m.AdvertiseAddr = c.Advertise
	m.BindAddr, m.BindPort, m.AdvertisePort = c.Bind, c.Port, c.Port
	m.GossipVerifyIncoming, m.GossipVerifyOutgoing = true, true
	m.EnableCompression = false // costs 80 KB of garbage a packet and saves next to nothing
	m.DelegateProtocolVersion = delegateVersion
	m.DelegateProtocolMin, m.DelegateProtocolMax = delegateVersionMin, delegateVersionMax
	// With the usual 4 and 30 % of all packets lost, refutations missed somebody, who then
	// gave up a node that is alive, in nearly all five minutes of TestBadNetwork; now in one
	// of twenty.
	m.RetransmitMult = 12
	// A node that was killed and comes back at another address gets its id back soon
	// after the others have noticed its death; by default never.
	m.DeadNodeReclaimTime = 2 * m.ProbeInterval
	if c.tune != nil {
		c.tune(m)
	}
	return m
}
