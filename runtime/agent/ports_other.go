//go:build !linux

package agent

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
)

// canListen tries every address that a program may choose. A machine without IPv6 has
// nobody to collide with there.
func canListen(port int) bool {
	for _, at := range []struct{ network, host string }{{"tcp4", "127.0.0.1"}, {"tcp4", "0.0.0.0"}, {"tcp6", "::"}} {
		ln, err := new(net.ListenConfig).Listen(context.Background(), at.network, net.JoinHostPort(at.host, strconv.Itoa(port)))
		switch {
		case err == nil:
			if ln.Close() != nil {
				return false
			}
		case at.network == "tcp4", errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EACCES):
			return false
		}
	}
	return true
}

// claimPort knows no way to claim a port here.
func claimPort(int) (release func(), ok bool) { return nil, true }
