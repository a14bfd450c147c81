package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/tenement-fleet/tenement/api"
)

// history is what clients asked of one object, and what they were told.
type history struct {
	f     *fleet
	key   string
	began time.Time
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu   sync.Mutex
	next int
	ops  []porcupine.Operation
	good int
}

// register is an object as Porcupine sees it: the input is what is written, or 0 to read.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		if n, _ := input.(int); n != 0 {
			return true, n
		}
		return state == output, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v → %v", input, output) },
}

// history starts clients that write one object and read it consistently, through all
// nodes.
func (f *fleet) history() *history {
	ctx, stop := context.WithCancel(f.t.Context())
	h := &history{f: f, key: fmt.Sprintf("h%x", f.rand.Uint64()), began: time.Now(), stop: stop}
	for c := range 6 {
		r := rand.New(rand.NewPCG(f.rand.Uint64(), 0)) //nolint:gosec // no secret
		h.wg.Go(func() {
			for ctx.Err() == nil {
				m := f.nodes[r.IntN(len(f.nodes))]
				if c%2 == 0 {
					h.write(c, m)
				} else {
					h.read(c, m)
				}
				time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
			}
		})
	}
	return h
}

func (h *history) write(client int, m *machine) {
	h.mu.Lock()
	h.next++
	n := h.next
	h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: n, Call: h.now()}
	err := m.put(h.key, n)
	op.Return = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		op.Return, op.ClientId = math.MaxInt64, 100+n // unknown: it may happen at any time
	} else {
		h.good++
	}
	h.ops = append(h.ops, op)
}

func (h *history) read(client int, m *machine) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	op := porcupine.Operation{ClientId: client, Input: 0, Call: h.now()}
	var s api.Service
	_, err := m.call(ctx, "GET", "/api/services/"+h.key+"?consistent=true", nil, &s)
	op.Return = h.now()
	if status, ok := errors.AsType[*statusError](err); ok && status.status == 404 {
		err = nil
	}
	n, _ := strconv.Atoi(s.Env["N"])
	op.Output = n
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.good++
		h.ops = append(h.ops, op)
	}
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// end stops the clients and has Porcupine judge.
func (h *history) end() {
	h.f.t.Helper()
	h.stop()
	h.wg.Wait()
	switch porcupine.CheckOperationsTimeout(register, h.ops, patience) {
	case porcupine.Illegal:
		h.f.t.Errorf("%s: the history of %d operations is not linearizable: %v", h.key, len(h.ops), h.ops)
	case porcupine.Unknown:
		h.f.t.Errorf("%s: Porcupine could not judge %d operations in %s", h.key, len(h.ops), patience)
	}
}

// TestPauses: the leader is stopped for a while; no client reads what is stale.
func TestPauses(t *testing.T) {
	f := startFleet(t, plain, 3)
	ops, good, began := 0, 0, time.Now()
	for n := range *pauses {
		leader := f.leader()
		h := f.history()
		time.Sleep(300 * time.Millisecond)
		// As many short ones as long ones.
		pause := time.Duration(float64(100*time.Millisecond) * math.Pow(float64(*maxPause)/float64(100*time.Millisecond), f.rand.Float64()))
		leader.signal(syscall.SIGSTOP)
		time.Sleep(pause)
		leader.signal(syscall.SIGCONT)
		time.Sleep(time.Second)
		h.end()
		ops, good = ops+len(h.ops), good+h.good
		if len(h.ops) > 0 && h.good == 0 {
			t.Errorf("%d: nothing succeeded around a pause of %s", n, pause)
		}
		f.until("all is well", 2*patience, f.well)
	}
	f.settle()
	rate := float64(good) / time.Since(began).Seconds()
	t.Logf("%d pauses: %d operations in histories, %d succeeded (%.0f/s), all linearizable", *pauses, ops, good, rate)
	if rate < 5 {
		t.Errorf("%.1f operations a second succeeded, at least 5 are demanded", rate)
	}
}
