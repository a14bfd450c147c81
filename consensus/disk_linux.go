package consensus

import (
	"fmt"
	"math"
	"os"

	"github.com/tenement-fleet/tenement/api"
	"golang.org/x/sys/unix"
)

// freeSpace returns the bytes that an ordinary user may still write in dir.
func freeSpace(dir string) (api.Size, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR { //nolint:errorlint // a bare errno
			return 0, fmt.Errorf("statfs %s: %w", dir, err)
		}
	}
	free := float64(st.Bavail) * float64(st.Frsize)
	return api.Size(min(free, math.MaxInt64/2)), nil
}

// allocate gives f that many bytes of disk.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size) //nolint:gosec // a file descriptor fits
	if err == unix.EOPNOTSUPP {                    //nolint:errorlint // a bare errno
		return fill(f, size)
	}
	return err
}
