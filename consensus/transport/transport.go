package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/consensus/secret"
	"golang.org/x/time/rate"
)

// closeWait bounds how long Close waits for handlers that were told to end.
const closeWait = 10 * time.Second

// Transport is a node's peer port and its connections to the others.
type Transport struct {
	cfg          Config
	certificates *secret.Certificates
	conns        conns
	metrics      *metrics
	dialer       net.Dialer
	complaints   *rate.Limiter // of warnings about strangers, who could fill the log

	raftQueue, httpQueue, joinQueue *queue
	raft                            *RaftTransport
	httpServer, joinServer          *http.Server
	pool, probes, forwards          *http.Transport
	handlers                        handlers

	ctx    context.Context // done when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// Of the requests. They are told to end only when their connections are closed, so
	// that no answer that was cut short looks like a whole one.
	requests    context.Context
	endRequests context.CancelFunc
	once        sync.Once
	err         error // of Close
}

// New opens the peer port: it answers when New returns.
func New(cfg Config) (*Transport, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	certificates, err := secret.NewCertificates(cfg.Keyring, cfg.NodeID, cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	t := &Transport{
		cfg: cfg, certificates: certificates, metrics: m, dialer: newDialer(),
		conns:      conns{all: map[*conn]struct{}{}, max: cfg.MaxUnproven},
		complaints: rate.NewLimiter(rate.Every(10*time.Second), 5),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.requests, t.endRequests = context.WithCancel(context.Background())
	for _, q := range []**queue{&t.raftQueue, &t.httpQueue, &t.joinQueue} {
		*q = newQueue(cfg.Listener.Addr())
	}
	changed := cfg.Keyring.Changed()
	t.conns.trust(cfg.Keyring.CAs())
	t.raft = newRaftTransport(t)
	t.httpServer, t.joinServer = t.newHTTPServer(), t.newJoinServer()
	t.pool, t.probes, t.forwards = t.newPool(protoHTTP2), t.newPool(protoHTTP2), t.newPool(protoHTTP1)
	t.wg.Go(func() { t.follow(changed) })
	t.wg.Go(func() { _ = t.httpServer.Serve(t.httpQueue) }) // ends with the queue
	t.wg.Go(func() { _ = t.joinServer.Serve(t.joinQueue) })
	t.wg.Go(t.accept)
	return t, nil
}

// Addr returns the address of the port.
func (t *Transport) Addr() net.Addr { return t.cfg.Listener.Addr() }

// Disconnect ends all connections from and to a node: after Allow has begun to refuse it,
// or because it is known to be dead. Those who may make new ones can do so at once.
func (t *Transport) Disconnect(nodeID string) { t.conns.disconnect(nodeID) }

// Shutdown stops accepting, waits until the requests under way are answered or ctx ends,
// and closes the transport. Raft's streams go on until then.
func (t *Transport) Shutdown(ctx context.Context) error {
	_ = t.cfg.Listener.Close()
	err := t.httpServer.Shutdown(ctx)
	return errors.Join(err, t.Close())
}

// Close ends all connections and waits until nothing of the transport runs any more.
func (t *Transport) Close() error {
	t.once.Do(func() {
		t.cancel()
		_ = t.cfg.Listener.Close()
		err := t.raft.Close()
		for _, q := range []*queue{t.raftQueue, t.httpQueue, t.joinQueue} {
			_ = q.Close()
		}
		t.conns.closeAll()
		t.endRequests()
		_ = t.httpServer.Close() // what it closes is closed already
		_ = t.joinServer.Close()
		t.closeIdle()
		t.wg.Wait()
		t.metrics.unregister()
		t.err = errors.Join(err, t.handlers.wait(closeWait))
	})
	return t.err
}

// follow makes the connections obey the keyring.
func (t *Transport) follow(changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-t.ctx.Done():
			return
		}
		changed = t.cfg.Keyring.Changed()
		t.conns.trust(t.cfg.Keyring.CAs())
		// The next requests use connections under the keys of now, so that few are left
		// to be cut when the old secret is removed.
		t.closeIdle()
	}
}

func (t *Transport) closeIdle() {
	for _, pool := range []*http.Transport{t.pool, t.probes, t.forwards} {
		pool.CloseIdleConnections()
	}
}

// accept is the one accept loop.
func (t *Transport) accept() {
	var delay time.Duration
	for {
		raw, err := t.cfg.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: that passes.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			t.warn("accept peer connection", "error", err, "retry_in", delay)
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(delay):
				continue
			}
		}
		delay = 0
		if c, ok := t.conns.accepted(raw); ok {
			t.wg.Go(func() { t.handshake(c) })
		}
	}
}

// handshake finds out who connects and what for, and hands the connection on.
func (t *Transport) handshake(c *conn) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.HandshakeTimeout)
	defer cancel()
	tc := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: t.configFor})
	proto, err := t.prove(ctx, tc, c)
	switch {
	case err == nil:
		t.metrics.handshakes.WithLabelValues("ok").Inc()
		t.dispatch(proto, tc, c)
		return
	case t.conns.wasEvicted(c):
		t.metrics.handshakes.WithLabelValues("evicted").Inc()
		t.warn("too many unproven connections to the peer port: ended the oldest", "remote", c.RemoteAddr())
	case t.ctx.Err() == nil:
		t.metrics.handshakes.WithLabelValues("failed").Inc()
		t.warn("refused a connection to the peer port", "remote", c.RemoteAddr(), "error", err)
	}
	_ = c.Close()
}

func (t *Transport) prove(ctx context.Context, tc *tls.Conn, c *conn) (proto string, err error) {
	if err := tc.HandshakeContext(ctx); err != nil {
		return "", err
	}
	state := tc.ConnectionState()
	proto = state.NegotiatedProtocol
	if proto == protoJoin {
		return proto, nil // stays among the unproven, which bounds how many there are
	}
	if err := t.conns.prove(c, state); err != nil {
		return "", err
	}
	verdict := verdictWelcome
	if proto == protoRaft {
		// Asked after the peer is noted: either Allow refuses, or Disconnect finds it. For
		// HTTP it is asked at each request, which can be told the reason.
		if err = t.cfg.Allow(c.peer); err != nil {
			verdict, err = verdictRefused, fmt.Errorf("node %s is refused: %w", c.peer, err)
		}
	}
	return proto, errors.Join(err, sendVerdict(ctx, tc, verdict))
}

func (t *Transport) dispatch(proto string, tc *tls.Conn, c *conn) {
	t.conns.use(c, t.metrics.connection(proto, "in"))
	switch proto {
	case protoJoin:
		t.joinQueue.put(plain{tc})
	case protoRaft:
		t.raftQueue.put(tc)
	default:
		t.httpQueue.put(tc)
	}
}

// warn logs what a stranger can cause as often as he likes.
func (t *Transport) warn(msg string, args ...any) {
	level := slog.LevelWarn
	if !t.complaints.Allow() {
		level = slog.LevelDebug
	}
	t.cfg.Logger.Log(t.ctx, level, msg, args...)
}

// queue is a listener that is fed with connections.
type queue struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// put hands a connection to the next Accept.
func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }
