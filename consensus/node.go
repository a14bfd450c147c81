package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Names below Config.Dir.
const (
	raftDirName = "raft"
	logFile     = "raft.db"
)

const (
	// maxPending is how many writes may wait for Raft at once. More wait for a slot.
	maxPending = 1000
	// tick is the rhythm of what a node looks after by itself.
	tick = 500 * time.Millisecond
	// closeWait bounds each wait of Close.
	closeWait = 10 * time.Second
	// haltWait bounds the wait for Raft's answers after the latch has tripped. Raft gives
	// them at once, unless it hangs, and stands for election after a second.
	haltWait = 500 * time.Millisecond
	// electionWait bounds Open's wait for leadership.
	electionWait = 30 * time.Second
)

// Node is this server's part in the cluster. Its methods may be called from several
// goroutines.
type Node struct {
	cfg     Config
	id      identity
	latch   *latch
	disk    *disk
	metrics *metrics
	store   *state.Store
	fsm     *fsm
	files   *storage
	raft    *raft.Raft
	halt    func() raft.Future // shuts Raft down; only the first call's future can be waited on
	batches atomic.Uint64      // applied, to see progress by

	slots   chan struct{} // holds one value for everything pending
	batch   *batch
	closing chan struct{} // closed when Close begins
	close   sync.Once
	closed  error

	stop    context.CancelFunc // ends the goroutines below
	workers sync.WaitGroup
	notify  chan bool // from Raft, which blocks on it
	lead    leadership

	leaders   *leaders
	quorum    *quorum
	forwarder *forwarder
	spread    *spread
	leases    leases
	pilot     autopilot
	several   atomic.Bool   // there are other members
	restoring atomic.Bool   // a snapshot is being restored
	yielded   time.Time     // when it last gave up the leadership for its full disk; belongs to tend
	caughtUp  chan struct{} // closed once it knows what the leader knew
	removed   chan struct{} // closed when it is no longer a member
	wasMember bool          // these two belong to lookAfterVoters
	missed    int           // looks in a row that did not find it a member
}

// Open starts the node of cfg.Dir. An empty directory becomes a cluster of one, or joins
// the cluster of cfg.Join. Open returns once the node knows what the cluster knew; that of
// a cluster of several, of which it is a member already, returns at once and tells by
// [Node.CaughtUp]: with or without a leader it serves what it knows.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg:     cfg,
		latch:   newLatch(cfg.Fatal),
		metrics: newMetrics(cfg.Registerer),
		store:   state.New(),
		slots:   make(chan struct{}, maxPending),
		closing: make(chan struct{}),
		notify:  make(chan bool, 8),
		stop:    func() {},

		spread:   newSpread(),
		caughtUp: make(chan struct{}),
		removed:  make(chan struct{}),
	}
	n.pilot.reset()
	n.lead.changed = make(chan struct{})
	n.batch = newBatch(func(entry []byte) raft.ApplyFuture { return n.raft.Apply(entry, enqueueWait) })
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open consensus: %w", err), n.Close()) //nolint:contextcheck // Close takes none
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	snapshots, err := n.openFiles()
	if err != nil {
		return err
	}
	if err := n.startRaft(snapshots); err != nil {
		return err
	}
	if err := n.metrics.register(n); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx)) // Close ends it
	n.stop = stop
	n.workers.Go(func() { n.followLeadership(background) })
	n.workers.Go(func() { n.tend(background) })
	n.workers.Go(n.answerAll)
	n.workers.Go(func() { n.spreadCommits(background) })
	n.workers.Go(func() { n.lookAfterVoters(background) })
	if n.votesAlone() {
		if err := n.campaign(ctx); err != nil {
			return err
		}
		close(n.caughtUp)
		return n.introduce(ctx)
	}
	n.workers.Go(func() { n.settle(background) })
	if n.id.Joining {
		return n.joinCluster(ctx)
	}
	return nil
}

// votesAlone reports whether this node is the only one that can lead.
func (n *Node) votesAlone() bool {
	alone := false
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			if string(s.ID) != n.id.ID {
				return false
			}
			alone = true
		}
	}
	return alone
}

// openFiles opens what is on disk, under the log's lock, and finds out who this node is.
func (n *Node) openFiles() (raft.SnapshotStore, error) {
	dir := filepath.Join(n.cfg.Dir, raftDirName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	leftovers, _ := filepath.Glob(filepath.Join(dir, "restore-*")) // the pattern is right
	for _, f := range leftovers {
		if err := os.Remove(f); err != nil {
			return nil, fmt.Errorf("clean up: %w", err)
		}
	}
	n.disk = &disk{dir: dir, lowWater: n.cfg.LowWater, reserve: n.cfg.Reserve, free: n.cfg.FreeSpace, log: n.cfg.Logger}
	if err := n.disk.release(); err != nil {
		return nil, err
	}
	raw, err := n.openLog(dir)
	if err != nil {
		return nil, err
	}
	n.files = &storage{
		rawStore: n.cfg.wrap(raw), latch: n.latch, now: n.cfg.Now,
		makeRoom: n.disk.giveUp, synced: n.synced, committed: n.committed,
	}
	snapshotFiles, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, raftLogger(n.cfg.Logger))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	snapshots := snapshots{snapshotFiles}
	hasLog, err := raft.HasExistingState(n.files, n.files, snapshots)
	if err != nil {
		return nil, fmt.Errorf("look for a log: %w", err)
	}
	join := ""
	if n.cfg.Join != nil {
		join = n.cfg.Join.ClusterID
	}
	n.id, err = loadIdentity(n.cfg.Dir, hasLog, join)
	if err != nil {
		return nil, err
	}
	if n.cfg.Transport == nil {
		n.cfg.Transport = memoryTransport(n.id.ID)
	}
	if hasLog && n.id.Bootstrapping {
		hasLog, err = n.forgetBootstrap(snapshots)
	}
	if hasLog || err != nil {
		return snapshots, err
	}
	err = syncDir(dir)
	if !n.id.Joining {
		err = errors.Join(err, n.bootstrap(snapshots))
	}
	return snapshots, err
}

// forgetBootstrap undoes what a bootstrap that was cut short between its two writes has
// left, a term and no entry. It reports whether there are entries. Nobody else has heard of
// the cluster yet, so that the term means nothing.
func (n *Node) forgetBootstrap(snapshots raft.SnapshotStore) (hasLog bool, err error) {
	last, err := n.files.LastIndex()
	if err != nil || last > 0 {
		return true, err
	}
	stored, err := snapshots.List()
	if err != nil || len(stored) > 0 {
		return true, err
	}
	return false, n.files.SetUint64([]byte(keyCurrentTerm), 0)
}

// bootstrap writes the first entry of a new cluster: its only member.
func (n *Node) bootstrap(snapshots raft.SnapshotStore) error {
	members := raft.Configuration{Servers: []raft.Server{{
		ID: raft.ServerID(n.id.ID), Address: n.cfg.Transport.LocalAddr(),
	}}}
	rc := raftConfig(n.id.ID, n.cfg.Logger, nil)
	if err := raft.BootstrapCluster(rc, n.files, n.files, snapshots, n.cfg.Transport, members); err != nil {
		return fmt.Errorf("bootstrap cluster: %w", err)
	}
	return nil
}

func (n *Node) startRaft(snapshots raft.SnapshotStore) (err error) {
	// Raft panics when it can't read its log, before it has started anything.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("start raft: %v", r)
		}
	}()
	n.fsm = &fsm{store: n.store, latch: n.latch, now: n.cfg.Now, applied: n.applied, ready: make(chan struct{})}
	stored, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	rc := raftConfig(n.id.ID, n.cfg.Logger, n.notify)
	n.cfg.tune(rc)
	if err := n.files.begin(); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	r, err := raft.NewRaft(rc, n.fsm, n.files, n.files, snapshots, steadyTransport{n.cfg.Transport})
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.raft, n.halt = r, sync.OnceValue(r.Shutdown)
	n.leaders = newLeaders(n.id.ID, n.cfg.Now)
	r.RegisterObserver(raft.NewObserver(nil, false, n.leaders.saw))
	n.quorum = &quorum{
		raft: r, transport: n.cfg.Transport, id: rc.LocalID, now: n.cfg.Now, contacts: map[raft.ServerID]contact{},
	}
	n.forwarder = newForwarder(n.cfg.Forward)
	n.countServers()
	if err := n.applyAhead(min(len(stored), 1)); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	if n.id.Joining || n.isMember() {
		return nil
	}
	return fmt.Errorf("start raft: the log in %s is not that of node %s, which %s names: it knows %v: "+
		"if the node was removed from its cluster, move its directory away to let it join as a new one",
		n.disk.dir, n.id.ID, identityFile, n.servers())
}

// campaign makes a cluster of one elect itself without waiting for a time-out, and
// waits for the leadership.
func (n *Node) campaign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, electionWait)
	defer cancel()
	if err := callElection(n.cfg.Transport, n.id.ID); err != nil {
		n.cfg.Logger.Warn("election will wait for its time-out", "error", err)
	}
	for {
		leading, changed := n.Leadership()
		if leading {
			return nil
		}
		select {
		case <-changed:
		case <-n.latch.done:
			return n.latch.err
		case <-ctx.Done():
			return fmt.Errorf("wait for leadership: %w", ctx.Err())
		}
	}
}

// introduce names a new cluster, refuses a foreign one, and says what this node is.
func (n *Node) introduce(ctx context.Context) error {
	_, err := n.propose(ctx, &state.Command{InitCluster: &state.InitCluster{ClusterID: n.id.ClusterID}})
	if api.CodeOf(err) == api.CodeConflict {
		return fmt.Errorf("%w: %s says %s: log and identity are from different clusters", err, identityFile, n.id.ClusterID)
	}
	if err != nil {
		return err
	}
	_, err = n.DescribeNode(ctx, n.self())
	if err != nil && !n.id.Bootstrapping && api.CodeOf(err) == api.CodeDiskFull {
		n.cfg.Logger.Warn("what this node is could not be updated", "error", err)
		return nil // a node that runs already goes on, for reads and to be cleaned up
	}
	if err != nil || !n.id.Bootstrapping {
		return err
	}
	n.id.Bootstrapping = false
	return n.id.save(n.cfg.Dir)
}

// Close ends the node: no new writes, the pending ones finished, Raft stopped, files
// closed. It may be called again and returns the same.
func (n *Node) Close() error {
	n.close.Do(func() { n.closed = n.shutDown() })
	return n.closed
}

func (n *Node) shutDown() error {
	if n.raft != nil {
		n.handOver()
	}
	close(n.closing)
	var errs []error
	if n.raft != nil {
		n.forwarder.close()
		errs = append(errs, n.drain(), n.stopRaft())
		n.noteCommitted()
	} else if n.cfg.Transport != nil {
		errs = append(errs, n.cfg.Transport.Close())
	}
	n.stop()
	errs = append(errs, n.join())
	n.metrics.unregister()
	if n.files != nil {
		errs = append(errs, n.files.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close consensus: %w", err)
	}
	return nil
}

// join waits for the goroutines. One of them hangs if Raft does, or was stopped with an
// answer outstanding.
func (n *Node) join() error {
	done := make(chan struct{})
	go func() {
		n.workers.Wait()
		if n.quorum != nil {
			n.quorum.close()
		}
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(closeWait):
		return fmt.Errorf("join goroutines: still running after %s", closeWait)
	}
}

// drain waits for everything pending by taking all slots: Raft does not answer for all
// that it has in hand when it is told to stop.
func (n *Node) drain() error {
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	for range cap(n.slots) {
		select {
		case n.slots <- struct{}{}:
		case <-n.latch.done:
			n.land(haltWait)
			return nil
		case <-timeout.C:
			n.land(0)
			return fmt.Errorf("drain writes: some are still pending after %s", closeWait)
		}
	}
	n.land(closeWait)
	return nil
}

// land closes the batch and waits for its last answers, but not for ever.
func (n *Node) land(wait time.Duration) {
	select {
	case <-n.batch.close():
	case <-time.After(wait):
	}
}

func (n *Node) stopRaft() error {
	stopped := make(chan error, 1)
	go func() { stopped <- n.halt().Error() }()
	select {
	case err := <-stopped:
		return err
	case <-time.After(closeWait):
		return fmt.Errorf("stop raft: still running after %s", closeWait)
	}
}

// ID returns the node's id, a UUID that its directory keeps.
func (n *Node) ID() string { return n.id.ID }

// ClusterID returns the cluster's id, a UUID.
func (n *Node) ClusterID() string { return n.id.ClusterID }

func (n *Node) synced(took time.Duration) {
	n.disk.written()
	n.batch.written()
	n.metrics.stored(took)
}

func (n *Node) applied(took time.Duration) {
	n.batches.Add(1)
	if n.several.Load() {
		n.spread.signal()
	}
	n.metrics.applied(took)
}

// tend looks after what nobody asks for: the watchdog and the reserve.
func (n *Node) tend(ctx context.Context) {
	dog := watchdog{ticks: int(n.cfg.patience / tick)}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if err := n.disk.tend(); err != nil {
			n.cfg.Logger.Warn("disk reserve is not in order", "error", err)
		}
		select {
		case <-t.C:
		case <-n.latch.done:
			n.land(haltWait)
			n.halt() // before Raft stands for election as if nothing had happened
			return
		case <-n.closing:
			return
		case <-ctx.Done():
			return
		}
		pending := n.ownPending()
		if dog.stuck(pending, n.fsm.busy.Load() || n.restoring.Load(), n.progress()) {
			n.latch.trip(fmt.Errorf("watch raft: no progress for %s with %d writes pending", n.cfg.patience, pending))
		}
		n.yieldDisk(ctx)
	}
}
