package agent

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// canListen tries to take the port on every address at once. Without SO_REUSEADDR that
// fails for as long as anybody has the port on any of them, if only for a connection.
// Four system calls do, where three listeners of the net package take forty.
func canListen(port int) bool {
	var all unix.Sockaddr = &unix.SockaddrInet6{Port: port}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil { // a machine without IPv6
		all = &unix.SockaddrInet4{Port: port}
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return false
		}
	} else if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		_ = unix.Close(fd)
		return false
	}
	err = unix.Bind(fd, all)
	return unix.Close(fd) == nil && err == nil
}

// claimPort claims the port by a socket in the abstract namespace, which belongs to the
// network namespace as the port does and ends with the process that holds it. Where that
// does not work, by whatever security policy, there is no claim.
func claimPort(port int) (release func(), ok bool) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, true
	}
	release = func() { _ = unix.Close(fd) }
	switch err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@tenement/port/" + strconv.Itoa(port)}); {
	case errors.Is(err, unix.EADDRINUSE):
		release()
		return nil, false
	case err != nil:
		release()
		return nil, true
	}
	return release, true
}
