package gossip

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// errRead ends a mirror's join once it has what it wanted.
var errRead = errors.New("state was read")

// mirror reads memberlist's own table: memberlist keeps to itself which members it
// suspects and which of the gone ones left of their own will, but tells any node that
// joins. The mirror is such a node, connected in memory to this one. It has left before
// it ever said a word, so that nobody takes it for a member. See DESIGN.md.
type mirror struct {
	list *memberlist.Memberlist
	got  []memberlist.Node
}

// newMirror mirrors the list with the settings main, whose streams dial opens.
func newMirror(main *memberlist.Config, dial func() (net.Conn, error)) (*mirror, error) {
	m := &mirror{}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = "mirror"
	cfg.Label, cfg.Keyring, cfg.EnableCompression = main.Label, main.Keyring, main.EnableCompression
	cfg.DelegateProtocolVersion = main.DelegateProtocolVersion
	cfg.DelegateProtocolMin, cfg.DelegateProtocolMax = main.DelegateProtocolMin, main.DelegateProtocolMax
	cfg.ProbeInterval, cfg.GossipInterval, cfg.PushPullInterval = 0, 0, 0 // it does nothing by itself
	cfg.QueueCheckInterval = 24 * time.Hour
	cfg.Logger = log.New(io.Discard, "", 0)
	cfg.Transport = mirrorTransport{dial}
	cfg.Merge = m
	var err error
	if m.list, err = memberlist.Create(cfg); err != nil {
		return nil, fmt.Errorf("create mirror: %w", err)
	}
	if err := m.list.Leave(0); err != nil {
		return nil, errors.Join(fmt.Errorf("create mirror: %w", err), m.list.Shutdown())
	}
	return m, nil
}

// NotifyMerge implements memberlist.MergeDelegate.
func (m *mirror) NotifyMerge(peers []*memberlist.Node) error {
	m.got = make([]memberlist.Node, len(peers))
	for i, p := range peers {
		m.got[i] = *p
	}
	return errRead
}

// read returns all nodes of the table. One caller at a time.
func (m *mirror) read() ([]memberlist.Node, error) {
	m.got = nil
	if _, err := m.list.Join([]string{mirrorAddr.String()}); m.got == nil {
		return nil, fmt.Errorf("read member table: %w", err)
	}
	return m.got, nil
}

func (m *mirror) close() error { return m.list.Shutdown() }

// mirrorAddr is where the mirror believes that it, and the list, can be reached.
var mirrorAddr = netip.MustParseAddrPort("127.0.0.1:1")

// mirrorTransport connects to the mirrored list and nowhere else.
type mirrorTransport struct {
	dial func() (net.Conn, error)
}

var _ Transport = mirrorTransport{}

func (mirrorTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return mirrorAddr.Addr().AsSlice(), int(mirrorAddr.Port()), nil
}

func (mirrorTransport) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }

func (mirrorTransport) WriteToAddress([]byte, memberlist.Address) (time.Time, error) {
	return time.Now(), nil
}

func (mirrorTransport) PacketCh() <-chan *memberlist.Packet { return nil }

func (t mirrorTransport) DialTimeout(string, time.Duration) (net.Conn, error) { return t.dial() }

func (t mirrorTransport) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	return t.dial()
}

func (mirrorTransport) StreamCh() <-chan net.Conn { return nil }

func (mirrorTransport) Shutdown() error { return nil }
