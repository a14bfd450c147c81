package agent

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncTree puts on disk all that was written below dir: everything on its file system,
// which is one call where there may be a million files.
func syncTree(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }
