package transport

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

var (
	_ raft.Transport   = (*RaftTransport)(nil)
	_ raft.WithPreVote = (*RaftTransport)(nil)
	_ raft.WithClose   = (*RaftTransport)(nil)
)

// words is a state machine: the commands it was given.
type words struct {
	mu   sync.Mutex
	list []string
	ch   chan struct{} // closed and replaced at each change
}

func newWords() *words { return &words{ch: make(chan struct{})} }

func (f *words) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, string(l.Data))
	close(f.ch)
	f.ch = make(chan struct{})
	return nil
}

func (f *words) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return snapshot(strings.Join(f.list, "\n")), nil
}

func (f *words) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = strings.Split(string(b), "\n")
	close(f.ch)
	f.ch = make(chan struct{})
	return r.Close()
}

type snapshot string

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := io.WriteString(sink, string(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (snapshot) Release() {}

func (f *words) wait(t testing.TB, want ...string) {
	t.Helper()
	for {
		f.mu.Lock()
		got, ch := slices.Clone(f.list), f.ch
		f.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-ch:
		case <-t.Context().Done():
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

type member struct {
	tr   *Transport
	raft *raft.Raft
	fsm  *words
	lead chan bool
}

func raftConfig(id string) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(id)
	rc.Logger = hclog.NewNullLogger()
	rc.TrailingLogs = 1
	// Long enough that a busy machine changes no leader.
	rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = 3*time.Second, 3*time.Second, 3*time.Second
	return rc
}

func startRaft(t testing.TB, tr *Transport) *member {
	t.Helper()
	m := &member{tr: tr, fsm: newWords(), lead: make(chan bool, 16)}
	rc := raftConfig(tr.cfg.NodeID)
	rc.NotifyCh = m.lead
	store := raft.NewInmemStore()
	var err error
	m.raft, err = raft.NewRaft(rc, m.fsm, store, store, raft.NewInmemSnapshotStore(), tr.RaftTransport())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.raft.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// leader waits until one of the members leads.
func leader(t testing.TB, members ...*member) *member {
	t.Helper()
	for {
		for _, m := range members {
			if m.raft.State() == raft.Leader && m.raft.VerifyLeader().Error() == nil {
				return m
			}
		}
		select {
		case <-time.After(10 * time.Millisecond): // Raft tells only of its own leadership
		case <-t.Context().Done():
			t.Fatal("no leader")
		}
	}
}

func (m *member) apply(t testing.TB, word string) {
	t.Helper()
	if err := m.raft.Apply([]byte(word), time.Minute).Error(); err != nil {
		t.Fatal(err)
	}
}

func cluster(t testing.TB, w *world, n int) []*member {
	t.Helper()
	s := newSecret(t)
	var members []*member
	var servers []raft.Server
	for i := range n {
		tr := w.start(t, id(i), newKeyring(t, s))
		members = append(members, startRaft(t, tr))
		servers = append(servers, raft.Server{ID: raft.ServerID(id(i)), Address: tr.RaftTransport().LocalAddr()})
	}
	if err := members[0].raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		t.Fatal(err)
	}
	// The first election need not wait for its time-out. A node reaches itself, too.
	if err := members[0].tr.RaftTransport().TimeoutNow(raft.ServerID(id(0)), members[0].tr.RaftTransport().LocalAddr(),
		&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &raft.TimeoutNowResponse{}); err != nil {
		t.Fatal(err)
	}
	return members
}

func TestRaftCluster(t *testing.T) {
	w := newWorld()
	members := cluster(t, w, 3)
	var want []string
	l := leader(t, members...)
	for i := range 100 {
		word := fmt.Sprint(i)
		l.apply(t, word)
		want = append(want, word)
	}
	for _, m := range members {
		m.fsm.wait(t, want...)
	}
	// Streams have been used in all directions once each member has led.
	rest := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == l })
	for _, next := range rest {
		if err := l.raft.LeadershipTransferToServer(raft.ServerID(next.tr.cfg.NodeID), raft.ServerAddress(next.tr.cfg.Advertise)).Error(); err != nil {
			t.Fatal(err)
		}
		l = leader(t, members...)
		word := "led by " + l.tr.cfg.NodeID
		l.apply(t, word)
		want = append(want, word)
	}
	// The port of the leader dies; the others go on.
	if err := l.tr.Close(); err != nil {
		t.Fatal(err)
	}
	rest = slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == l })
	l = leader(t, rest...)
	l.apply(t, "after")
	for _, m := range rest {
		m.fsm.wait(t, append(want, "after")...)
	}
}

func TestRaftSnapshotAndRemoval(t *testing.T) {
	w := newWorld()
	members := cluster(t, w, 3)
	l := leader(t, members...)
	big := strings.Repeat("x", 4<<20) // more than one TLS record, more than all buffers
	l.apply(t, big)
	l.apply(t, "small")
	if err := l.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	late := startRaft(t, w.start(t, id(3), newKeyring(t, l.tr.cfg.Keyring.Secrets()...)))
	if err := l.raft.AddNonvoter(raft.ServerID(id(3)), late.tr.RaftTransport().LocalAddr(), 0, time.Minute).Error(); err != nil {
		t.Fatal(err)
	}
	late.fsm.wait(t, big, "small")
	if err := l.raft.RemoveServer(raft.ServerID(id(3)), 0, time.Minute).Error(); err != nil {
		t.Fatal(err)
	}
	w.remove(id(3))
	for _, m := range members {
		m.tr.Disconnect(id(3))
	}
	var resp raft.RequestVoteResponse
	err := late.tr.RaftTransport().RequestVote(raft.ServerID(l.tr.cfg.NodeID), "", &raft.RequestVoteRequest{Term: 1 << 40}, &resp)
	if !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a removed node's vote: got %v", err)
	}
}

// A stream that this node has closed itself is nothing to warn of; one that broke is.
func TestRaftLogOfBrokenStreams(t *testing.T) {
	for _, c := range []struct {
		err   error
		warns bool
	}{
		{&net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}, false},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, true},
		{io.ErrUnexpectedEOF, true},
	} {
		var b strings.Builder
		l := raftLog{slog.New(slog.NewTextHandler(&b, nil))}
		l.Accept("raft-net", hclog.Error, "failed to decode incoming command", "error", c.err)
		if warns := strings.Contains(b.String(), "level=WARN"); warns != c.warns {
			t.Errorf("%v: it says %q", c.err, &b)
		}
	}
}
