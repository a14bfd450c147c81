package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

const benchClients = 64

func quiet(dir string) Config {
	return Config{
		Dir: dir, Node: api.Node{Name: "bench"}, Reserve: -1, patience: time.Minute,
		Fatal: func(err error) { panic(err) }, Logger: slog.New(slog.DiscardHandler),
	}
}

// fromClients calls write total times, from so many clients at once, and returns the rate.
func fromClients(b *testing.B, total int, write func(i int) error) (perSecond float64) {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range benchClients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				if err := write(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(total) / time.Since(start).Seconds()
}

func benchService(i int) *api.Service {
	return service(fmt.Sprintf("bench-%d", i%5000), func(s *api.Service) { s.MaxRestarts = 1 + i/5000%1000 })
}

// nothing is the FSM of the rival: it only counts.
type nothing struct{ applied int }

func (n *nothing) Apply(*raft.Log) any               { n.applied++; return nil }
func (*nothing) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (*nothing) Restore(io.ReadCloser) error         { return nil }
func (n *nothing) ApplyBatch(logs []*raft.Log) (r []any) {
	n.applied += len(logs)
	return make([]any, len(logs))
}

// bareRaft is Raft on bolt and nothing else, set up as ours.
func bareRaft(b *testing.B) (*raft.Raft, func()) {
	dir := b.TempDir()
	store, err := openBolt(filepath.Join(dir, logFile), time.Second)
	if err != nil {
		b.Fatal(err)
	}
	trans := memoryTransport("bare")
	notify := make(chan bool, 8)
	rc := raftConfig("bare", slog.New(slog.DiscardHandler), notify)
	snaps := raft.NewDiscardSnapshotStore()
	members := raft.Configuration{Servers: []raft.Server{{ID: "bare", Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(rc, store, store, snaps, trans, members); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(rc, &nothing{}, store, store, snaps, trans)
	if err != nil {
		b.Fatal(err)
	}
	if err := callElection(trans, "bare"); err != nil {
		b.Fatal(err)
	}
	for !<-notify {
	}
	return r, func() {
		if err := r.Shutdown().Error(); err != nil {
			b.Error(err)
		}
		_ = store.Close()
	}
}

func bareApply(b *testing.B, r *raft.Raft) func(int) error {
	s := *benchService(1234)
	s.SetDefaults()
	command, err := (&state.Command{Time: time.Now(), PutService: &state.PutService{Service: s}}).Encode()
	if err != nil {
		b.Fatal(err)
	}
	payload := state.Entry(command)
	return func(int) error { return r.Apply(payload, 0).Error() }
}

func report(b *testing.B, write func(int) error) {
	before := cpuTime()
	rate := fromClients(b, b.N, write)
	b.ReportMetric(rate, "writes/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "CPU-us/write")
}

func BenchmarkBareRaftApply64(b *testing.B) {
	r, stop := bareRaft(b)
	defer stop()
	write := bareApply(b, r)
	b.ResetTimer()
	report(b, write)
}

func BenchmarkPutService64(b *testing.B) {
	n, err := Open(b.Context(), quiet(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // a benchmark
	b.ResetTimer()
	report(b, func(i int) error {
		_, err := n.PutService(context.Background(), benchService(i), nil)
		return err
	})
}

// BenchmarkPutServiceAgainstBareRaft runs both in turns, so that they share the moods of
// the machine, and reports the ratio of their rates. The bar is 0.8.
func BenchmarkPutServiceAgainstBareRaft(b *testing.B) {
	r, stop := bareRaft(b)
	defer stop()
	bare := bareApply(b, r)
	n, err := Open(b.Context(), quiet(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close() //nolint:errcheck // a benchmark
	const round = 4000
	var bareRate, ourRate float64
	rounds := 0
	for b.Loop() {
		bareRate += fromClients(b, round, bare)
		offset := rounds * round
		ourRate += fromClients(b, round, func(i int) error {
			_, err := n.PutService(context.Background(), benchService(offset+i), nil)
			return err
		})
		rounds++
	}
	b.ReportMetric(bareRate/float64(rounds), "bare/s")
	b.ReportMetric(ourRate/float64(rounds), "ours/s")
	b.ReportMetric(ourRate/bareRate, "ratio")
}

// BenchmarkOpen starts a node on an empty directory.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		n, err := Open(b.Context(), quiet(b.TempDir()))
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
