package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// load is clients that write and send requests through random nodes, and the ledger of
// what was acknowledged.
type load struct {
	f       *fleet
	stop    context.CancelFunc
	wg      sync.WaitGroup
	began   time.Time
	writes  atomic.Int64 // acknowledged
	unknown atomic.Int64
	served  atomic.Int64
	failed  atomic.Int64

	mu      sync.Mutex
	ledger  map[string]entry
	last    time.Time     // that a write was acknowledged
	longest time.Duration // without one
}

// entry is what is known of one object. Only one client writes it, and never again after
// a write of which it does not know how it ended: that may come to pass at any time.
type entry struct{ acked, pending int }

const (
	writers    = 3
	requesters = 2
	keys       = 20 // that a writer has at a time
)

// load starts the clients.
func (f *fleet) load(instances int) *load {
	ctx, stop := context.WithCancel(f.t.Context())
	l := &load{f: f, stop: stop, began: time.Now(), last: time.Now(), ledger: map[string]entry{}}
	for w := range writers {
		r := rand.New(rand.NewPCG(f.rand.Uint64(), 0)) //nolint:gosec // no secret
		l.wg.Go(func() { l.write(ctx, fmt.Sprintf("w%d-%d", w, f.rand.Uint32()), r) })
	}
	for range requesters {
		r := rand.New(rand.NewPCG(f.rand.Uint64(), 0)) //nolint:gosec // no secret
		l.wg.Go(func() { l.request(ctx, instances, r) })
	}
	return l
}

func (l *load) write(ctx context.Context, name string, r *rand.Rand) {
	slots := make([]int, keys) // how often the key of the slot was given up
	for n := 1; ctx.Err() == nil; n++ {
		slot := r.IntN(keys)
		key := fmt.Sprintf("%s-%d-%d", name, slot, slots[slot])
		l.note(key, func(e *entry) { e.pending = n })
		err := l.f.nodes[r.IntN(3)].put(key, n)
		pause := 10 * time.Millisecond
		switch op, dial := errors.AsType[*net.OpError](err); {
		case err == nil:
			l.writes.Add(1)
			l.note(key, func(e *entry) {
				e.acked, e.pending = n, 0
				l.longest, l.last = max(l.longest, time.Since(l.last)), time.Now()
			})
		case dial && op.Op == "dial":
			l.note(key, func(e *entry) { e.pending = 0 }) // was never sent
		default:
			l.unknown.Add(1)
			slots[slot]++
			pause = 100 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (l *load) note(key string, change func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.ledger[key]
	change(&e)
	l.ledger[key] = e
}

// put writes the number n as an object.
func (m *machine) put(key string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := m.call(ctx, "PUT", "/api/services/"+key, api.Service{Command: appBinary, Env: map[string]string{"N": strconv.Itoa(n)}}, nil)
	return err
}

func (l *load) request(ctx context.Context, instances int, r *rand.Rand) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := l.f.nodes[r.IntN(3)].ask(try, fmt.Sprintf("i%d", r.IntN(instances)))
		cancel()
		if err == nil {
			l.served.Add(1)
		} else if ctx.Err() == nil {
			l.failed.Add(1)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// end stops the clients, waits until the fleet has settled and holds its state against
// the ledger. There must have been at least so many good writes a second.
func (l *load) end(least float64) {
	l.f.t.Helper()
	l.stop()
	l.wg.Wait()
	took := time.Since(l.began)
	l.f.settle()
	l.check()
	rate := float64(l.writes.Load()) / took.Seconds()
	l.f.t.Logf("%s: %d writes acknowledged (%.0f/s), none lost; %d unknown; %d requests served, %d failed; never more than %s without a write",
		took.Round(time.Second), l.writes.Load(), rate, l.unknown.Load(), l.served.Load(), l.failed.Load(), l.longest.Round(time.Millisecond))
	if rate < least {
		l.f.t.Errorf("%.1f writes a second were acknowledged, at least %.1f are demanded", rate, least)
	}
}

// check holds a consistent read through every node against the ledger.
func (l *load) check() {
	l.f.t.Helper()
	for _, m := range l.f.nodes {
		l.mu.Lock()
		before := maps.Clone(l.ledger)
		l.mu.Unlock()
		var services []*api.Service
		l.f.until("a consistent read", patience, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_, err := m.call(ctx, "GET", "/api/services?consistent=true", nil, &services)
			return err
		})
		l.mu.Lock()
		after := maps.Clone(l.ledger)
		l.mu.Unlock()
		found := map[string]int{}
		for _, s := range services {
			found[s.Name], _ = strconv.Atoi(s.Env["N"])
		}
		for key, was := range before {
			got, is := found[key], after[key]
			if got < was.acked || got > max(is.acked, is.pending) {
				l.f.t.Fatalf("LOST: %s has %s = %d, acknowledged was %d, then %d (pending %d)", m.name, key, got, was.acked, is.acked, is.pending)
			}
		}
	}
}
