//go:build unix

package upstream

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// silent reports whether a socket is open with nothing to read: what a connection must
// be between two exchanges.
func silent(raw syscall.RawConn) bool {
	quiet := false
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) //nolint:gosec // a descriptor fits an int
		quiet = errors.Is(err, unix.EAGAIN)
		return true
	})
	return err == nil && quiet
}
