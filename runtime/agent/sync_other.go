//go:build !linux

package agent

import "os"

// syncTree puts on disk what it can of what was written below dir.
func syncTree(dir *os.File) error { return dir.Sync() }
