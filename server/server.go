package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/front"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/server/auth"
	"github.com/tenement-fleet/tenement/server/config"
)

// ErrInterrupted, as the cause of the end of Run's context, says that a person pressed
// Ctrl-C: the programs are to end too. Any other cause leaves them running.
var ErrInterrupted = errors.New("interrupted")

// How long the steps of ending and replacing a server may take.
const (
	successorReady   = 30 * time.Second // to check its configuration
	successorServing = 60 * time.Second // to open state and find its programs
	settleWakes      = 10 * time.Second // for wakes under way when a successor is ready
	drainRequests    = 30 * time.Second // for requests under way when this server ends
)

// The listeners that a successor inherits.
const (
	listenerHTTP  = "http"
	listenerAdmin = "admin"
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
	// Program and Args start a successor; the default is this process's own.
	Program string
	Args    []string
	// Drivers are the ways to run a program; the default is every one of this build.
	Drivers map[api.Isolation]driver.Driver
	Now     func() time.Time // nil means time.Now
	// Fatal ends the process after a storage error that makes going on unsafe; the
	// default prints the error to standard error and exits with 1.
	Fatal func(error)

	upgrade func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error)
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
	if err := opts.setDefaults(); err != nil {
		return err
	}
	before, inherited, err := inherit(os.Getenv)
	if err != nil {
		return err
	}
	err = run(ctx, &opts, before, inherited)
	if err != nil {
		before.fail(err)
	}
	return err
}

func run(ctx context.Context, opts *Options, before *predecessor, inherited map[string]net.Listener) error {
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
	s := &server{opts: opts, cfg: cfg, upgrades: make(chan upgrade)}
	opts.upgrade = s.upgrade
	if err := s.listen(ctx, inherited); err != nil {
		return err
	}
	defer s.close()
	if err := before.takeOver(ctx); err != nil {
		return fmt.Errorf("take over from the running server: %w", err)
	}
	if s.node, err = openNode(ctx, opts, cfg); err != nil {
		return err
	}
	s.open()
	s.serve()
	if err := before.release(); err != nil {
		opts.Logger.Warn("the predecessor does not hear that this server serves", "error", err)
	}
	s.announce()
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

// server is the part of a process that outlives its node: the listeners.
type server struct {
	opts     *Options
	cfg      *config.Config
	doors    []*door
	node     *node
	upgrades chan upgrade
	serving  sync.WaitGroup // the doors' accept loops
}

// door is one listener with what answers behind it.
type door struct {
	namedListener
	relay *relay
	http  httpServer
}

// httpServer is a front, or what is enough for the admin socket.
type httpServer interface {
	Serve(net.Listener) error
	Drain(context.Context) error
	Close() error
}

// upgrade is one request to be replaced; the reply comes when the successor is ready.
type upgrade struct {
	request api.UpgradeRequest
	reply   chan upgradeReply
}

type upgradeReply struct {
	result api.UpgradeResult
	err    error
}

// upgrade implements httpapi's Upgrade: it returns when the successor has said that it
// can take over, which it then does.
func (s *server) upgrade(ctx context.Context, r api.UpgradeRequest) (api.UpgradeResult, error) {
	u := upgrade{request: r, reply: make(chan upgradeReply, 1)}
	select {
	case s.upgrades <- u:
	case <-ctx.Done():
		return api.UpgradeResult{}, context.Cause(ctx)
	}
	select {
	case got := <-u.reply:
		return got.result, got.err
	case <-ctx.Done():
		return api.UpgradeResult{}, context.Cause(ctx)
	}
}

func (s *server) listen(ctx context.Context, inherited map[string]net.Listener) error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o755); err != nil { //nolint:gosec // instances' users pass through it
		return fmt.Errorf("open data directory: %w", err)
	}
	for name, open := range map[string]func() (net.Listener, error){
		listenerHTTP: func() (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(ctx, "tcp", net.JoinHostPort(s.cfg.Bind, strconv.Itoa(s.cfg.Port)))
		},
		listenerAdmin: func() (net.Listener, error) {
			ln, err := auth.Listen(ctx, filepath.Join(s.cfg.DataDir, "ten.sock"))
			if err == nil {
				ln.SetUnlinkOnClose(false) // a successor listens on the same socket
			}
			return ln, err
		},
	} {
		ln, ok := inherited[name]
		if !ok {
			var err error
			if ln, err = open(); err != nil {
				s.close()
				return fmt.Errorf("listen for requests: %w", err)
			}
		}
		s.doors = append(s.doors, &door{namedListener: namedListener{name: name, Listener: ln}, relay: newRelay()})
	}
	return nil
}

// close cuts off what is left and closes the listeners.
func (s *server) close() {
	for _, d := range s.doors {
		if d.http != nil {
			_ = d.http.Close() // nothing of value is left
		}
		_ = d.Close() // its http server may have done so
	}
	s.serving.Wait()
}

func (s *server) open() {
	for _, d := range s.doors {
		if d.name == listenerAdmin {
			d.http = newAdminServer(d.relay, s.opts.Logger)
		} else {
			d.http = front.New(front.Config{Handler: d.relay, Logger: s.opts.Logger})
		}
		s.serving.Go(func() {
			if err := d.http.Serve(d.Listener); err != nil {
				s.opts.Logger.Error("no more requests are taken", "listener", d.name, "error", err)
			}
		})
	}
}

// serve lets the node answer: on the network by host name, on the admin socket the API.
func (s *server) serve() {
	for _, d := range s.doors {
		if d.name == listenerAdmin {
			d.relay.serve(s.node.api)
		} else {
			d.relay.serve(s.node.proxy)
		}
	}
}

func (s *server) announce() {
	for _, d := range s.doors {
		if d.name == listenerHTTP {
			_, port, _ := net.SplitHostPort(d.Addr().String())
			fmt.Fprintf(s.opts.Out, "ten %s is serving http://%s\n", s.opts.Version, net.JoinHostPort(s.cfg.Domain, port))
		}
	}
}

// loop waits for the end or for a successor.
func (s *server) loop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return s.end(errors.Is(context.Cause(ctx), ErrInterrupted))
		case u := <-s.upgrades:
			replaced, err := s.replace(ctx, u)
			if replaced || s.node == nil {
				return err
			}
			s.opts.Logger.Error("the successor did not take over, this server goes on", "error", err)
		}
	}
}

// end stops taking requests, lets those under way finish and closes the node; on an
// interrupt the programs end too.
func (s *server) end(interrupted bool) error {
	s.node.api.Close()
	errs := []error{bounded(drainRequests, s.drain)}
	if interrupted {
		errs = append(errs, bounded(drainRequests, s.node.agent.StopAll))
	}
	return errors.Join(append(errs, s.node.close())...)
}

// drain closes the listeners and waits for the requests under way.
func (s *server) drain(ctx context.Context) error {
	var errs []error
	for _, d := range s.doors {
		errs = append(errs, d.http.Drain(ctx))
	}
	return errors.Join(errs...)
}

// replace starts a successor, lets it take over and lingers. It reports whether that
// happened; when it did not, this server serves on, unless its node is nil: then it can't.
func (s *server) replace(ctx context.Context, u upgrade) (bool, error) {
	next, err := s.prepare(ctx, u.request)
	if err != nil {
		u.reply <- upgradeReply{err: api.Errorf(api.CodeFailed, "start the successor: %w", err)}
		return false, err
	}
	u.reply <- upgradeReply{result: api.UpgradeResult{PID: next.cmd.Process.Pid}}

	if err := bounded(settleWakes, s.node.proxy.Settle); err != nil {
		s.opts.Logger.Warn("requests still wait for programs to start, their clients have to retry", "error", err)
	}
	for _, d := range s.doors {
		d.relay.hold()
	}
	old := s.node
	old.api.Close()
	if err := old.release(); err != nil {
		s.opts.Logger.Warn("closing the node for the successor", "error", err)
	}
	s.node = nil
	bound, cancel := context.WithTimeout(ctx, successorServing)
	defer cancel()
	if err = next.conn.say(wordGo); err == nil {
		err = next.conn.await(bound, wordServing)
	}
	if err == nil {
		return true, s.linger(old)
	}
	next.abandon()
	old.proxy.Close()
	node, openErr := openNode(ctx, s.opts, s.cfg)
	if openErr != nil {
		return false, errors.Join(err, openErr)
	}
	s.node = node
	s.serve()
	return false, err
}

// prepare starts a successor and returns once it has said that it is ready.
func (s *server) prepare(ctx context.Context, r api.UpgradeRequest) (*successor, error) {
	program := cmp.Or(r.Path, s.opts.Program)
	if program == "" {
		var err error
		if program, err = ownProgram(); err != nil {
			return nil, err
		}
	}
	var listeners []namedListener
	for _, d := range s.doors {
		listeners = append(listeners, d.namedListener)
	}
	next, err := startSuccessor(program, s.opts.Args, listeners)
	if err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, successorReady)
	defer cancel()
	if err := next.conn.await(bound, wordReady); err != nil {
		next.abandon()
		return nil, err
	}
	return next, nil
}

// linger passes on what still arrives on old connections and waits for the requests
// that the old node has under way.
func (s *server) linger(old *node) error {
	defer old.proxy.Close()
	for _, d := range s.doors {
		d.relay.serve(forwarder(d.Addr().Network(), dialable(d.Addr()), s.opts.Logger))
	}
	if err := bounded(drainRequests, s.drain); err != nil {
		s.opts.Logger.Info("connections that outlast the hand-over are cut off", "error", err)
	}
	return nil
}

// dialable returns the address at which this machine reaches its own listener.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
}

// ownProgram returns the path that this process was started from, where a new version
// will be when the file has been replaced.
func ownProgram() (string, error) {
	p, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	const deleted = " (deleted)"
	if n := len(p) - len(deleted); n > 0 && p[n:] == deleted {
		p = p[:n]
	}
	return p, nil
}
