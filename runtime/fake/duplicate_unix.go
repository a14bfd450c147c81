//go:build unix

package fake

import (
	"os"

	"golang.org/x/sys/unix"
)

// duplicate returns a copy of f of its own, as a child process gets one; nil for nil.
func duplicate(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil //nolint:gosec // a descriptor is not negative
}
