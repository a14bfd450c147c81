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
	if !n.IsLeader() || n.votesAlone() || n.latch.tripped() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverWait)
	defer cancel()
	if err := n.TransferLeadership(ctx); err != nil {
		n.cfg.Logger.Warn("could not hand over the leadership", "error", err)
	}
}

// yieldEvery is how often a node whose disk stays full gives up the leadership, at most:
// when all disks are full it would go round for ever.
const yieldEvery = time.Minute

// yieldDisk leaves the leadership to another server while this one has no room for
// writes.
func (n *Node) yieldDisk(ctx context.Context) {
	leads := n.IsLeader()
	if !leads && n.yielded.IsZero() || !n.several.Load() {
		return
	}
	if n.disk.writable() == nil {
		n.yielded = time.Time{} // the next time is another one
		return
	}
	if !leads {
		return
	}
	now := n.cfg.Now()
	if !n.yielded.IsZero() && now.Sub(n.yielded) < yieldEvery {
		return
	}
	n.yielded = now
	if err := n.TransferLeadership(ctx); err != nil {
		n.cfg.Logger.Warn("the disk is nearly full, and the leadership could not be handed over", "error", err)
		return
	}
	n.cfg.Logger.Warn("the disk is nearly full: another server leads now")
}

// ownPending is how much waits for this server. One of several is not at fault when its
// writes wait for others, and need not exit for it: without a quorum it stops leading, and
// Raft answers them. Its own disk is its own fault, on a follower too.
func (n *Node) ownPending() int {
	pending := int(n.files.writing.Load())
	if !n.several.Load() {
		pending = max(pending, len(n.slots))
	}
	return pending
}

// progress changes whenever something goes on.
func (n *Node) progress() uint64 {
	return n.raft.AppliedIndex() + n.batches.Load() + n.files.writes.Load()
}
