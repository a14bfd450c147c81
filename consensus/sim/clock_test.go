package sim

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// epoch is when the time of every bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is a machine's: its wall clock can be set, its monotonic clock goes on.
type clock struct{ skew atomic.Int64 }

// now returns a time as time.Now does on a machine: with two readings. In a bubble
// time.Now has only one, so that differences of times would jump with the wall clock.
func (c *clock) now() time.Time {
	truth := time.Now()
	// The layout is that of time.Time, see its documentation: bit 63 of wall says that
	// there is a monotonic reading, then 33 bits of seconds since 1885, 30 of nanoseconds.
	type layout struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}
	wall := truth.Add(time.Duration(c.skew.Load()))
	since1885 := wall.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	var t time.Time
	l := (*layout)(unsafe.Pointer(&t))
	l.wall = 1<<63 | uint64(since1885)<<30 | uint64(wall.Nanosecond())
	l.ext = int64(truth.Sub(epoch) + time.Hour)
	l.loc = time.Local
	return t
}

// set moves the wall clock by d against the true time.
func (c *clock) set(d time.Duration) { c.skew.Store(int64(d)) }
