package consensus

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"go.etcd.io/bbolt"
)

// faultyStore lets a test come before each write.
type faultyStore struct {
	rawStore
	before func(what string) error
}

func (f *faultyStore) StoreLogs(logs []*raft.Log) error {
	if err := f.before("logs"); err != nil {
		return err
	}
	return f.rawStore.StoreLogs(logs)
}

func (f *faultyStore) Set(k, v []byte) error {
	if err := f.before(string(k)); err != nil {
		return err
	}
	return f.rawStore.Set(k, v)
}

func (f *faultyStore) SetUint64(k []byte, v uint64) error {
	if err := f.before(string(k)); err != nil {
		return err
	}
	return f.rawStore.SetUint64(k, v)
}

func (f *faultyStore) DeleteRange(first, last uint64) error {
	if err := f.before("delete"); err != nil {
		return err
	}
	return f.rawStore.DeleteRange(first, last)
}

func openStorage(t *testing.T, path string, before func(string) error) (*storage, *fatals) {
	t.Helper()
	raw, err := openBolt(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	f := newFatals()
	return &storage{
		rawStore: &faultyStore{raw, before}, latch: newLatch(f.call),
		now: time.Now, makeRoom: func() bool { return false }, synced: func(time.Duration) {},
	}, f
}

func TestVoteIsOneWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), logFile)
	var writes []string
	s, _ := openStorage(t, path, func(what string) error {
		writes = append(writes, what)
		return nil
	})
	// As Raft v1.8.0 votes, in persistVote.
	vote := func(term uint64, candidate string) {
		if err := s.SetUint64([]byte(keyLastVoteTerm), term); err != nil {
			t.Fatal(err)
		}
		if err := s.Set([]byte(keyLastVoteCand), []byte(candidate)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(term uint64, candidate string) {
		t.Helper()
		gotTerm, err1 := s.GetUint64([]byte(keyLastVoteTerm))
		got, err2 := s.Get([]byte(keyLastVoteCand))
		if gotTerm != term || string(got) != candidate || err1 != nil || err2 != nil {
			t.Errorf("got %d %q %v %v, want %d %q", gotTerm, got, err1, err2, term, candidate)
		}
	}
	for _, key := range []string{keyLastVoteTerm, keyLastVoteCand} {
		if _, err := s.Get([]byte(key)); err == nil || err.Error() != "not found" {
			t.Errorf("before the first vote: %s is %v, want not found, in Raft's own words", key, err)
		}
	}
	vote(3, "a")
	check(3, "a")
	// A crash between the two halves leaves the old vote whole.
	if err := s.SetUint64([]byte(keyLastVoteTerm), 4); err != nil {
		t.Fatal(err)
	}
	check(3, "a")
	vote(4, "b")
	check(4, "b")
	if want := []string{keyVote, keyVote}; len(writes) != 2 || writes[0] != want[0] || writes[1] != want[1] {
		t.Errorf("got writes %v, want %v", writes, want)
	}
	if err := s.rawStore.Set([]byte(keyVote), []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.vote(); err == nil {
		t.Error("half a vote was read")
	}
}

func TestUnchangedTermIsNotWrittenAgain(t *testing.T) {
	writes := 0
	s, _ := openStorage(t, filepath.Join(t.TempDir(), logFile), func(string) error { writes++; return nil })
	for _, term := range []uint64{7, 7, 8} {
		if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.GetUint64([]byte("CurrentTerm")); got != 8 || err != nil || writes != 2 {
		t.Errorf("got %d %v after %d writes", got, err, writes)
	}
}

func TestFirstFailedWriteIsTheLast(t *testing.T) {
	eio := errors.New("input/output error")
	for name, write := range map[string]func(*storage) error{
		"log":    func(s *storage) error { return s.StoreLog(&raft.Log{Index: 1}) },
		"logs":   func(s *storage) error { return s.StoreLogs([]*raft.Log{{Index: 1}}) },
		"delete": func(s *storage) error { return s.DeleteRange(1, 1) },
		"term":   func(s *storage) error { return s.SetUint64([]byte("CurrentTerm"), 9) },
		"vote":   func(s *storage) error { return s.Set([]byte(keyLastVoteCand), []byte("a")) },
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			s, fatal := openStorage(t, filepath.Join(t.TempDir(), logFile), func(string) error {
				if calls++; calls == 1 {
					return eio
				}
				return nil
			})
			if err := write(s); !errors.Is(err, eio) {
				t.Fatalf("got %v", err)
			}
			for _, again := range []func() error{
				func() error { return write(s) },
				func() error { return s.StoreLogs([]*raft.Log{{Index: 2}}) },
				func() error { return s.SetUint64([]byte(keyLastVoteTerm), 1) },
			} {
				if err := again(); !errors.Is(err, eio) {
					t.Errorf("a write after the failure: got %v", err)
				}
			}
			if err := fatal.wait(t); !errors.Is(err, eio) || calls != 1 {
				t.Errorf("Fatal got %v, %d writes reached the disk", err, calls)
			}
		})
	}
}

// flipLogs changes one byte of the payload of every log entry in dir.
func flipLogs(t *testing.T, dir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, raftDirName, logFile), 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's file
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("logs"))
		changed := map[string][]byte{}
		_ = b.ForEach(func(k, v []byte) error {
			if i := bytes.Index(v, []byte("serve")); i >= 0 {
				v = bytes.Clone(v)
				v[i] ^= 1
				changed[string(k)] = v
			}
			return nil
		})
		for k, v := range changed {
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlippedBitOfAnEntryIsSeen(t *testing.T) {
	l := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("payload")}
	want := checksum(&l)
	for bit := range 8 * len(l.Data) {
		flipped := l
		flipped.Data = bytes.Clone(l.Data)
		flipped.Data[bit/8] ^= 1 << (bit % 8)
		if bytes.Equal(checksum(&flipped), want) {
			t.Errorf("bit %d of the payload is not covered", bit)
		}
	}
	for name, other := range map[string]raft.Log{
		"index": {Index: 8, Term: 3, Data: l.Data},
		"term":  {Index: 7, Term: 4, Data: l.Data},
		"type":  {Index: 7, Term: 3, Type: raft.LogNoop, Data: l.Data},
	} {
		if bytes.Equal(checksum(&other), want) {
			t.Errorf("the %s is not covered", name)
		}
	}
}

// The node as a whole: a write whose fsync fails is not acknowledged, nothing is written
// after it, Fatal is called once, and the next start has what was acknowledged.
func TestNodeStopsAtTheFirstStorageError(t *testing.T) {
	eio := errors.New("input/output error")
	dir := t.TempDir()
	fatal := newFatals()
	var armed atomic.Bool
	broken, writesAfter := false, 0 // Raft's main loop alone writes
	cfg := testConfig(t, dir)
	cfg.Fatal = fatal.call
	cfg.wrap = func(s rawStore) rawStore {
		return &faultyStore{s, func(what string) error {
			if broken {
				writesAfter++ // read after Close
			}
			if !broken && what == "logs" && armed.Load() {
				broken = true
				return eio
			}
			return nil
		}}
	}
	n := open(t, cfg)
	putServices(t, n, 0, 3)
	armed.Store(true)
	if _, err := n.PutService(t.Context(), service("lost"), nil); api.CodeOf(err) != api.CodeInternal || !errors.Is(err, eio) {
		t.Errorf("the failed write: got %v", err)
	}
	if err := fatal.wait(t); !errors.Is(err, eio) {
		t.Errorf("Fatal got %v", err)
	}
	if _, err := n.PutService(t.Context(), service("after"), nil); api.CodeOf(err) != api.CodeInternal {
		t.Errorf("a write afterwards: got %v", err)
	}
	if _, ok := n.View().Service("s2"); !ok {
		t.Error("reads no longer work")
	}
	closeNode(t, n)
	if writesAfter != 0 {
		t.Errorf("%d writes reached the disk after the failure", writesAfter)
	}
	again := open(t, testConfig(t, dir))
	if _, ok := again.View().Service("s2"); !ok {
		t.Error("an acknowledged write is lost")
	}
}

// A term that can't be stored ends the process as every write does that fails: Raft itself
// would panic. The next start has what was acknowledged.
func TestTermThatCantBeStored(t *testing.T) {
	eio := errors.New("input/output error")
	dir := t.TempDir()
	n := open(t, testConfig(t, dir))
	putServices(t, n, 0, 3)
	closeNode(t, n)
	fatal := newFatals()
	cfg := testConfig(t, dir)
	cfg.Fatal = fatal.call
	cfg.wrap = func(s rawStore) rawStore {
		return &faultyStore{s, func(what string) error {
			if what == keyCurrentTerm {
				return eio
			}
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() {
		n, err := Open(ctx, cfg)
		if err == nil {
			err = n.Close()
		}
		opened <- err
	}()
	if err := fatal.wait(t); !errors.Is(err, eio) {
		t.Errorf("Fatal got %v", err)
	}
	cancel()
	if err := <-opened; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, eio) {
		t.Errorf("got %v", err)
	}
	if _, ok := open(t, testConfig(t, dir)).View().Service("s2"); !ok {
		t.Error("an acknowledged write is lost")
	}
}

// A long range goes in steps, oldest first; the end of a log that a new leader replaces
// goes at once.
func TestDeleteRangeInSteps(t *testing.T) {
	transactions := 0
	s, _ := openStorage(t, filepath.Join(t.TempDir(), logFile), func(what string) error {
		if what == "delete" {
			transactions++
		}
		return nil
	})
	var logs []*raft.Log
	for i := range uint64(3*deleteStep + 10) {
		logs = append(logs, &raft.Log{Index: i + 1})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	check := func(first, last uint64, wantTransactions int) {
		t.Helper()
		gotFirst, err1 := s.FirstIndex()
		gotLast, err2 := s.LastIndex()
		if gotFirst != first || gotLast != last || err1 != nil || err2 != nil || transactions != wantTransactions {
			t.Errorf("got %d to %d after %d transactions (%v %v), want %d to %d after %d",
				gotFirst, gotLast, transactions, err1, err2, first, last, wantTransactions)
		}
	}
	if err := s.DeleteRange(1, 2*deleteStep+5); err != nil {
		t.Fatal(err)
	}
	check(2*deleteStep+6, 3*deleteStep+10, 3)
	if err := s.DeleteRange(2*deleteStep+8, 3*deleteStep+10); err != nil {
		t.Fatal(err)
	}
	check(2*deleteStep+6, 2*deleteStep+7, 4)
}

// TestCutLog: a log whose end is missing is refused; bbolt would crash of it.
func TestCutLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s, _ := openStorage(t, path, func(string) error { return nil })
	for i := range uint64(100) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: make([]byte, 4096)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{info.Size() / 2, 3 * 4096, 100} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if _, err := openBolt(path, time.Second); err == nil {
			t.Errorf("a log cut to %d bytes of %d is opened", size, info.Size())
		} else {
			t.Log(err)
		}
	}
}
