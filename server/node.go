package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/gossip"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/proxy"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fence"
	"github.com/tenement-fleet/tenement/runtime/health"
	"github.com/tenement-fleet/tenement/runtime/logs"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/httpapi"
	"github.com/tenement-fleet/tenement/server/peering"
	"github.com/tenement-fleet/tenement/server/registry"
	"github.com/tenement-fleet/tenement/server/telemetry"
)

// internalDir, in the data directory, is nobody's business but ours.
const internalDir = ".ten"

// declareAgain is how often a configuration is tried again that met a full disk.
const declareAgain = 5 * time.Second

const (
	catchUpWait = 10 * time.Second
	declareWait = 10 * time.Second
)

// nodeConfig is what a node is made of.
type nodeConfig struct {
	*Options
	cfg     *config.Config
	upgrade func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error)
	// httpPort is the port of the HTTP API and the proxy.
	httpPort string
	// elsewhere reports whether requests for an instance are under way that this node
	// does not count: those of the node before it.
	elsewhere func(api.Ref) bool
}

// node is everything that needs the data directory: one process at a time has one.
type node struct {
	cfg     *config.Config
	log     *slog.Logger
	now     func() time.Time
	drivers map[api.Isolation]driver.Driver

	registry  *prometheus.Registry
	peers     *peers
	logs      *logs.Store
	consensus *consensus.Node
	router    *route.Router
	lease     *lease
	readiness *health.Readiness
	agent     *agent.Agent
	pump      *pump
	web       *secret.WebCertificates
	provider  *registry.Registry
	api       *httpapi.Server
	proxy     *proxy.Proxy

	leaving     atomic.Bool   // set before the others are told
	removed     chan struct{} // closed when the leader says that this node is no longer a member
	removedOnce sync.Once

	wg   sync.WaitGroup // ended by one of undo
	undo []func() error // what close does, last first
}

// openNode takes the data directory and brings everything in it to life. When it
// returns, every program that was running is found again and requests can be answered.
// On an error nothing is left behind.
func openNode(ctx context.Context, opts nodeConfig) (_ *node, err error) {
	n := &node{cfg: opts.cfg, log: opts.Logger, now: opts.Now, drivers: opts.Drivers, removed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, step := range []func(context.Context, nodeConfig) error{
		n.openPeers, n.openStores, n.openRouter, n.openAgent, n.openHTTP, n.openGossip, n.settle,
	} {
		if err := step(ctx, opts); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) onClose(f func() error) { n.undo = append(n.undo, f) }

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.cfg.DataDir, internalDir}, parts...)...)
}

// openPeers opens the way to other nodes.
func (n *node) openPeers(ctx context.Context, opts nodeConfig) (err error) {
	if n.registry, err = telemetry.NewRegistry(telemetry.Build{Version: opts.Version}); err != nil {
		return err
	}
	n.peers, err = openPeers(ctx, peersConfig{
		Config: n.cfg, internal: n.path, log: n.log, registry: n.registry, now: opts.Now, version: opts.Version,
	})
	if err == nil {
		n.onClose(func() error { return n.peers.close(ctx) })
		err = n.openWeb()
	}
	return err
}

// openStores opens logs and replicated state, which know nothing of each other, at once.
// A server that joins a cluster waits here until it is a member.
func (n *node) openStores(ctx context.Context, opts nodeConfig) error {
	join, err := n.peers.join(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var logsErr, stateErr error
	wg.Go(func() { //nolint:contextcheck // logs.Open takes none
		n.logs, logsErr = logs.Open(logs.Config{
			Dir: n.path("logs"), MaxAge: n.cfg.LogMaxAge.Std(), MaxSize: n.cfg.LogMaxSize,
			Logger: n.log, Now: opts.Now, Registerer: n.registry,
		})
	})
	wg.Go(func() {
		n.consensus, stateErr = consensus.Open(ctx, consensus.Config{
			Dir: n.path(), Logger: n.log, Now: opts.Now, Registerer: n.registry,
			Node: n.describe(ctx, opts), Fatal: opts.Fatal,
			Transport: n.peers.port.RaftTransport(), Join: join,
			Forward: n.peers.writes.Forward, ReadIndex: n.peers.client.ReadIndex, Authorize: n.authorize,
			LeaseTTL: leaseEnd,
		})
	})
	wg.Wait()
	if n.logs != nil {
		n.onClose(func() error { return bounded(ctx, 10*time.Second, n.logs.Stop) })
	}
	if n.consensus != nil {
		n.onClose(n.consensus.Close)
		n.peers.founding.belongs(n.consensus.ClusterID())
		addressOf, redeem := n.addressOf, n.redeem
		n.peers.replicated.Store(&addressOf)
		n.peers.tickets.Store(&redeem)
	}
	if err := errors.Join(logsErr, stateErr); err != nil || join != nil || len(n.consensus.Members()) > 1 {
		return err
	}
	return n.peers.checkAlone(ctx, n.consensus.ClusterID())
}

func (n *node) addressOf(id string) (string, bool) {
	if node, ok := n.consensus.View().Node(id); ok && node.PeerAddress != "" {
		return node.PeerAddress, true
	}
	return "", false
}

// authorize decides, on the leader, about what other nodes forward: a node acts for
// itself, or for a token that still allows it.
func (n *node) authorize(a consensus.Actor, _ *state.Command) error {
	if a.Node != "" {
		return nil // consensus has checked that it is the one that forwards
	}
	t, ok := n.consensus.View().Token(a.TokenID)
	switch {
	case !ok || !t.ExpiresAt.IsZero() && !n.now().Before(t.ExpiresAt):
		return api.Errorf(api.CodeUnauthenticated, "the token was revoked, or has expired")
	case t.Role != api.RoleAdmin:
		return api.Errorf(api.CodeForbidden, "the token may not change anything")
	}
	return nil
}

// describe describes this node.
func (n *node) describe(ctx context.Context, opts nodeConfig) api.Node {
	c := n.cfg.Cluster
	return api.Node{
		Name: nodeName(n.cfg), Region: c.Region, Zone: c.Zone, Provider: c.Provider, Labels: c.Labels,
		Capacity: capacity(n.cfg), Isolations: working(ctx, n.drivers), Version: opts.Version,
		PeerAddress: n.peers.peerAddress(), GossipAddress: n.peers.gossipAddress(),
		HTTPAddress: net.JoinHostPort(n.peers.host, opts.httpPort), SecretIDs: n.peers.keyring.IDs(),
	}
}

// capacity is what the limits of the instances on this machine may add up to.
func capacity(cfg *config.Config) api.Capacity {
	c := api.Capacity{CPUs: runtime.NumCPU() * cfg.Cluster.CPUOvercommit}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		c.Memory = api.Size(uint64(info.Totalram)*uint64(info.Unit)) * api.Size(cfg.Cluster.MemoryOvercommit)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(cfg.DataDir, &fs); err == nil {
		c.Storage = api.Size(fs.Blocks) * api.Size(fs.Bsize)
	}
	return c
}

func (n *node) openRouter(_ context.Context, opts nodeConfig) error {
	r, err := route.New(route.Config{
		Domain: n.cfg.Domain, Default: n.cfg.Routing.Default,
		Subdomain: n.cfg.Routing.Subdomain, Path: n.cfg.Routing.Path, Now: opts.Now, Self: n.consensus.ID(),
		Names: n.ownHosts(),
	})
	if err != nil {
		return fmt.Errorf("open routing table: %w", err)
	}
	n.router = r
	return nil
}

func (n *node) openAgent(ctx context.Context, opts nodeConfig) error {
	n.lease = newLease(n.consensus, n.peers.client, n.log)
	if err := n.openFence(opts); err != nil {
		return err
	}
	n.readiness = health.NewReadiness(health.Config{Logger: n.log})
	n.onClose(n.readiness.Close)
	a, err := agent.New(agent.Config{
		NodeID: n.consensus.ID(), DataDir: n.cfg.DataDir,
		RunDir: n.path("run"), SocketDir: n.path("sock"),
		Drivers: n.drivers, Specs: specs{n.consensus, n.lease}, Gate: gate{n.router, opts.elsewhere}, Output: n.logs,
		Readiness: n.readiness, Checker: health.NewChecker(health.CheckerConfig{}), Reporter: n.consensus,
		Data:      dataFetcher{n.consensus, n.peers.client.FetchData, n.leaseEnded},
		MaxStarts: n.cfg.MaxConcurrentStarts, Now: opts.Now, Logger: n.log, Registerer: n.registry,
	})
	if err != nil {
		return err
	}
	n.agent, n.lease.fences = a, a.Fences
	n.onClose(func() error { return bounded(ctx, 30*time.Second, a.Close) })
	n.pump = newPump(n.consensus, n.router, a.Changed)
	return nil
}

// openFence takes over from the guard of the ten before this one.
func (n *node) openFence(opts nodeConfig) (err error) {
	if opts.Guard == "" {
		return nil
	}
	n.lease.fence, err = fence.Open(fence.Config{
		Path: n.path("lease"), LogPath: n.path("guard.log"), BootID: agent.BootID(), Logger: n.log,
		Program: opts.Guard, Args: []string{n.path("run")},
	})
	if err != nil {
		return err
	}
	n.onClose(n.lease.close)
	return n.lease.resume(n.path("run"))
}

func (n *node) openHTTP(_ context.Context, opts nodeConfig) (err error) {
	here := local{Agent: n.agent, node: n.consensus, dataDir: n.cfg.DataDir}
	c := cluster{Node: n.consensus, drivers: n.drivers, pump: n.pump}
	provider, err := n.openProvider(opts.Version)
	if err != nil {
		return err
	}
	n.provider = provider
	n.api, err = httpapi.New(httpapi.Config{ //nolint:contextcheck // each request has its own
		NodeID: n.consensus.ID(), Version: opts.Version, Cluster: c,
		Runtime: instances{here, n.consensus, n.peers.client}, Logs: allLogs{n.logs, n.consensus, n.peers.client},
		Registry: n.registry, Upgrade: opts.upgrade, Logger: n.log, Now: opts.Now,
		Members: members{n}, Consistent: n.consistent, Stale: n.stale,
		TLS: n.tlsStatus, CA: n.peers.keyring.PEM, Provider: provider,
	})
	if err != nil {
		return err
	}
	n.onClose(func() error { n.api.Close(); return nil })
	ask := requests{node: n.consensus, router: n.router, pump: n.pump, agent: n.agent}
	n.proxy, err = proxy.New(proxy.Config{
		Router: n.router, Waker: ask, Creator: ask,
		Local: n.api, Logger: n.log, Registerer: n.registry, Now: opts.Now, Peers: toPeers{n.peers.port},
	})
	if err != nil {
		return err
	}
	n.peers.door.serve(peering.Handler(peering.Config{
		Node: member{n}, Runtime: here, Logs: n.logs, Founder: n.peers.founding,
		Proxy: http.HandlerFunc(n.proxy.ServePeer), Logger: n.log,
	}))
	return nil
}

// openGossip starts to gossip with the nodes that the state knows.
func (n *node) openGossip(ctx context.Context, opts nodeConfig) error {
	self := n.describe(ctx, opts)
	return n.peers.openGossip(ctx, n.consensus.ClusterID(), gossip.Meta{
		Name: self.Name, PeerAddr: self.PeerAddress, HTTPAddr: self.HTTPAddress, Version: self.Version, Zone: self.Zone,
	})
}

// gossipers returns where the other nodes gossip.
func (n *node) gossipers() (out []string) {
	for other := range n.consensus.View().Nodes() {
		if other.ID != n.consensus.ID() && other.GossipAddress != "" && other.Status != api.NodeLeft {
			out = append(out, other.GossipAddress)
		}
	}
	return out
}

// settle brings state, routing table and programs into agreement and starts what keeps
// them there.
func (n *node) settle(ctx context.Context, _ nodeConfig) error {
	n.catchUp(ctx)
	declareErr := n.declare(ctx)
	if declareErr != nil && !passing(declareErr) {
		return declareErr
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.onClose(func() error { cancel(); n.wg.Wait(); return nil })
	n.wg.Go(func() { n.peers.meetAll(run, n.gossipers) })
	n.wg.Go(func() {
		leader.Run(run, leader.Config{Cluster: leading{n.consensus}, Prober: prober{n.peers.client, n.consensus.HeardOf, n.now}, Logger: n.log, Now: n.now})
	})
	n.forgetLost(run) // before anybody joins
	n.wg.Go(func() { n.followSecret(run) })
	n.wg.Go(func() { n.announceMove(run) })
	n.wg.Go(func() { n.prepareProvider(run) })
	n.pump.reset()
	n.lease.begin(ctx)
	n.wg.Go(func() { n.lease.run(run, func() { specs{n.consensus, n.lease}.leased(n.agent.Changed) }) })
	if err := n.agent.Recover(ctx); err != nil {
		return fmt.Errorf("find running programs: %w", err)
	}
	n.wg.Go(func() { n.pump.run(run) })
	if declareErr != nil { // what runs is served all the same
		n.wg.Go(func() { n.declareLater(run, declareErr) })
	}
	return nil
}

// catchUp waits, but not for long, until the node has heard what the cluster decided
// while it was away: what it runs may be another's by now. Without a leader it serves all
// that it knows.
func (n *node) catchUp(ctx context.Context) {
	timeout := time.NewTimer(catchUpWait)
	defer timeout.Stop()
	select {
	case <-n.consensus.CaughtUp():
	case <-ctx.Done():
	case <-timeout.C:
		n.log.Warn("this node has not heard of a leader: it serves what it knew when it stopped", "waited", catchUpWait)
	}
}

// passing reports whether an error is one of a state that passes: a full disk, no leader.
func passing(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeDiskFull, api.CodeUnavailable, api.CodeTimeout:
		return true
	default:
		return false
	}
}

// declare stores what was told to ten outside of its API.
func (n *node) declare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(asNode(ctx, n.consensus), declareWait)
	defer cancel()
	if err := n.importTokens(ctx); err != nil {
		return err
	}
	if err := n.consensus.SyncFile(ctx, n.cfg.Services, n.cfg.Instances); err != nil {
		return fmt.Errorf("declare the file's services: %w", err)
	}
	return nil
}

// declareLater does what a full disk has prevented, as soon as there is space.
func (n *node) declareLater(ctx context.Context, err error) {
	retry := time.NewTicker(declareAgain)
	defer retry.Stop()
	for err != nil {
		n.log.Warn("this start's configuration is not in effect yet", "error", err, "retry_in", declareAgain)
		select {
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		err = n.declare(ctx)
	}
	n.log.Info("this start's configuration is in effect")
}

func (n *node) importTokens(ctx context.Context) error {
	return importTokens(asNode(ctx, n.consensus), n.consensus, n.path("pending-tokens"), n.log)
}

// close lets go of everything, in reverse order; programs go on running.
func (n *node) close() error {
	if n.proxy != nil {
		n.proxy.Close()
	}
	if n.router != nil && n.consensus != nil {
		for in := range n.consensus.View().Instances("") {
			n.router.Down(in.Ref()) // frees the connections that are kept to its program
		}
	}
	return n.release()
}

// release is close, but for the requests and upgraded connections that the proxy has
// passed on already: those need nothing else of the node.
func (n *node) release() error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	n.undo = nil
	return errors.Join(errs...)
}

// bounded calls f with a context that ends after d, and not with ctx.
func bounded(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	defer cancel()
	return f(ctx)
}
