package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/leader"
	"github.com/tenement-fleet/tenement/proxy"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/health"
	"github.com/tenement-fleet/tenement/runtime/logs"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/httpapi"
	"github.com/tenement-fleet/tenement/server/telemetry"
)

// internalDir, in the data directory, is nobody's business but ours.
const internalDir = ".ten"

// declareAgain is how often a configuration is tried again that met a full disk.
const declareAgain = 5 * time.Second

// nodeConfig is what a node is made of.
type nodeConfig struct {
	*Options
	cfg     *config.Config
	upgrade func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error)
	// elsewhere reports whether requests for an instance are under way that this node
	// does not count: those of the node before it.
	elsewhere func(api.Ref) bool
}

// node is everything that needs the data directory: one process at a time has one.
type node struct {
	cfg     *config.Config
	log     *slog.Logger
	drivers map[api.Isolation]driver.Driver

	registry  *prometheus.Registry
	logs      *logs.Store
	consensus *consensus.Node
	router    *route.Router
	readiness *health.Readiness
	agent     *agent.Agent
	pump      *pump
	api       *httpapi.Server
	proxy     *proxy.Proxy

	wg   sync.WaitGroup // ended by one of undo
	undo []func() error // what close does, last first
}

// openNode takes the data directory and brings everything in it to life. When it
// returns, every program that was running is found again and requests can be answered.
// On an error nothing is left behind.
func openNode(ctx context.Context, opts nodeConfig) (_ *node, err error) {
	n := &node{cfg: opts.cfg, log: opts.Logger, drivers: opts.Drivers}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, step := range []func(context.Context, nodeConfig) error{
		n.openStores, n.openRouter, n.openAgent, n.openHTTP, n.settle,
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

// openStores opens logs and replicated state, which know nothing of each other, at once.
func (n *node) openStores(ctx context.Context, opts nodeConfig) (err error) {
	if n.registry, err = telemetry.NewRegistry(telemetry.Build{Version: opts.Version}); err != nil {
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
			Node: thisNode(ctx, n.drivers, opts.Version), Fatal: opts.Fatal,
		})
	})
	wg.Wait()
	if n.logs != nil {
		n.onClose(func() error { return bounded(ctx, 10*time.Second, n.logs.Stop) })
	}
	if n.consensus != nil {
		n.onClose(n.consensus.Close)
	}
	return errors.Join(logsErr, stateErr)
}

// thisNode describes the machine.
func thisNode(ctx context.Context, drivers map[api.Isolation]driver.Driver, version string) api.Node {
	name, err := os.Hostname()
	if err != nil || !api.ValidName(name) {
		name = "node"
	}
	capacity := api.Capacity{CPUs: runtime.NumCPU()}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		capacity.Memory = api.Size(uint64(info.Totalram) * uint64(info.Unit))
	}
	return api.Node{Name: name, Capacity: capacity, Isolations: working(ctx, drivers), Version: version}
}

func (n *node) openRouter(_ context.Context, opts nodeConfig) error {
	r, err := route.New(route.Config{
		Domain: n.cfg.Domain, Default: n.cfg.Routing.Default,
		Subdomain: n.cfg.Routing.Subdomain, Path: n.cfg.Routing.Path, Now: opts.Now,
	})
	if err != nil {
		return fmt.Errorf("open routing table: %w", err)
	}
	n.router = r
	return nil
}

func (n *node) openAgent(ctx context.Context, opts nodeConfig) error {
	n.readiness = health.NewReadiness(health.Config{Logger: n.log})
	n.onClose(n.readiness.Close)
	a, err := agent.New(agent.Config{
		NodeID: n.consensus.ID(), DataDir: n.cfg.DataDir,
		RunDir: n.path("run"), SocketDir: n.path("sock"),
		Drivers: n.drivers, Specs: specs{n.consensus}, Gate: gate{n.router, opts.elsewhere}, Output: n.logs,
		Readiness: n.readiness, Checker: health.NewChecker(health.CheckerConfig{}), Reporter: n.consensus,
		MaxStarts: n.cfg.MaxConcurrentStarts, Now: opts.Now, Logger: n.log, Registerer: n.registry,
	})
	if err != nil {
		return err
	}
	n.agent = a
	n.onClose(func() error { return bounded(ctx, 30*time.Second, a.Close) })
	n.pump = newPump(n.consensus, n.router, a.Changed)
	return nil
}

func (n *node) openHTTP(_ context.Context, opts nodeConfig) (err error) {
	c := cluster{Node: n.consensus, drivers: n.drivers}
	n.api, err = httpapi.New(httpapi.Config{ //nolint:contextcheck // each request has its own
		NodeID: n.consensus.ID(), Version: opts.Version, Cluster: c,
		Runtime: local{Agent: n.agent, dataDir: n.cfg.DataDir}, Logs: n.logs,
		Registry: n.registry, Upgrade: opts.upgrade, Logger: n.log, Now: opts.Now,
	})
	if err != nil {
		return err
	}
	n.onClose(func() error { n.api.Close(); return nil })
	ask := requests{node: n.consensus, pump: n.pump, agent: n.agent}
	n.proxy, err = proxy.New(proxy.Config{
		Router: n.router, Waker: ask, Creator: ask,
		Local: n.api, Logger: n.log, Registerer: n.registry, Now: opts.Now,
	})
	return err
}

// settle brings state, routing table and programs into agreement and starts what keeps
// them there.
func (n *node) settle(ctx context.Context, _ nodeConfig) error {
	declareErr := n.declare(ctx)
	if declareErr != nil && api.CodeOf(declareErr) != api.CodeDiskFull {
		return declareErr
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.onClose(func() error { cancel(); n.wg.Wait(); return nil })
	n.wg.Go(func() { leader.Run(run, n.consensus, n.log) })
	n.pump.reset()
	if err := n.agent.Recover(ctx); err != nil {
		return fmt.Errorf("find running programs: %w", err)
	}
	n.wg.Go(func() { n.pump.run(run) })
	if declareErr != nil { // what runs is served all the same
		n.wg.Go(func() { n.declareLater(run, declareErr) })
	}
	return nil
}

// declare stores what was told to ten outside of its API.
func (n *node) declare(ctx context.Context) error {
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
	return importTokens(ctx, n.consensus, n.path("pending-tokens"), n.log)
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
