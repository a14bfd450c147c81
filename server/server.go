package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/proxy"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/server/config"
)

// ErrInterrupted as the cause of the end of Run's context says that a person pressed
// Ctrl-C: the programs are to end too. Any other cause leaves them running.
var ErrInterrupted = errors.New("interrupted")

// How long the steps of ending and replacing a server may take.
const (
	successorReady   = 30 * time.Second // to check its configuration
	successorServing = 60 * time.Second // to open state and find its programs
	settleWakes      = 10 * time.Second // for wakes under way when a successor is ready
	settleHeld       = 2 * time.Second  // and for those that came then, while all requests are held
	drainReplaced    = 30 * time.Second // for requests under way when a successor serves
	drainEnd         = 10 * time.Second // and when nobody does until the next start
	drainInterrupted = 2 * time.Second  // and when somebody waits at a terminal
	stopPrograms     = 30 * time.Second // for programs to end, on an interrupt
	leaveWait        = 2 * time.Second  // to tell the other nodes
)

// Options is what [Run] is told.
type Options struct {
	// Load returns the configuration; it is asked once, after the listeners of a
	// predecessor, if any, have been inherited.
	Load    func() (*config.Config, error)
	Version string
	Logger  *slog.Logger
	// Out gets the lines for people: where the server serves.
	Out io.Writer
	// Serving, if set, is told the address of the HTTP port once requests are answered.
	Serving func(net.Addr)
	// Program and Args start a successor; the default is this process's own.
	Program string
	Args    []string
	// Guard is the program, whose main function calls [Guard], that ends what must not
	// run when this process can't; empty means none.
	Guard string
	// Drivers are the ways to run a program; the default is every one of this build.
	Drivers map[api.Isolation]driver.Driver
	Now     func() time.Time // nil means time.Now
	// Fatal ends the process after a storage error that makes going on unsafe; the
	// default prints the error to standard error and exits with 1.
	Fatal func(error)
}

func (o *Options) setDefaults() (err error) {
	if o.Drivers == nil {
		if o.Drivers, err = newDrivers(); err != nil {
			return err
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Args == nil && len(os.Args) > 0 {
		o.Args = os.Args[1:]
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) {
			fmt.Fprintln(os.Stderr, "ten: fatal:", err)
			os.Exit(1)
		}
	}
	return nil
}

// Run serves until ctx ends or a successor has taken over, and returns nil then.
func Run(ctx context.Context, opts Options) error {
	before, err := inherit(os.Getenv)
	if err != nil {
		return err
	}
	if err = opts.setDefaults(); err == nil {
		err = run(ctx, &opts, before)
	}
	if err != nil {
		before.fail(err)
	}
	return err
}

func run(ctx context.Context, opts *Options, before *predecessor) error {
	cfg, err := opts.Load()
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		opts.Logger.Warn(w)
	}
	if err := checkServices(ctx, cfg, opts.Drivers); err != nil {
		return err
	}
	s := &server{opts: opts, cfg: cfg, upgrades: make(chan upgrade, 1), ended: make(chan struct{})}
	defer s.close()
	if err := s.start(ctx, before); err != nil {
		if ctx.Err() != nil {
			opts.Logger.Info("told to end before it served", "error", err)
			return nil
		}
		return err
	}
	return s.loop(ctx)
}

// checkServices refuses a file whose services this machine can't run, before anything
// is started.
func checkServices(ctx context.Context, cfg *config.Config, drivers map[api.Isolation]driver.Driver) error {
	var errs []error
	for _, s := range cfg.Services {
		if err := checkIsolation(ctx, drivers, s); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// server is the part of a process that outlives its node: the listeners and the lock.
type server struct {
	opts    *Options
	cfg     *config.Config
	lock    *os.File // on the data directory
	doors   []*door
	node    *node
	past    []*proxy.Proxy // of nodes closed for successors that failed
	serving sync.WaitGroup // the doors' accept loops
	web     atomic.Pointer[secret.WebCertificates]

	upgrading atomic.Bool  // from the request on: there is one at a time
	upgrades  chan upgrade // has room for it
	ended     chan struct{}
}

// start takes over from a predecessor, if there is one, and returns once requests are
// answered.
func (s *server) start(ctx context.Context, before *predecessor) error {
	if err := s.inherit(before); err != nil {
		return err
	}
	if err := before.takeOver(ctx, s.opts.Version); err != nil {
		return fmt.Errorf("take over from the running server: %w", err)
	}
	if err := s.lockDir(); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	var err error
	if s.node, err = openNode(ctx, s.nodeConfig(before.lingers)); err != nil {
		return err
	}
	s.open(before)
	s.serve()
	if err := before.release(); err != nil {
		s.opts.Logger.Warn("the predecessor does not hear that this server serves", "error", err)
	}
	// A token that was made before our socket could be seen, but after the first look.
	if err := s.node.importTokens(ctx); err != nil {
		s.opts.Logger.Warn("tokens wait for the next start", "error", err)
	}
	s.announce()
	return nil
}

func (s *server) nodeConfig(elsewhere func(api.Ref) bool) nodeConfig {
	_, port, _ := net.SplitHostPort(s.door(listenerHTTP).Addr().String())
	return nodeConfig{Options: s.opts, cfg: s.cfg, upgrade: s.upgrade, elsewhere: elsewhere, httpPort: port}
}

// lockDir makes the data directory and makes sure that no other server uses it.
func (s *server) lockDir() error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o755); err != nil { //nolint:gosec // instances' users pass through it
		return fmt.Errorf("open data directory: %w", err)
	}
	internal := filepath.Join(s.cfg.DataDir, internalDir)
	if err := os.MkdirAll(internal, 0o700); err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	if err := os.Chmod(internal, 0o700); err != nil { //nolint:gosec // a directory is entered
		return fmt.Errorf("open data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(internal, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	switch err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return errors.Join(fmt.Errorf("open data directory %s: another server uses it", s.cfg.DataDir), lock.Close())
	case err != nil:
		return errors.Join(fmt.Errorf("lock data directory %s: %w", s.cfg.DataDir, err), lock.Close())
	}
	s.lock = lock
	return nil
}

func (s *server) unlock() {
	if s.lock != nil {
		_ = s.lock.Close() // nothing was written to it
		s.lock = nil
	}
}

func (s *server) announce() {
	addr := s.door(listenerHTTP).Addr()
	_, port, _ := net.SplitHostPort(addr.String())
	fmt.Fprintf(s.opts.Out, "ten %s is serving http://%s\n", s.opts.Version, net.JoinHostPort(s.cfg.Domain, port))
	if d := s.door(listenerTLS); d != nil {
		_, port, _ := net.SplitHostPort(d.Addr().String())
		fmt.Fprintf(s.opts.Out, "ten %s is serving https://%s\n", s.opts.Version, net.JoinHostPort(s.cfg.Domain, port))
	}
	if s.opts.Serving != nil {
		s.opts.Serving(addr)
	}
}

// loop waits for the end or for a successor.
func (s *server) loop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return s.end(ctx, errors.Is(context.Cause(ctx), ErrInterrupted))
		case <-s.node.consensus.Removed():
			return errors.Join(s.removed(), s.end(ctx, true))
		case <-s.node.removed:
			return errors.Join(s.removed(), s.end(ctx, true))
		case u := <-s.upgrades:
			replaced, err := s.replace(ctx, u)
			if replaced || s.node == nil {
				return err
			}
			s.opts.Logger.Error("the successor did not take over, this server goes on", "error", err)
		}
	}
}

// removed says what an operator has to know of a server that is no longer a member.
func (s *server) removed() error {
	return fmt.Errorf("this server has been removed from its cluster and has stopped its programs: "+
		"to let it join again as a new one, move %s away", filepath.Join(s.cfg.DataDir, internalDir))
}

// end stops taking requests, lets those under way finish and closes the node; on an
// interrupt the programs end too.
func (s *server) end(ctx context.Context, interrupted bool) error {
	close(s.ended)
	s.node.api.Close()
	if !interrupted {
		s.node.leaving.Store(true)
		if err := bounded(ctx, leaveWait, s.node.leave); err != nil {
			s.opts.Logger.Warn("the other nodes don't know that this one comes back", "error", err)
		}
	}
	limit := drainEnd
	if interrupted {
		limit = drainInterrupted
	}
	for _, d := range s.doors {
		_ = d.Close() // the clients of a port that nobody serves should hear so at once
	}
	if err := bounded(ctx, limit, s.drain); err != nil {
		s.opts.Logger.Info("connections are cut off", "error", err)
	}
	var errs []error
	if interrupted {
		errs = append(errs, bounded(ctx, stopPrograms, s.node.agent.StopAll))
	}
	return errors.Join(append(errs, s.node.close())...)
}

// close cuts off what is left and closes the listeners.
func (s *server) close() {
	for _, p := range s.past {
		p.Close()
	}
	for _, d := range s.doors {
		if d.http != nil {
			_ = d.http.Close() // nothing of value is left
		}
		_ = d.Close() // its http server may have done so
	}
	s.serving.Wait()
	s.unlock()
}
