package health

import (
	"fmt"
	"net/netip"
	"sync/atomic"
)

// listener is a socket that listens on some port.
type listener struct {
	addr  netip.Addr // under which to dial it
	inode uint64     // 0: unknown
}

// claim is who listens on a waiter's port, and whether he may. Judging takes too long for
// the loop that looks on behalf of everybody, so the waiter's own goroutine does it. The
// rest belongs to the loop and, while the waiter judges, to the waiter.
type claim struct {
	found    chan []listener // from the loop to the waiter; takes one
	judging  atomic.Bool
	verdicts map[uint64]bool // by inode
	rejected atomic.Int32    // how many of them are not the program's
}

func newClaim() claim { return claim{found: make(chan []listener, 1)} }

// idle reports whether the loop may use the claim.
func (c *claim) idle() bool { return !c.judging.Load() }

// undecided reports whether a listener must be judged.
func (c *claim) undecided(inode uint64) bool {
	if !c.idle() {
		return false
	}
	_, known := c.verdicts[inode]
	return !known
}

// forget says that nobody listens.
func (c *claim) forget() {
	if c.idle() && c.verdicts != nil {
		c.verdicts = nil
		c.rejected.Store(0)
	}
}

// put has all who listen judged, unless they were.
func (c *claim) put(all []listener) (news bool) {
	same := len(all) == len(c.verdicts)
	for _, l := range all {
		_, known := c.verdicts[l.inode]
		same = same && known
	}
	if same {
		return false
	}
	c.judging.Store(true)
	c.found <- all
	return true
}

// judge returns the best address behind which there is nobody but the program itself.
func (c *claim) judge(all []listener, owns func(inode uint64) bool) (netip.Addr, bool) {
	verdicts := make(map[uint64]bool, len(all))
	foreign := make(map[netip.Addr]bool)
	rejected := int32(0)
	for _, l := range all {
		own, known := c.verdicts[l.inode]
		if !known {
			own = l.inode == 0 || owns(l.inode)
		}
		verdicts[l.inode] = own
		if !own {
			foreign[l.addr] = true
			rejected++
		}
	}
	var best netip.Addr
	for _, l := range all {
		if !foreign[l.addr] && preferred(l.addr, best) {
			best = l.addr
		}
	}
	c.verdicts = verdicts
	c.rejected.Store(rejected)
	c.judging.Store(false)
	return best, best.IsValid()
}

// obstacle says that somebody else listens.
func (c *claim) obstacle(port int) string {
	if c.rejected.Load() == 0 {
		return ""
	}
	return fmt.Sprintf(": another process listens on port %d", port)
}
