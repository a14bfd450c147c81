package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftPool is how many idle streams are kept for each node: Raft uses one at a time for
// each of replication, heartbeats and votes.
const raftPool = 3

// RaftTransport carries Raft's messages over the peer port. It satisfies raft.Transport,
// raft.WithPreVote and raft.WithClose.
//
// Raft tells its transport the id and the address of the node it wants, but the library's
// network transport dials, and keeps streams, by address alone. So the methods here pass
// "id@address" on as the address: the dialler then knows whom to expect, no stream is ever
// used for another node that has got the same address, and an address that has changed
// since Raft wrote it down is replaced when dialling. (The library's own hook, a
// ServerAddressProvider, sees only the id. But on a restart the replicated state, and with
// it AddressOf, may be empty until there is a leader, whom only the addresses in Raft's own
// configuration can bring about.)
type RaftTransport struct {
	*raft.NetworkTransport
	t *Transport
}

// RaftTransport returns the transport for Raft, the same at each call. When Raft closes
// it, the peer port goes on without.
func (t *Transport) RaftTransport() *RaftTransport { return t.raft }

func newRaftTransport(t *Transport) *RaftTransport {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft-net", Level: hclog.Debug, Output: io.Discard})
	logger.RegisterSink(raftLog{t.cfg.Logger})
	return &RaftTransport{t: t, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: logger, Stream: &streams{queue: t.raftQueue, t: t}, MaxPool: raftPool, Timeout: t.cfg.RaftTimeout,
	})}
}

// Close implements raft.WithClose: all Raft streams end, those included that the library
// forgets.
func (r *RaftTransport) Close() error {
	err := r.NetworkTransport.Close()
	r.t.conns.closeIf(func(c *conn) bool { return c.proto == protoRaft })
	return err
}

// target joins what the library must not separate.
func target(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + address
}

// AppendEntriesPipeline implements raft.Transport.
func (r *RaftTransport) AppendEntriesPipeline(id raft.ServerID, at raft.ServerAddress) (raft.AppendPipeline, error) {
	return r.NetworkTransport.AppendEntriesPipeline(id, target(id, at))
}

// AppendEntries implements raft.Transport.
func (r *RaftTransport) AppendEntries(id raft.ServerID, at raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return r.NetworkTransport.AppendEntries(id, target(id, at), req, resp)
}

// RequestVote implements raft.Transport.
func (r *RaftTransport) RequestVote(id raft.ServerID, at raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return onFreshStream(func() error { return r.NetworkTransport.RequestVote(id, target(id, at), req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (r *RaftTransport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return onFreshStream(func() error { return r.NetworkTransport.RequestPreVote(id, target(id, at), req, resp) })
}

// TimeoutNow implements raft.Transport.
func (r *RaftTransport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return onFreshStream(func() error { return r.NetworkTransport.TimeoutNow(id, target(id, at), req, resp) })
}

// InstallSnapshot implements raft.Transport.
func (r *RaftTransport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return r.NetworkTransport.InstallSnapshot(id, target(id, at), req, resp, data)
}

// onFreshStream repeats a call that met a stream which was kept idle while the peer was
// restarted: else the votes of an election would be lost to streams that are dead. The
// calls are those that may arrive twice.
func onFreshStream(call func() error) error {
	var err error
	for range raftPool + 1 {
		if err = call(); err == nil || KindOf(err) != ErrRefused {
			return err
		}
		if _, dialling := errors.AsType[*Error](err); dialling {
			return err
		}
	}
	return err
}

// streams is the layer below: it accepts Raft streams and dials them.
type streams struct {
	*queue
	t *Transport
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, fallback, ok := strings.Cut(string(address), "@")
	if !ok {
		return nil, fmt.Errorf("dial raft stream: %q does not name the node", address)
	}
	ctx, cancel := context.WithTimeout(s.t.ctx, timeout)
	defer cancel()
	c, err := s.t.dial(ctx, id, fallback, protoRaft)
	if err != nil {
		return nil, err // not a nil *tls.Conn in an interface
	}
	return c, nil
}

// Addr implements raft.StreamLayer: it is what other nodes are told.
func (s *streams) Addr() net.Addr { return advertised(s.t.cfg.Advertise) }

type advertised string

// Network implements net.Addr.
func (advertised) Network() string { return "tcp" }

// String implements net.Addr.
func (a advertised) String() string { return string(a) }

// raftLog hands the library's log lines on. What it calls errors are peers that went away.
type raftLog struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (l raftLog) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn && !slices.ContainsFunc(args, closedHere) {
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if !l.log.Enabled(ctx, to) {
		return
	}
	for i, a := range args {
		args[i] = fmt.Sprint(a)
	}
	l.log.With("component", name).Log(ctx, to, msg, args...)
}

// closedHere reports whether an argument is the error of a stream that this node has
// closed itself, as it closes all of them when it stops.
func closedHere(arg any) bool {
	err, ok := arg.(error)
	return ok && errors.Is(err, net.ErrClosed)
}
