package consensus

import (
	"context"
	"time"
)

// handOverWait bounds what a leader does to leave its place to another before it stops.
const handOverWait = 2 * time.Second

// handOver leaves the leadership to another server before this one stops, so that writes
// wait for a few milliseconds instead of an election's time-out. It is no fault if it does
// not work.
func (n *Node) handOver() {
	if !n.IsLeader() || !n.several.Load() || n.latch.tripped() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverWait)
	defer cancel()
	if err := n.TransferLeadership(ctx); err != nil {
		n.cfg.Logger.Warn("could not hand over the leadership", "error", err)
	}
}
