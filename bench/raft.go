package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// nullFSM keeps nothing.
type nullFSM struct{}

// Apply implements raft.FSM.
func (nullFSM) Apply(*raft.Log) any { return nil }

// Snapshot implements raft.FSM.
func (nullFSM) Snapshot() (raft.FSMSnapshot, error) { return nullSnapshot{}, nil }

// Restore implements raft.FSM.
func (nullFSM) Restore(rc io.ReadCloser) error { return rc.Close() }

type nullSnapshot struct{}

// Persist implements raft.FSMSnapshot.
func (nullSnapshot) Persist(s raft.SnapshotSink) error { return s.Close() }

// Release implements raft.FSMSnapshot.
func (nullSnapshot) Release() {}

// rafts is a Raft cluster with the stores that ten uses, over TCP, and nothing around it.
type rafts struct {
	leader *raft.Raft
	all    []*raft.Raft
	closes []func() error
	entry  []byte // about as long as those of ten that it is compared with
}

func (r *rafts) apply() error { return r.leader.Apply(r.entry, 10*time.Second).Error() }

// bareRaft starts a Raft cluster of so many servers, each with a log of its own on disk.
func bareRaft(ctx context.Context, servers int) (*rafts, func(), error) {
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	r := &rafts{entry: make([]byte, 600), closes: []func() error{func() error { return os.RemoveAll(dir) }}}
	var members raft.Configuration
	for i := range servers {
		id := strconv.Itoa(i)
		addr, err := r.add(id, filepath.Join(dir, id+".db"))
		if err != nil {
			r.close()
			return nil, nil, err
		}
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(id), Address: addr})
	}
	if err := r.elect(ctx, members); err != nil {
		r.close()
		return nil, nil, err
	}
	return r, r.close, nil
}

func (r *rafts) add(id, path string) (raft.ServerAddress, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path, BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return "", fmt.Errorf("open log store: %w", err)
	}
	r.closes = append(r.closes, store.Close)
	trans, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 4, 10*time.Second, hclog.NewNullLogger())
	if err != nil {
		return "", fmt.Errorf("listen for raft: %w", err)
	}
	r.closes = append(r.closes, trans.Close)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(id)
	conf.Logger = hclog.NewNullLogger()
	conf.MaxAppendEntries, conf.BatchApplyCh = 256, true // as ten has it
	one, err := raft.NewRaft(conf, nullFSM{}, store, store, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		return "", fmt.Errorf("start raft: %w", err)
	}
	r.all = append(r.all, one)
	return trans.LocalAddr(), nil
}

// elect makes the servers members of one cluster and waits for its leader.
func (r *rafts) elect(ctx context.Context, members raft.Configuration) error {
	if err := r.all[0].BootstrapCluster(members).Error(); err != nil {
		return fmt.Errorf("bootstrap raft: %w", err)
	}
	return poll(ctx, time.Minute, func() error {
		for _, one := range r.all {
			if one.State() == raft.Leader {
				r.leader = one
				return nil
			}
		}
		return errors.New("raft has no leader")
	})
}

func (r *rafts) close() {
	for _, one := range r.all {
		_ = one.Shutdown().Error()
	}
	for i := len(r.closes) - 1; i >= 0; i-- {
		_ = r.closes[i]()
	}
}
