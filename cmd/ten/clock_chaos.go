//go:build chaosclock

package main

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"
)

// clock returns a clock that is wrong by what the file of TENEMENT_CHAOS_CLOCK says at the
// moment. It is only in the builds of e2e/chaos.
func clock() func() time.Time {
	var off atomic.Int64
	go func() {
		for {
			b, _ := os.ReadFile(os.Getenv("TENEMENT_CHAOS_CLOCK")) // none: on time
			d, _ := time.ParseDuration(string(b))
			off.Store(int64(d / time.Second))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return func() time.Time { return stepped(time.Now(), off.Load()) }
}

// stepped returns what time.Now would have returned had somebody set the wall clock: its
// reading of the monotonic clock stays as it is. No function of package time does that.
func stepped(t time.Time, seconds int64) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t)) // 1 bit, 33 bits of seconds since 1885, 30 bits of nanoseconds
	*wall += uint64(seconds) << 30
	return t
}
