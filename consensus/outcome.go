package consensus

import (
	"errors"

	"github.com/hashicorp/raft"
)

// ErrNotLeader is wrapped by the error of what only the leader can do when it was asked
// of another node. It had no effect.
var ErrNotLeader = errors.New("this node is not the leader")

// ErrNotSent is to be wrapped by the errors of [Config.Forward] and [Config.ReadIndex]
// when nothing can have reached the leader: a refused connection, say. Then they are
// tried again. After any other error a write may have happened.
var ErrNotSent = errors.New("nothing was sent")

// neverHappened reports whether err says for certain that a command had no effect and
// that it is worth trying again at the next leader.
func neverHappened(err error) bool {
	for _, certain := range []error{
		ErrNotLeader, ErrNotSent, errNoLeader,
		raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout,
	} {
		if errors.Is(err, certain) {
			return true
		}
	}
	return false
}

// mayHaveHappened reports whether err leaves open what became of a command.
func mayHaveHappened(err error) bool {
	return errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrRaftShutdown) || errors.Is(err, raft.ErrAbortedByRestore)
}
