//go:build !unix

package upstream

import "syscall"

// silent can't tell on this system whether a connection is still alive, so that
// requests that must not be sent twice always get a new one.
func silent(syscall.RawConn) bool { return false }
