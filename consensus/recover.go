package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Recovery is what [Recover] does, or would do, to a directory.
type Recovery struct {
	Node, ClusterID string
	// Before are the members that the log knows; After is what they become: this node
	// alone.
	Before, After []Member
	// LastLog is Raft's index of the last entry. Whether those since the last snapshot, at
	// Snapshot, were committed nobody can tell any more: all of them are taken.
	Snapshot, LastLog uint64
	// Index is the state's index after all of them.
	Index uint64
	// Backup is the copy that was made of the Raft directory; empty in a preview.
	Backup string
}

// RecoverOptions change what [Recover] does. The zero value is fine.
type RecoverOptions struct {
	// Address is the peer address that the node will have. Default: the one it had.
	Address string
	Logger  *slog.Logger     // default: discards
	Now     func() time.Time // default: time.Now
}

// RecoverPreview returns what [Recover] would do to dir, and changes nothing. The node
// must not be running.
func RecoverPreview(dir string) (Recovery, error) {
	o, err := openOffline(dir, RecoverOptions{})
	if err != nil {
		return Recovery{}, fmt.Errorf("preview recovery: %w", err)
	}
	r, err := o.preview()
	return r, errors.Join(err, o.Close())
}

// Recover makes the stopped node of dir the only member of its cluster, for when most of
// the voting servers are lost for good and the rest can't elect a leader. It keeps all
// that this node has in its log, so it should be the one with the highest LastLog. It
// backs up the Raft directory first. Other members must never be started again with the
// directories that they have: they would be the old cluster, beside this one.
func Recover(dir string, options RecoverOptions) (Recovery, error) {
	o, err := openOffline(dir, options)
	if err != nil {
		return Recovery{}, fmt.Errorf("recover: %w", err)
	}
	r, err := o.recover()
	if err = errors.Join(err, o.Close()); err != nil {
		return r, fmt.Errorf("recover: %w", err)
	}
	return r, nil
}

// offline is the Raft directory of a node that is not running.
type offline struct {
	*storage
	dir       string
	id        identity
	options   RecoverOptions
	snapshots raft.SnapshotStore
	transport Transport
	fault     error // of the latch
}

func openOffline(dir string, options RecoverOptions) (*offline, error) {
	setDefault(&options.Logger, slog.New(slog.DiscardHandler))
	if options.Now == nil {
		options.Now = time.Now
	}
	if _, err := os.Stat(filepath.Join(dir, raftDirName, logFile)); err != nil {
		return nil, fmt.Errorf("look for a log: %w", err)
	}
	raw, err := openBolt(filepath.Join(dir, raftDirName, logFile), time.Second)
	if err != nil {
		return nil, err
	}
	o := &offline{dir: dir, options: options}
	o.storage = &storage{
		rawStore: raw, latch: newLatch(func(err error) { o.fault = err }), now: options.Now,
		makeRoom: func() bool { return false }, synced: func(time.Duration) {},
	}
	if err := o.identify(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *offline) identify() (err error) {
	o.snapshots, err = raft.NewFileSnapshotStoreWithLogger(filepath.Join(o.dir, raftDirName), 2, raftLogger(o.options.Logger))
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	hasLog, err := raft.HasExistingState(o.storage, o.storage, o.snapshots)
	if err != nil {
		return fmt.Errorf("look for a log: %w", err)
	}
	if !hasLog {
		return errors.New("there is nothing in the log to recover")
	}
	if o.id, err = loadIdentity(o.dir, true, ""); err != nil {
		return err
	}
	if o.id.Joining {
		return fmt.Errorf("node %s has not been a member of cluster %s yet: it does not have all of its state", o.id.ID, o.id.ClusterID)
	}
	o.transport = memoryTransport(o.id.ID)
	return nil
}

// newFSM returns an empty state to play the log into.
func (o *offline) newFSM() *fsm {
	return &fsm{store: state.New(), latch: o.latch, now: o.options.Now, applied: func(time.Duration) {}}
}

func (o *offline) config() *raft.Config { return raftConfig(o.id.ID, o.options.Logger, nil) }

func (o *offline) preview() (r Recovery, err error) {
	defer func() {
		if p := recover(); p != nil { // Raft's way to say that it can't read its log
			err = fmt.Errorf("read log: %v", p)
		}
	}()
	r.Node, r.ClusterID = o.id.ID, o.id.ClusterID
	machine := o.newFSM()
	members, err := raft.GetConfiguration(o.config(), machine, o.storage, o.storage, o.snapshots, o.transport)
	if err != nil {
		return r, fmt.Errorf("read members: %w", err)
	}
	self := Member{ID: o.id.ID, Address: o.options.Address, Voter: true}
	for _, s := range members.Servers {
		r.Before = append(r.Before, Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
		if string(s.ID) == self.ID && self.Address == "" {
			self.Address = string(s.Address)
		}
	}
	if self.Address == "" {
		return r, fmt.Errorf("node %s is not one of the members %v that its log knows", o.id.ID, r.Before)
	}
	r.After = []Member{self}
	return r, o.replay(machine, &r)
}

// replay plays the entries after the last snapshot, which m holds, into m.
func (o *offline) replay(m *fsm, r *Recovery) error {
	snapshots, err := o.snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(snapshots) > 0 {
		r.Snapshot = snapshots[0].Index
	}
	last, err := o.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for i := r.Snapshot + 1; i <= last; i++ {
		var l raft.Log
		if err := o.GetLog(i, &l); err != nil {
			return fmt.Errorf("read log entry %d: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			m.Apply(&l)
		}
	}
	r.LastLog, r.Index = max(r.Snapshot, last), m.store.View().Index()
	return o.fault
}

func (o *offline) recover() (Recovery, error) {
	r, err := o.preview()
	if err != nil {
		return r, err
	}
	r.Backup = filepath.Join(o.dir, raftDirName+".backup-"+o.options.Now().UTC().Format("20060102T150405.000000000Z"))
	if err := backUp(filepath.Join(o.dir, raftDirName), r.Backup); err != nil {
		return r, fmt.Errorf("back up: %w", err)
	}
	members := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(o.id.ID), Address: raft.ServerAddress(r.After[0].Address)}}}
	err = raft.RecoverCluster(o.config(), o.newFSM(), o.storage, o.storage, o.snapshots, o.transport, members)
	return r, errors.Join(err, o.fault)
}

// Close lets go of the directory.
func (o *offline) Close() error {
	err := o.storage.Close()
	if o.transport != nil {
		err = errors.Join(err, o.transport.Close())
	}
	return err
}

// backUp copies a directory, durably.
func backUp(from, to string) error {
	in, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return errors.Join(err, in.Close())
	}
	if err := os.CopyFS(to, in.FS()); err != nil {
		return errors.Join(err, in.Close())
	}
	err = filepath.WalkDir(to, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
	return errors.Join(err, in.Close(), syncDir(filepath.Dir(to)))
}

// syncPath makes a file or a directory durable.
func syncPath(path string) error {
	f, err := os.Open(path) //nolint:gosec // the node's own directory
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
