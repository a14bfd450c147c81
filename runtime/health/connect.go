package health

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// dialTimeout bounds one attempt; a local listener answers or refuses at once.
const dialTimeout = 50 * time.Millisecond

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// dialable returns the address under which a listener bound to addr is reached from
// this machine. A dual-stack wildcard is reached through 127.0.0.1.
func dialable(addr netip.Addr, v6only bool) netip.Addr {
	addr = addr.Unmap()
	switch {
	case !addr.IsUnspecified():
		return addr
	case addr.Is6() && v6only:
		return loopback6
	default:
		return loopback4
	}
}

// preferred reports whether a is a better address to dial than b: loopback before
// others, IPv4 before IPv6.
func preferred(a, b netip.Addr) bool {
	rank := func(x netip.Addr) int {
		switch {
		case x == loopback4:
			return 0
		case x == loopback6:
			return 1
		case x.Is4():
			return 2
		default:
			return 3
		}
	}
	return !b.IsValid() || rank(a) < rank(b)
}

func tcpEndpoint(addr netip.Addr, port int) api.Endpoint {
	return api.Endpoint{Network: "tcp", Address: net.JoinHostPort(addr.String(), strconv.Itoa(port))}
}

func unixEndpoint(path string) api.Endpoint {
	return api.Endpoint{Network: "unix", Address: path}
}

// connectTCP tries a connection to the port on both loopback addresses.
func connectTCP(port int) (netip.Addr, bool) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		if accepts("tcp", net.JoinHostPort(addr.String(), strconv.Itoa(port))) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func accepts(network, address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was written: nothing can be lost
	return true
}
