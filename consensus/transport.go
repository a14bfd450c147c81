package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// steadyTransport hands every message to Raft's main loop. Raft would like heartbeats
// to bypass it; in v1.8.0 they then race the loop of a leader that is being deposed,
// which can apply an entry that the new leader has replaced (hashicorp/raft#695).
type steadyTransport struct{ Transport }

// SetHeartbeatHandler does nothing, as Raft allows.
func (steadyTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// memoryTransport returns the transport of a cluster of one: it reaches itself alone.
func memoryTransport(id string) Transport {
	addr, t := raft.NewInmemTransport(raft.ServerAddress(id))
	t.Connect(addr, t)
	return t
}

// callElection makes the node behind t, whose id is given, stand for election now
// instead of after its time-out. It is the message by which a leader hands over.
func callElection(t Transport, id string) error {
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(id),
		Addr:            t.EncodePeer(raft.ServerID(id), t.LocalAddr()),
	}}
	if err := t.TimeoutNow(raft.ServerID(id), t.LocalAddr(), req, new(raft.TimeoutNowResponse)); err != nil {
		return fmt.Errorf("call election: %w", err)
	}
	return nil
}
