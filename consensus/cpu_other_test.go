//go:build !linux

package consensus

import "time"

// cpuTime is measured on Linux alone.
func cpuTime() time.Duration { return 0 }
