//go:build amd64 || arm64

package group

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getInfo is ioctl(pidfd, PIDFD_GET_INFO).
func getInfo(pidfd uintptr, info *unix.PidfdInfo) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, pidfd, unix.PIDFD_GET_INFO, uintptr(unsafe.Pointer(info))) //nolint:gosec // audited: memory that the parent keeps alive
	return errno
}
