package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// setting is what a simulation is made of. All else follows from the seed.
type setting struct {
	seed     uint64
	hosts    int
	lasts    time.Duration // of simulated time
	dir      string
	lies     bool          // disks acknowledge what they have not synced
	focus    []fault       // instead of all
	announce bool          // violations are printed when they happen: a mutant may not reach its end
	busy     bool          // many clients that don't rest
	patient  bool          // no watchdog: it would notice stops that no real one does
	far      bool          // all links are slow, all the time
	hesitate time.Duration // new leaders wait up to as long before they begin
	verbose  bool
}

// world is one simulated cluster.
type world struct {
	setting
	ctx       context.Context
	end       context.CancelFunc
	wg        sync.WaitGroup
	rng       *rand.Rand // of the faults
	net       *network
	hosts     []*host
	controls  []chan struct{}
	snapshots uint64 // entries between two
	began     time.Time

	mu         sync.Mutex
	violations []string
	events     []string
	counts     map[string]int

	leaders map[uint64]string             // by term
	hashes  map[uint64][32]byte           // by index
	places  map[api.Ref]map[uint64]string // node by generation
	ledger  ledger
	history history
	quiet   atomic.Bool  // clients pause
	calm    atomic.Int64 // how often everything has worked, while it does: every operation must
}

func newWorld(s setting) *world {
	w := &world{
		setting: s, rng: rand.New(rand.NewPCG(s.seed, 2)), began: time.Now(),
		counts: map[string]int{}, leaders: map[uint64]string{}, hashes: map[uint64][32]byte{},
		places: map[api.Ref]map[uint64]string{},
	}
	w.ctx, w.end = context.WithCancel(context.Background())
	w.net = newNetwork(s.seed, &w.wg, w.ctx.Done())
	w.snapshots = uint64(64 << w.rng.IntN(4))
	w.ledger.init()
	w.history.init()
	hesitation.Store(nil)
	if s.hesitate > 0 {
		f := func() { w.net.sleep(w.net.upTo(s.hesitate)) }
		hesitation.Store(&f)
	}
	for i := range s.hosts {
		w.hosts = append(w.hosts, newHost(w, i))
		w.hosts[i].disk.lies = s.lies
		w.controls = append(w.controls, make(chan struct{}, 1))
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%10s ", time.Since(w.began).Round(time.Millisecond)) + fmt.Sprintf(format, args...)
	if w.verbose {
		fmt.Println(line)
	}
	if w.events = append(w.events, line); len(w.events) > 400 {
		w.events = slices.Delete(w.events, 0, 200)
	}
}

const maxViolations = 10

// violate notes that an invariant does not hold.
func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.logf("VIOLATION: %s", text)
	if w.announce {
		fmt.Println("caught: " + text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < maxViolations {
		w.violations = append(w.violations, text)
	}
}

func (w *world) violated() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.violations) > 0
}

func (w *world) count(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what] += n
}

func (w *world) counted(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[what]
}

func (h *host) nodeID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id
}

func (w *world) byID(id string) *host {
	for _, h := range w.hosts {
		if h.nodeID() == id {
			return h
		}
	}
	return nil
}

func (w *world) clusterID() string {
	if _, n := w.hosts[0].running(); n != nil {
		return n.ClusterID()
	}
	return ""
}

// sawLeader checks that a term has one leader. It is called with everything that a leader
// sends.
func (w *world) sawLeader(term uint64, id string) {
	w.mu.Lock()
	have, ok := w.leaders[term]
	if !ok {
		w.leaders[term] = id
	}
	w.mu.Unlock()
	if ok && have != id {
		w.violate("term %d has two leaders: %s and %s", term, have, id)
	}
}

// watch checks every version of the state that a process has.
func (p *process) watch(n *consensus.Node) {
	w := p.host.w
	last := uint64(0)
	seen := map[api.Ref]*api.Instance{}
	for p.ctx.Err() == nil && !p.isDead() {
		v := n.View()
		if v.Index() < last {
			w.violate("host %d: its state went back from index %d to %d", p.host.index, last, v.Index())
		}
		last = v.Index()
		if last%64 == 0 {
			w.sawHash(p.host, v)
		}
		for i := range v.Instances("") {
			if seen[i.Ref()] != i {
				seen[i.Ref()] = i
				w.sawPlace(p.host, v, i)
			}
		}
		select {
		case <-v.Changed():
		case <-p.gone:
		case <-p.ctx.Done():
		}
	}
}

// sawHash checks that states with equal indexes are equal.
func (w *world) sawHash(h *host, v *state.View) {
	sum := v.Hash()
	w.mu.Lock()
	have, ok := w.hashes[v.Index()]
	w.hashes[v.Index()] = sum
	w.mu.Unlock()
	if ok {
		w.count("states compared", 1)
	}
	if ok && have != sum {
		w.violate("states differ: index %d on host %d has another hash than elsewhere", v.Index(), h.index)
	}
}

// sawPlace checks that an instance has one node a generation, and had a reason to move.
func (w *world) sawPlace(h *host, v *state.View, i *api.Instance) {
	w.mu.Lock()
	places := w.places[i.Ref()]
	if places == nil {
		places = map[uint64]string{}
		w.places[i.Ref()] = places
	}
	have, ok := places[i.Generation]
	before, known := places[i.Generation-1]
	if !ok {
		places[i.Generation] = i.Node
	}
	w.mu.Unlock()
	switch {
	case ok && have != i.Node:
		w.violate("instance %s is on two nodes in generation %d: %s and, says host %d, %s", i.Ref(), i.Generation, have, h.index, i.Node)
	case !ok && known && before != "" && i.Generation > 1:
		w.moved(v, i, before)
	}
}

// patience is the shortest silence after which the leader may give a node up.
const patience = 2 * time.Second

// moved checks that an instance was moved from a node that was lost for a while.
func (w *world) moved(v *state.View, i *api.Instance, from string) {
	s, ok := v.Service(i.Service)
	h := w.byID(from)
	if !ok || h == nil {
		return
	}
	w.count("re-placements", 1)
	w.logf("%s moves from host %d", i.Ref(), h.index)
	if h.drained.within(2 * time.Minute) {
		return
	}
	if s.Disconnect() == api.DisconnectKeep {
		w.violate("instance %s, which is to be kept where it is, was moved from host %d", i.Ref(), h.index)
	}
	if !h.trouble.long(patience, 2*time.Minute) {
		w.violate("instance %s was moved from host %d, which was not cut off", i.Ref(), h.index)
	}
}

// sawStart checks that no other machine runs a single-writer. The caller holds the lock of
// host h, and takes no other's: what it finds is taken up by another goroutine.
func (w *world) sawStart(ref api.Ref, h *host) {
	w.count("single-writers started", 1)
	w.wg.Go(func() {
		for _, o := range w.hosts {
			if o == h {
				continue
			}
			o.mu.Lock()
			p := o.programs[ref]
			runs := p != nil && o.runs(p)
			o.mu.Unlock()
			if runs {
				w.violate("single-writer %s was started on host %d while host %d ran it", ref, h.index, o.index)
			}
		}
	})
}

// runs reports whether a program of this machine, whose lock is held, runs and is to
// blame for it: nothing ends it while the machine stands still, or has no ten.
func (h *host) runs(p *program) bool {
	stands := (h.asleep != nil || h.proc == nil) && time.Now().After(h.leased)
	return !p.excused && !stands && (p.stopping.IsZero() || time.Now().Before(p.stopping))
}

// logHandler takes what nodes log.
type logHandler struct {
	w *world
	p *process
}

func (l *logHandler) Enabled(context.Context, slog.Level) bool { return true }
func (l *logHandler) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logHandler) WithGroup(string) slog.Handler            { return l }

// Handle notes warnings.
func (l *logHandler) Handle(_ context.Context, r slog.Record) error {
	if l.w.verbose && r.Level >= slog.LevelWarn {
		var attrs strings.Builder
		r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&attrs, " %s", a); return true })
		l.w.logf("host %d: %s%s", l.p.host.index, r.Message, attrs.String())
	}
	return nil
}
