package sim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
)

// TestHeartbeatOfTheNextLeader is hashicorp/raft#695 with scripted peers: a node wins an
// election, hesitates, and hears the heartbeat of the leader of the next term before it
// begins. If that bypasses its main loop it takes over the other's term, and leads in it.
func TestHeartbeatOfTheNextLeader(t *testing.T) {
	skipUnderRace(t)
	for range 10 {
		var violations []string
		synctest.Test(t, func(t *testing.T) { violations = scriptedElection(t) })
		if len(violations) > 0 {
			t.Fatalf("got %v", violations)
		}
	}
}

func scriptedElection(t *testing.T) []string {
	w := newWorld(setting{seed: 1, hosts: 3, dir: tempDir(t)})
	began := make(chan struct{})
	hesitate := func() {
		close(began)
		hesitation.Store(nil)
		w.net.sleep(time.Second)
	}
	hesitation.Store(&hesitate)
	defer hesitation.Store(nil)
	votersFromTheStart(t, w)
	w.scripted(true)
	w.hosts[0].ill.begin()
	w.hosts[0].boot()
	<-began
	_, n := w.hosts[0].running()
	next := w.hosts[1].proc.transport
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(w.hosts[1].id), Addr: []byte(w.hosts[1].addr)},
		Term:      n.Term() + 1,
	}
	w.wg.Go(func() {
		err := next.AppendEntries(raft.ServerID(w.hosts[0].id), w.hosts[0].addr, req, new(raft.AppendEntriesResponse))
		if err != nil {
			t.Error(err)
		}
	})
	w.net.sleep(3 * time.Second)
	if n.Term() < req.Term {
		t.Errorf("the heartbeat was not heard: term %d", n.Term())
	}
	violations := w.violations
	w.shutDown()
	return violations
}

// votersFromTheStart gives the first machine the log of a member of a cluster of three.
func votersFromTheStart(t *testing.T, w *world) {
	var members raft.Configuration
	for _, h := range w.hosts {
		h.id = uuid.NewString()
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(h.id), Address: h.addr})
	}
	h := w.hosts[0]
	b, err := json.Marshal(map[string]any{"id": h.id, "cluster_id": uuid.NewString()})
	err = errors.Join(err, os.MkdirAll(h.dir, 0o700), os.WriteFile(filepath.Join(h.dir, "node.json"), b, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{host: h, gone: make(chan struct{})}
	p.transport = newTransport(p)
	log := &file{d: h.disk, p: p}
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(h.id)
	if err := raft.BootstrapCluster(rc, log, log, raft.NewInmemSnapshotStore(), p.transport, members); err != nil {
		t.Fatal(err)
	}
	for i, l := range h.disk.cache.logs { // as consensus does it
		sealed := *l
		sealed.Extensions = checksum(l)
		h.disk.cache.logs[i], h.disk.synced.logs[i] = &sealed, &sealed
	}
}

// checksum is that of consensus for an entry without extensions.
func checksum(l *raft.Log) []byte {
	b := binary.BigEndian.AppendUint64(nil, l.Index)
	b = append(binary.BigEndian.AppendUint64(b, l.Term), byte(l.Type))
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(append(b, l.Data...), crc32.MakeTable(crc32.Castagnoli)))
}

// scripted puts peers on all machines but the first.
func (w *world) scripted(follows bool) {
	for _, h := range w.hosts[1:] {
		h.proc = &process{host: h, gone: make(chan struct{})}
		h.proc.ctx, h.proc.cancel = context.WithCancel(w.ctx)
		h.proc.transport = newTransport(h.proc)
		w.wg.Go(func() { h.proc.agree(follows) })
	}
}

// agree plays a peer that grants every vote, and has every entry if it follows.
func (p *process) agree(follows bool) {
	for {
		select {
		case rpc := <-p.transport.consumer:
			header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(p.host.id), Addr: []byte(p.host.addr)}
			switch r := rpc.Command.(type) {
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header, Term: r.Term, Granted: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: r.Term, Granted: true}, nil)
			case *raft.AppendEntriesRequest:
				if !follows {
					rpc.Respond(nil, errors.New("not in the script"))
					continue
				}
				rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header, Term: r.Term, LastLog: r.PrevLogEntry + uint64(len(r.Entries)), Success: true}, nil)
			default:
				rpc.Respond(nil, errors.New("not in the script"))
			}
		case <-p.gone:
			return
		}
	}
}
