package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Config is what a [Node] is made from.
type Config struct {
	// Dir holds node.json and raft/. It is created if missing.
	Dir string
	// Node is how this server describes itself. Its ID is filled from node.json.
	Node api.Node
	// Fatal is called once, when the node can't go on: a write to its disk has failed, it
	// makes no progress, or it read what it can't understand. The process should end; a
	// new one finds everything that was acknowledged. Fatal must not wait for Close.
	Fatal func(error)

	// Transport carries Raft's messages; nil keeps them in memory, for a cluster of one.
	// It is closed with the node. Its local address is the node's peer address.
	Transport Transport
	// Join makes a node without a log a member of an existing cluster, instead of founding
	// one. A node that is a member already ignores all of it but the cluster's id.
	Join *Join
	// Forward sends commands to the leader, whose ApplyForwarded answers, and ReadIndex
	// asks its VerifiedIndex. They wrap [ErrNotSent] in their error when nothing can have
	// reached it. A cluster of one needs neither.
	Forward   func(ctx context.Context, leader string, batch []Forwarded) ([]ForwardResult, error)
	ReadIndex func(ctx context.Context, leader string) (uint64, error)
	// Authorize decides, on the leader, whether what another node forwards is allowed to
	// the one on whose behalf it does; nil allows nothing but what nodes say of themselves.
	// The command is nil for what is none: see [Node.AuthorizeActor].
	Authorize func(Actor, *state.Command) error
	// Stabilization is how long a server must be healthy before it is given a vote, and
	// DeadAfter how long it must be silent before a healthy one gets its vote. Default
	// 10 s each.
	Stabilization, DeadAfter time.Duration
	// LeaseTTL is for how long [Node.GrantLease] grants. Default 10 s.
	LeaseTTL time.Duration
	// LockWait is how long Open waits for another process to let go of Dir. Default 1 s.
	LockWait time.Duration
	// Below LowWater bytes of free space writes are refused. Reserve bytes are kept in a
	// file, and given up for Raft's own needs when next to nothing is left. Both default
	// to 64 MiB; a negative value turns them off.
	LowWater, Reserve api.Size
	// FreeSpace tells the free bytes of the file system that holds dir. Default: asks it.
	FreeSpace func(dir string) (api.Size, error)

	Logger     *slog.Logger          // default: discards
	Now        func() time.Time      // default: time.Now
	Registerer prometheus.Registerer // default: no metrics

	// What tests need: to come between Raft and its files, to change Raft's settings, and
	// to give a loaded machine's disk more time than stuckAfter.
	wrap     func(rawStore) rawStore
	tune     func(*raft.Config)
	patience time.Duration
	// How often the leader looks at its members.
	lookEvery time.Duration

	// Testing is what simulations change; nil on every server.
	Testing *Testing
}

// Transport carries Raft's messages between nodes.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

const defaultSpace = 64 * api.MiB

func (c *Config) setDefaults() {
	c.Testing.apply(c)
	setDefault(&c.LockWait, time.Second)
	setDefault(&c.patience, stuckAfter)
	setDefault(&c.lookEvery, time.Second)
	setDefault(&c.LeaseTTL, DefaultLeaseTTL)
	setDefault(&c.Stabilization, DefaultStabilization)
	setDefault(&c.DeadAfter, DefaultDeadAfter)
	setDefault(&c.LowWater, defaultSpace)
	setDefault(&c.Reserve, defaultSpace)
	c.LowWater, c.Reserve = max(c.LowWater, 0), max(c.Reserve, 0)
	if c.FreeSpace == nil {
		c.FreeSpace = freeSpace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.wrap == nil {
		c.wrap = func(s rawStore) rawStore { return s }
	}
	if c.tune == nil {
		c.tune = func(*raft.Config) {}
	}
	c.Node.SetDefaults()
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (c *Config) validate() error {
	if c.Dir == "" {
		return errors.New("check consensus config: Dir is empty")
	}
	if c.Fatal == nil {
		return errors.New("check consensus config: Fatal is nil")
	}
	n := c.Node
	n.ID = "checked when it is known"
	if err := n.Validate(); err != nil {
		return fmt.Errorf("check consensus config: node: %w", err)
	}
	return nil
}

// raftConfig returns Raft's settings for a node. The time-outs suit a network: a
// cluster of one does not wait for them, see [Node.campaign].
func raftConfig(id string, log *slog.Logger, notify chan<- bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(id)
	rc.Logger = raftLogger(log)
	rc.NotifyCh = notify
	rc.MaxAppendEntries = 256 // entries that share one fsync, and one batch of the FSM
	rc.BatchApplyCh = true    // so that batch can give Raft an entry from Raft's own goroutine
	rc.TrailingLogs = 10_240
	rc.SnapshotThreshold = 8192
	rc.SnapshotInterval = 20 * time.Second // between looks whether it is time for one
	rc.NoLegacyTelemetry = true
	rc.ShutdownOnRemove = false // a node that is removed says so, and is stopped by its owner
	// Followers notice a dead leader after 1 to 3 s, and the two of three that it takes to
	// elect the next after 2.0 s (p50) or 2.8 s (p99). Shorter would be quicker, and make a
	// machine that is starved of CPU for a second lose an election for it.
	rc.HeartbeatTimeout = time.Second
	rc.ElectionTimeout = time.Second
	// Only how soon a leader that is cut off notices: consistent reads don't build on it.
	rc.LeaderLeaseTimeout = time.Second
	return rc
}
