package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unicode"
	"unicode/utf8"
)

// MetaMax bounds the encoded [Meta]. memberlist panics beyond 512 bytes, and each
// packet of 1,400 should hold several nodes.
const MetaMax = 200

// metaFormat is the first byte of encoded metadata. A new field goes to the end and
// keeps the format: decoders skip what they do not know.
const metaFormat = 1

var errMeta = errors.New("unreadable metadata")

// Meta is what a node says about itself.
type Meta struct {
	Name     string // the node's human name
	PeerAddr string // host:port of the peer port
	HTTPAddr string // host:port of the public HTTP port
	Version  string // of the program
	Zone     string
}

func (m *Meta) fields() [5]*string {
	return [5]*string{&m.Name, &m.PeerAddr, &m.HTTPAddr, &m.Version, &m.Zone}
}

// encode packs m. The host of an address that equals host is left out: nearly always
// all ports of a node have one address.
func (m Meta) encode(host string) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	m.PeerAddr, m.HTTPAddr = shorten(m.PeerAddr, host), shorten(m.HTTPAddr, host)
	b := []byte{metaFormat}
	for _, f := range m.fields() {
		if len(*f) > 255 {
			return nil, fmt.Errorf("metadata: %q is longer than 255 bytes", *f)
		}
		b = append(append(b, byte(len(*f))), *f...)
	}
	if len(b) > MetaMax {
		return nil, fmt.Errorf("metadata: %d bytes, at most %d: shorten the node's name, zone or addresses", len(b), MetaMax)
	}
	return b, nil
}

// decodeMeta is the inverse of encode. It believes nothing: b comes from the network.
func decodeMeta(b []byte, host string) (Meta, error) {
	if len(b) == 0 || b[0] != metaFormat {
		return Meta{}, errMeta
	}
	var m Meta
	b = b[1:]
	for _, f := range m.fields() {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Meta{}, errMeta
		}
		*f, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	m.PeerAddr, m.HTTPAddr = lengthen(m.PeerAddr, host), lengthen(m.HTTPAddr, host)
	if m.check() != nil {
		return Meta{}, errMeta
	}
	return m, nil
}

func (m Meta) check() error {
	for _, addr := range []string{m.PeerAddr, m.HTTPAddr} {
		if addr == "" {
			continue
		}
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return fmt.Errorf("metadata: address %q: host:port", addr)
		}
	}
	for _, f := range m.fields() {
		if !utf8.ValidString(*f) {
			return fmt.Errorf("metadata: %q is not UTF-8", *f)
		}
		for _, r := range *f {
			if !unicode.IsPrint(r) {
				return fmt.Errorf("metadata: %q has characters that cannot be printed", *f)
			}
		}
	}
	return nil
}

func shorten(addr, host string) string {
	if h, port, err := net.SplitHostPort(addr); err == nil && h == host {
		return ":" + port
	}
	return addr
}

func lengthen(addr, host string) string {
	if h, port, err := net.SplitHostPort(addr); err == nil && h == "" {
		return net.JoinHostPort(host, port)
	}
	return addr
}

// addrPort returns the address of a memberlist node.
func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
