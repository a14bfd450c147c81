package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// host is a machine.
type host struct {
	w     *world
	index int
	addr  raft.ServerAddress
	disk  *disk
	clock clock
	boots int    // names directories; belongs to whoever controls the machine
	dir   string // of the present or next process

	mu       sync.Mutex
	proc     *process
	power    bool
	asleep   chan struct{} // closed when a stopped machine goes on; nil while it runs
	id       string        // once it is known
	programs map[api.Ref]*program
	leased   time.Time // until then the agent holds the lease

	// trouble is what may make others give it up, ill what may make ten end.
	// A drain moves what runs there, whatever its service says.
	trouble, ill, drained troubles
}

// process is one run of ten on a machine.
type process struct {
	host      *host
	dir       string
	transport *transport
	gone      chan struct{} // closed when it is dead, or ends
	vanishes  sync.Once
	ctx       context.Context
	cancel    context.CancelFunc
	node      atomic.Pointer[consensus.Node]
	wg        sync.WaitGroup
}

func (p *process) vanish() { p.vanishes.Do(func() { close(p.gone) }) }

func (p *process) isDead() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func newHost(w *world, index int) *host {
	return &host{
		w: w, index: index, addr: addrOf(index), power: true,
		disk:     newDisk(rand.New(rand.NewPCG(w.seed, uint64(100+index)))),
		dir:      filepath.Join(w.dir, fmt.Sprintf("%d-0", index)),
		programs: map[api.Ref]*program{},
	}
}

// listener returns the process that takes connections. Refuses is set when the machine
// runs and nobody listens.
func (h *host) listener() (p *process, refuses bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.power {
		return nil, false
	}
	if h.proc == nil || h.proc.isDead() {
		return nil, true
	}
	return h.proc, false
}

// running returns the process, if it has a node by now.
func (h *host) running() (*process, *consensus.Node) {
	h.mu.Lock()
	p := h.proc
	h.mu.Unlock()
	if p == nil || p.isDead() || p.node.Load() == nil {
		return nil, nil
	}
	return p, p.node.Load()
}

// awake waits until the machine is not stopped. It returns false if the simulation ended.
func (h *host) awake() bool { return h.awakeUnless(nil) }

// awake waits as that of the machine, but not longer than the process lives: what it does
// when it is dead must not keep others waiting.
func (p *process) awake() bool { return p.host.awakeUnless(p.gone) && !p.isDead() }

// sleep returns false if the process died meanwhile.
func (p *process) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.gone:
		return false
	}
}

func (h *host) awakeUnless(gone <-chan struct{}) bool {
	for {
		h.mu.Lock()
		asleep := h.asleep
		h.mu.Unlock()
		if asleep == nil {
			return true
		}
		select {
		case <-asleep:
		case <-gone:
			return false
		case <-h.w.ctx.Done():
			return false
		}
	}
}

// freeze stops the machine, or lets it go on.
func (h *host) freeze(stop bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case stop && h.asleep == nil:
		h.asleep = make(chan struct{})
	case !stop && h.asleep != nil:
		close(h.asleep)
		h.asleep = nil
		h.excuse()
	}
}

// excuse notes that programs have outlived their lease while there was no ten to end them:
// see docs/reliability.md. The caller holds the lock.
func (h *host) excuse() {
	for _, p := range h.programs {
		p.excused = p.excused || time.Now().After(h.leased)
	}
}

// boot starts a process, on a machine that has none.
func (h *host) boot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.power = true
	h.excuse()
	p := &process{host: h, dir: h.dir, gone: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(h.w.ctx)
	p.transport = newTransport(p)
	h.proc = p
	h.w.wg.Go(p.run)
}

// crash ends the process, and with power the machine.
func (h *host) crash(power bool) {
	h.mu.Lock()
	p := h.proc
	h.proc = nil
	if power {
		h.power = false
		h.programs = map[api.Ref]*program{}
	}
	h.mu.Unlock()
	if p == nil {
		if power {
			h.disk.crash(power)
		}
		return
	}
	p.vanish()
	h.disk.crash(power)
	h.nextDir()
	p.cancel()
}

// stop ends the process in order.
func (h *host) stop() {
	p, node := h.running()
	if p == nil {
		h.crash(false)
		return
	}
	if err := node.Close(); err != nil {
		h.w.logf("host %d: close: %v", h.index, err)
	}
	h.crash(false)
}

// nextDir copies the files of a process that may go on writing them for a moment.
func (h *host) nextDir() {
	from := h.dir
	h.boots++
	h.dir = filepath.Join(h.w.dir, fmt.Sprintf("%d-%d", h.index, h.boots))
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(h.dir, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return ignoreMissing(err)
		}
		return os.WriteFile(to, b, 0o600)
	})
	if err != nil {
		h.w.violate("harness: copy %s: %v", from, err)
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// run is the life of a process.
func (p *process) run() {
	h := p.host
	defer p.vanish()
	who, err := consensus.Identify(p.dir)
	if err != nil {
		h.w.violate("host %d: identify: %v", h.index, err)
		return
	}
	h.mu.Lock()
	h.id = who.ID
	h.mu.Unlock()
	node, err := consensus.Open(p.ctx, p.config())
	if err != nil {
		if !p.isDead() {
			h.w.logf("host %d: open: %v", h.index, err)
			h.fell(p, err)
		}
		return
	}
	p.node.Store(node)
	defer func() {
		if err := node.Close(); err != nil && !p.isDead() {
			h.w.logf("host %d: close: %v", h.index, err)
		}
	}()
	p.wg.Go(func() { p.watch(node) })
	p.wg.Go(func() { p.runAgent(node) })
	p.wg.Go(func() {
		leader.Run(p.ctx, leader.Config{Cluster: node, Prober: prober{p}, Logger: p.logger(), Now: h.clock.now})
	})
	p.wg.Wait()
	<-p.ctx.Done()
}

// fell is called when a process ends by itself. It is started again, as an init system
// would.
func (h *host) fell(p *process, err error) {
	h.w.count("processes that ended by themselves", 1)
	h.w.logf("host %d: ended by itself: %v", h.index, err)
	if !h.ill.within(time.Minute) {
		h.w.violate("host %d ended by itself, on a machine without a fault: %v", h.index, err)
	}
	h.w.wg.Go(func() {
		h.mu.Lock()
		mine := h.proc == p
		h.mu.Unlock()
		if !mine {
			return
		}
		h.trouble.begin()
		defer h.trouble.end()
		h.control(func() { h.crash(false) })
		if h.w.net.sleep(2 * time.Second) {
			h.control(func() {
				h.mu.Lock()
				start := h.proc == nil && h.power
				h.mu.Unlock()
				if start {
					h.boot()
				}
			})
		}
	})
}

func (p *process) config() consensus.Config {
	h := p.host
	cfg := consensus.Config{
		Dir: p.dir, Logger: p.logger(), Now: h.clock.now, Transport: p.transport,
		Node: api.Node{
			Name: fmt.Sprintf("host-%d", h.index), PeerAddress: string(h.addr),
			Isolations: api.Isolations(),
		},
		Fatal: func(err error) {
			if !p.isDead() {
				h.fell(p, err)
			}
		},
		Forward: p.forward, ReadIndex: p.readIndex,
		Authorize: func(consensus.Actor, *state.Command) error { return nil },
		LeaseTTL:  leaseEnd, Reserve: 16 * api.KiB, LowWater: 64 * api.KiB,
		FreeSpace: func(string) (api.Size, error) {
			if h.disk.isFull() {
				return 0, nil
			}
			return api.GiB, nil
		},
		Testing: &consensus.Testing{
			OpenLog: func(string) (consensus.LogFile, error) { return &file{d: h.disk, p: p}, nil },
			Tune: func(rc *raft.Config) {
				rc.SnapshotThreshold, rc.TrailingLogs = h.w.snapshots, h.w.snapshots/2
			},
		},
	}
	if h.w.patient {
		cfg.Testing.Patience = time.Hour
	}
	if h.index > 0 {
		cfg.Join = &consensus.Join{ClusterID: h.w.clusterID(), Ask: p.askToJoin}
	}
	return cfg
}

func (p *process) logger() *slog.Logger {
	return slog.New(&logHandler{w: p.host.w, p: p})
}

// control makes changes to a machine one at a time.
func (h *host) control(f func()) {
	h.w.controls[h.index] <- struct{}{}
	defer func() { <-h.w.controls[h.index] }()
	f()
}
