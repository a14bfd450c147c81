package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/tenement-fleet/tenement/api"
)

// rawStore is where the log, the term and the vote live: a [raftboltdb.BoltStore].
type rawStore interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

func openBolt(path string, wait time.Duration) (rawStore, error) {
	if err := checkLength(path, wait); err != nil {
		return nil, err
	}
	s, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: wait,
			// The freelist is rebuilt when the file is opened; to write it with every
			// commit costs more the bigger the log has once been.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, openError(path, err)
	}
	return s, nil
}

func openError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return api.Errorf(api.CodeConflict, "open log %s: another process holds it: is ten already running on this directory?", path)
	}
	return fmt.Errorf("open log %s: %w", path, err)
}

// checkLength returns an error if the end of a log is missing: bbolt would map what is not
// there, and the process would die of reading it.
func checkLength(path string, wait time.Duration) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	} else if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: wait})
	if err != nil {
		return openError(path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if size := info.Size(); size < tx.Size() {
			return fmt.Errorf("open log %s: it has %d bytes of %d: its end was cut off", path, size, tx.Size())
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// storage is what Raft keeps on disk: rawStore with the faults of the layers around it
// mended. The first failed write trips the latch and is the last; every entry carries a
// checksum; the vote is one write.
type storage struct {
	rawStore
	latch *latch
	now   func() time.Time
	// makeRoom gives up the disk's reserve, and reports whether there was one.
	makeRoom func() bool
	synced   func(time.Duration) // told how long each write of entries took
	// committed tells what is committed, for commitStamp; nil: nobody knows.
	committed func() uint64
	// voteTerm is the first half of a vote, see SetUint64. Only Raft's main loop votes.
	voteTerm uint64
	recent   recent
	begun    bool // Raft has it

	writing atomic.Int64  // writes that the disk has not answered
	writes  atomic.Uint64 // that it has
}

// Keys of the stable store: two of Raft's, and ours for both of them.
const (
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
	keyVote         = "Vote" // 8 bytes of term, then the candidate
	keyCurrentTerm  = "CurrentTerm"
)

func (s *storage) write(what string, f func() error) error {
	if err := s.latch.tripped(); err != nil {
		return err
	}
	s.writing.Add(1)
	defer func() { s.writes.Add(1); s.writing.Add(-1) }()
	err := f()
	if errors.Is(err, syscall.ENOSPC) && s.makeRoom() {
		err = f() // the failed transaction was rolled back: nothing of it is there
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
		s.latch.trip(err)
		return err
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (s *storage) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *storage) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if len(l.Extensions) == 0 { // else it is from the leader
			l.Extensions = s.extensions(l)
		}
	}
	start := s.now()
	defer func() { s.synced(s.now().Sub(start)) }()
	if err := s.write("store log entries", func() error { return s.rawStore.StoreLogs(logs) }); err != nil {
		return err
	}
	s.recent.put(logs)
	return nil
}

// GetLog implements raft.LogStore.
func (s *storage) GetLog(index uint64, l *raft.Log) error {
	if s.recent.get(index, l) {
		return nil
	}
	if err := s.rawStore.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index || len(l.Extensions) < checksumSize || string(l.Extensions[:checksumSize]) != string(checksum(l)) {
		err := fmt.Errorf("read log entry %d: its checksum is wrong: the disk has changed what was written", index)
		s.latch.trip(err)
		return err
	}
	return nil
}

// DeleteRange implements raft.LogStore. What a snapshot has made dispensable goes in
// small steps: a transaction that deletes a million entries would keep writes waiting
// for seconds. Oldest first, so that the log has no hole after a crash.
func (s *storage) DeleteRange(first, last uint64) error {
	oldest, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if first <= oldest {
		for ; first+deleteStep < last; first += deleteStep {
			if err := s.deleteOnce(first, first+deleteStep-1); err != nil {
				return err
			}
		}
	}
	return s.deleteOnce(first, last)
}

const deleteStep = 1024

func (s *storage) deleteOnce(first, last uint64) error {
	s.recent.forget(first, last)
	return s.write("delete log entries", func() error { return s.rawStore.DeleteRange(first, last) })
}

// extensions returns what is stored beside an entry: its checksum, and its stamp.
func (s *storage) extensions(l *raft.Log) []byte {
	stamped := *l
	stamped.Extensions = make([]byte, checksumSize, checksumSize+8)
	if s.committed != nil {
		stamped.Extensions = binary.BigEndian.AppendUint64(stamped.Extensions, s.committed())
	}
	copy(stamped.Extensions, checksum(&stamped))
	return stamped.Extensions
}

const checksumSize = 4

// checksum covers what makes a log entry: all but the place of the checksum itself.
func checksum(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(head[:], table), table, l.Data)
	if len(l.Extensions) > checksumSize {
		sum = crc32.Update(sum, table, l.Extensions[checksumSize:])
	}
	return binary.BigEndian.AppendUint32(nil, sum)
}

// SetUint64 implements raft.StableStore. Raft writes a vote as two values, the term and
// then the candidate; a crash between them leaves a vote for the old candidate in the
// new term (hashicorp/raft#661). So the term waits for its candidate.
func (s *storage) SetUint64(key []byte, value uint64) error {
	if string(key) == keyLastVoteTerm {
		s.voteTerm = value
		return s.latch.tripped()
	}
	if have, err := s.rawStore.GetUint64(key); err == nil && have == value {
		return s.latch.tripped() // Raft sets its term anew at every start
	}
	err := s.write("store "+string(key), func() error { return s.rawStore.SetUint64(key, value) })
	if err != nil && s.begun && string(key) == keyCurrentTerm {
		// Raft would panic. The latch has had the process told to end, which it should do
		// in order; what ends here is Raft's main loop, which leads and votes no more.
		runtime.Goexit()
	}
	return err
}

// begin is called before Raft is given the store. That its term is there already leaves
// Raft nothing to store before it has a goroutine of its own.
func (s *storage) begin() error {
	_, err := s.rawStore.GetUint64([]byte(keyCurrentTerm))
	if err != nil && err.Error() == raftboltdb.ErrKeyNotFound.Error() { // as Raft itself tells
		err = s.SetUint64([]byte(keyCurrentTerm), 0)
	}
	s.begun = err == nil
	return err
}

// Set implements raft.StableStore.
func (s *storage) Set(key, value []byte) error {
	if string(key) == keyLastVoteCand {
		key, value = []byte(keyVote), append(binary.BigEndian.AppendUint64(nil, s.voteTerm), value...)
	}
	return s.write("store "+string(key), func() error { return s.rawStore.Set(key, value) })
}

// GetUint64 implements raft.StableStore.
func (s *storage) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyLastVoteTerm {
		term, _, err := s.vote()
		return term, err
	}
	return s.rawStore.GetUint64(key)
}

// Get implements raft.StableStore.
func (s *storage) Get(key []byte) ([]byte, error) {
	if string(key) == keyLastVoteCand {
		_, candidate, err := s.vote()
		return candidate, err
	}
	return s.rawStore.Get(key)
}

func (s *storage) vote() (term uint64, candidate []byte, err error) {
	b, err := s.rawStore.Get([]byte(keyVote))
	if err != nil {
		return 0, nil, err
	}
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("read vote: got %d bytes, want 8 or more", len(b))
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}
