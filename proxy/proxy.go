package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/front"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/proxy/upstream"
	"github.com/tenement-fleet/tenement/proxy/wake"
)

// DefaultQueueAllowance is how long a request may be held beyond its service's
// startup_timeout, for starts that queue behind others and for restart backoff.
const DefaultQueueAllowance = 20 * time.Second

// The bounds of logging failed requests: what a client can cause without end must not
// fill the disk.
const (
	logRate  = 20 // lines a second
	logBurst = 200
)

// stallTime is how long a client may take nothing of a response before it is cut off.
const stallTime = time.Minute

// Waker brings an instance up.
type Waker interface {
	// Wake returns when the instance's gate is open, or an *api.Error that says why it
	// is not.
	Wake(ctx context.Context, ref api.Ref) error
}

// Creator declares an instance for the first request to its host.
type Creator interface {
	// Create returns when the instance is declared. It enforces max_instances.
	Create(ctx context.Context, ref api.Ref) error
}

// Config is what a Proxy needs. Router, Waker and Local must be set.
type Config struct {
	Router *route.Router
	Waker  Waker
	// Creator serves spawn_on_request; nil turns it off.
	Creator Creator
	// Local serves the node's own hosts.
	Local      http.Handler
	Logger     *slog.Logger          // slog.Default when nil
	Registerer prometheus.Registerer // a fresh registry when nil
	Now        func() time.Time      // time.Now when nil

	// TrustedProxies are the networks whose X-Forwarded and Forwarded fields are believed.
	TrustedProxies []netip.Prefix

	// QueuePerInstance and QueueTotal bound the requests held for sleeping instances;
	// QueueAllowance bounds how long, beyond startup_timeout. 0 means the default.
	QueuePerInstance int
	QueueTotal       int
	QueueAllowance   time.Duration
	// PauseLimit bounds how long a route that pauses holds a request; as many as for a
	// sleeping instance. 0 means the default.
	PauseLimit time.Duration

	// Upstream bounds the connections kept to each instance.
	Upstream upstream.Config
	// Peers reaches the other nodes; nil while there are none.
	Peers Peers
}

// Proxy is the handler of a node's public port.
type Proxy struct {
	router    *route.Router
	wakes     *wake.Queue
	creates   *wake.Queue // nil: nothing is created by request
	pauses    *wake.Queue // of routes that pause, by name
	local     http.Handler
	log       *slog.Logger
	now       func() time.Time
	trusted   []netip.Prefix
	allowance time.Duration
	upstream  upstream.Config
	peers     Peers
	openPool  func(api.Endpoint) io.Closer
	stall     time.Duration
	logLimit  *rate.Limiter
	metrics   *metrics
	unknown   *serviceMetrics
	passedOn  *serviceMetrics // of requests that other nodes have counted by service

	pauseLimit time.Duration

	ctx    context.Context // ends with the proxy, and with it the tunnels
	cancel context.CancelFunc
}

// New returns a Proxy. Close frees it.
func New(cfg Config) (*Proxy, error) {
	if cfg.Router == nil || cfg.Waker == nil || cfg.Local == nil {
		return nil, errors.New("make proxy: Router, Waker and Local must be set")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.QueueAllowance <= 0 {
		cfg.QueueAllowance = DefaultQueueAllowance
	}
	if cfg.PauseLimit <= 0 {
		cfg.PauseLimit = DefaultPauseLimit
	}
	p := &Proxy{
		router: cfg.Router, local: cfg.Local, log: cfg.Logger, now: cfg.Now,
		stall: stallTime, logLimit: rate.NewLimiter(logRate, logBurst),
		trusted: cfg.TrustedProxies, allowance: cfg.QueueAllowance,
		upstream: cfg.Upstream, peers: cfg.Peers,
		pauseLimit: cfg.PauseLimit,
		pauses:     wake.New(wake.Config{Start: resumed(cfg.Router), PerInstance: cfg.QueuePerInstance, Total: cfg.QueueTotal}),
		wakes:      wake.New(wake.Config{Start: wakeClosed(cfg.Router, cfg.Waker), PerInstance: cfg.QueuePerInstance, Total: cfg.QueueTotal}),
	}
	p.openPool = func(ep api.Endpoint) io.Closer { return upstream.NewPool(ep, p.poolConfig(ep)) }
	var err error
	if p.metrics, err = newMetrics(cfg.Registerer, func() float64 { return float64(p.wakes.Waiting() + p.pauses.Waiting()) }); err != nil {
		return nil, err
	}
	p.unknown, p.passedOn = p.metrics.of(noService), p.metrics.of(peerService)
	if cfg.Creator != nil {
		p.creates = wake.New(wake.Config{Start: cfg.Creator.Create, PerInstance: cfg.QueuePerInstance, Total: cfg.QueueTotal})
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// wakeClosed wakes an instance whose gate is not open: a request that saw it closed may
// come only after the start that it would have joined has ended.
func wakeClosed(router *route.Router, waker Waker) func(context.Context, api.Ref) error {
	return func(ctx context.Context, ref api.Ref) error {
		if router.IsOpen(ref) {
			return nil
		}
		return waker.Wake(ctx, ref)
	}
}

// Settle returns when no request waits for an instance, or with ctx's cause: the moment
// at which a successor can take the instances over.
func (p *Proxy) Settle(ctx context.Context) error {
	if p.creates != nil {
		if err := p.creates.Settle(ctx); err != nil {
			return err
		}
	}
	return p.wakes.Settle(ctx)
}

// Close ends every held request and every upgraded connection.
func (p *Proxy) Close() {
	p.cancel()
	p.wakes.Close()
	p.pauses.Close()
	if p.creates != nil {
		p.creates.Close()
	}
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := refuse(r); f != nil {
		p.refuse(w, r, f)
		return
	}
	if len(r.TransferEncoding) > 0 && front.SawContentLength(r.Context()) {
		// Chunks and a length together: net/http went by the chunks, as it should, but
		// what another proxy made of it is unknown, so that nothing more is taken from
		// this connection.
		w.Header().Set("Connection", "close")
	}
	m := p.router.Match(r.Host, r.URL.Path)
	if m.Kind == route.Routed {
		var err error
		if m, err = p.settled(r, m); err != nil {
			p.unsettled(w, r, err)
			return
		}
	}
	switch m.Kind {
	case route.Local:
		p.local.ServeHTTP(w, r)
	case route.Direct, route.Weighted, route.Routed:
		p.forward(w, r, m, false) //nolint:contextcheck // the request carries it
	default:
		p.refuse(w, r, &failure{status: http.StatusNotFound, text: textUnknownHost})
	}
}

// refuse returns why a request goes nowhere at all, or nil. Of all upgrades only
// WebSocket is understood well enough to let it pass.
func refuse(r *http.Request) *failure {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return &failure{status: http.StatusMethodNotAllowed, text: textMethod}
	}
	if v := r.Header["Upgrade"]; len(v) > 0 && (len(v) > 1 || !strings.EqualFold(v[0], "websocket")) {
		return &failure{status: http.StatusMethodNotAllowed, text: textMethod}
	}
	return nil
}

// refuse answers a request that belongs to no service.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, f *failure) {
	p.unknown.count(f.status)
	writePage(w, r, f, requestID(r.Header))
}
