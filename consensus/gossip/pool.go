package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// sendMax bounds how long a change of this node, its leaving too, waits for the others
// to hear of it.
const sendMax = 3 * time.Second

// ErrClosed is returned by a closed [Pool].
var ErrClosed = errors.New("gossip is closed")

// Pool is this node's part in the gossip of its cluster.
type Pool struct {
	cfg     Config
	log     *slog.Logger
	logs    *logWriter
	metrics *metrics
	probes  *probes
	ring    *memberlist.Keyring
	net     *transport
	list    *memberlist.Memberlist
	mirror  *mirror
	meta    atomic.Pointer[[]byte]

	probeInterval, pushPull time.Duration

	stop     context.CancelFunc
	wg       sync.WaitGroup
	dirty    chan struct{} // memberlist's table may have changed
	disputed chan struct{} // somebody holds another address for this node

	self sync.Mutex // held while memberlist changes or removes this node

	mu      sync.Mutex
	known   table
	changed chan struct{}
	closed  bool
}

// Open starts to listen. The pool holds this node alone until [Pool.Join].
func Open(cfg Config) (_ *Pool, err error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	p := &Pool{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), probes: newProbes(cfg.Now),
		dirty: make(chan struct{}, 1), disputed: make(chan struct{}, 1),
		known: table{}, changed: make(chan struct{}),
	}
	p.logs = &logWriter{log: cfg.Logger, now: cfg.Now, refused: p.metrics.refuse}
	if p.ring, err = newKeyring(cfg.Keys()); err != nil {
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	if err := p.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("open gossip: %w", err), p.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.wg.Go(func() { p.observe(ctx) })
	p.wg.Go(func() { p.followKeys(ctx) })
	p.wg.Go(func() { p.announce(ctx) })
	p.wg.Go(func() { p.reconnect(ctx) })
	return p, nil
}

// start begins to listen and looks at the table for the first time.
func (p *Pool) start() error {
	m := p.cfg.lan()
	p.probeInterval, p.pushPull = m.ProbeInterval, m.PushPullInterval
	m.Logger = p.logs.logger()
	m.Keyring = p.ring
	d := delegate{p}
	m.Delegate, m.Events, m.Alive, m.Conflict, m.Ping = d, d, d, d, d

	inner := p.cfg.Transport
	if inner == nil {
		s, err := listen(m.BindAddr, m.BindPort, m.Logger)
		if err != nil {
			return err
		}
		m.BindPort, m.AdvertisePort = s.GetAutoBindPort(), s.GetAutoBindPort()
		inner = s
	}
	p.net = newTransport(inner, p.probes, m.TCPTimeout, p.metrics.refuse)
	m.Transport = p.net
	ip, _, err := inner.FinalAdvertiseAddr(m.AdvertiseAddr, m.AdvertisePort)
	if err != nil {
		return err
	}
	if err := p.storeMeta(p.cfg.Meta, ip); err != nil {
		return err
	}
	if p.list, err = memberlist.Create(m); err != nil {
		return err
	}
	if p.mirror, err = newMirror(m, p.dialSelf); err != nil {
		return err
	}
	if err := p.lookNow(); err != nil {
		return err
	}
	if p.known[p.cfg.NodeID] == nil {
		return fmt.Errorf("%s:%d is no address that others can reach", ip, m.AdvertisePort)
	}
	return p.metrics.register(p)
}

func (p *Pool) storeMeta(meta Meta, ip net.IP) error {
	b, err := meta.encode(addrPort(ip, 0).Addr().String())
	if err == nil {
		p.meta.Store(&b)
	}
	return err
}

// dialSelf opens a stream to this node's own memberlist.
func (p *Pool) dialSelf() (net.Conn, error) {
	here, there := net.Pipe()
	p.net.hand(there)
	return here, nil
}

// Close ends gossip. Nodes that were not told by [Pool.Leave] will suspect this one. A
// probe that memberlist has under way may outlive Close by some seconds; it has no
// socket any more.
func (p *Pool) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	if p.stop != nil {
		p.stop()
	}
	p.self.Lock() // a leave that is being sent may take its time
	defer p.self.Unlock()
	var err error
	switch {
	case p.list != nil:
		err = p.list.Shutdown() // which shuts p.net down
	case p.net != nil:
		err = p.net.Shutdown()
	}
	p.wg.Wait()
	if p.mirror != nil {
		err = errors.Join(err, p.mirror.close())
	}
	p.metrics.unregister()
	return err
}

// Addr is where the others reach this node's gossip.
func (p *Pool) Addr() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[p.cfg.NodeID].addr
}

// Members returns every node known, this one and those gone included, ordered by id.
func (p *Pool) Members() []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known.members(p.cfg.NodeID, p.cfg.Now(), p.claimTime(), p.probes)
}

// Member returns one node.
func (p *Pool) Member(id string) (Member, bool) {
	for _, m := range p.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// Changed returns a channel that is closed by the next change of the members: joined,
// updated, moved, suspected, gone, back. To miss nothing, get it before Members.
func (p *Pool) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// AddressOf returns the freshest peer address known of a node, whether it is alive or
// not. An address that belongs to another node now is not returned.
func (p *Pool) AddressOf(id string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.known[id]
	if r == nil || r.meta.PeerAddr == "" || p.known.taken(r) != nil {
		return "", false
	}
	return r.meta.PeerAddr, true
}

// SetMeta changes what this node says about itself.
func (p *Pool) SetMeta(ctx context.Context, meta Meta) error {
	ip := p.Addr().Addr().AsSlice()
	return p.run(ctx, func() error {
		return p.changeSelf(func() error {
			if err := p.storeMeta(meta, ip); err != nil {
				return err
			}
			// The answer says only whether a broadcast went out in time; exchanges of state
			// carry it in any case.
			_ = p.list.UpdateNode(sendMax)
			return nil
		})
	})
}

// Leave tells the others that this node goes, so that nobody suspects it, and waits
// until that was sent. Close must follow: a pool that has left cannot come back.
func (p *Pool) Leave(ctx context.Context) error {
	err := p.run(ctx, func() error {
		return p.changeSelf(func() error { return p.list.Leave(sendMax) })
	})
	if err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// changeSelf calls f, one at a time and not after Close, where memberlist would panic.
func (p *Pool) changeSelf(f func() error) error {
	p.self.Lock()
	defer p.self.Unlock()
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return f()
}

// run calls f, which Close waits for, and returns at the end of ctx even if f does not.
func (p *Pool) run(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.wg.Go(func() { done <- f() })
	p.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
