package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// View is the cluster's state at one index. It doesn't change, and what it returns is
// shared and must not be changed.
type View interface {
	Index() uint64
	// Changed is closed by the first change after this view.
	Changed() <-chan struct{}
	Service(name string) (*api.Service, bool)
	Services() iter.Seq[*api.Service]
	Instance(ref api.Ref) (*api.Instance, bool)
	Instances(service string) iter.Seq[*api.Instance] // "" = all
	Fleet(ref api.Ref) (*api.Fleet, bool)
	Fleets(service string) iter.Seq[*api.Fleet] // "" = all
	Route(name string) (*api.Route, bool)
	Routes() iter.Seq[*api.Route]
	Node(id string) (*api.Node, bool)
	Nodes() iter.Seq[*api.Node]
	JoinToken(id string) (*api.JoinToken, bool)
	JoinTokens() iter.Seq[*api.JoinToken]
	Token(id string) (*api.Token, bool)
	Tokens() iter.Seq[*api.Token]
}

// Cluster is the replicated state: local reads, and writes that return once they are
// committed and applied here. Their errors are *api.Error or api.FieldErrors.
type Cluster interface {
	View() View
	// Events returns the changes after an index, and a channel closed by the next one;
	// ok is false when the index is too old for that.
	Events(after uint64) (events []api.Event, changed <-chan struct{}, ok bool)

	PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error)
	DeleteService(ctx context.Context, name string, ifMatch *uint64) (uint64, error)
	PutInstance(ctx context.Context, i *api.Instance, ifMatch *uint64) (*api.Instance, error)
	DeleteInstance(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error)
	PutFleet(ctx context.Context, f *api.Fleet, ifMatch *uint64) (*api.Fleet, error)
	DeleteFleet(ctx context.Context, ref api.Ref, ifMatch *uint64) (uint64, error)
	PutRoute(ctx context.Context, r *api.Route, ifMatch *uint64) (*api.Route, error)
	DeleteRoute(ctx context.Context, name string, ifMatch *uint64) (uint64, error)
	PutToken(ctx context.Context, t *api.Token, ifMatch *uint64) (*api.Token, error)
	DeleteToken(ctx context.Context, id string) (uint64, error)
}

// Runtime is the instances, on whatever node they are.
type Runtime interface {
	// Observed is the freshest knowledge of an instance on this node.
	Observed(ref api.Ref) (api.Observed, bool)
	// Wake returns once the instance accepts connections.
	Wake(ctx context.Context, ref api.Ref) error
	// Sleep returns once the instance has no process, whatever is desired.
	Sleep(ctx context.Context, ref api.Ref) error
	// Restart stops the instance, starts it and returns once it accepts connections.
	Restart(ctx context.Context, ref api.Ref) error
	// StorageUsage measures the instance's data directory.
	StorageUsage(ctx context.Context, ref api.Ref) (api.Storage, error)
}

// Logs is what the instances printed.
type Logs interface {
	// Query returns the newest entries that match, oldest first.
	Query(ctx context.Context, q api.LogQuery) ([]api.LogEntry, error)
	// Follow yields entries after q.After, or from now on, until ctx ends.
	Follow(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error]
}

// Config is what a [Server] is made of. Optional fields say so.
type Config struct {
	NodeID  string
	Version string // optional
	Cluster Cluster
	Runtime Runtime
	Logs    Logs
	// Members is the cluster's servers. Optional: without it the server is not part of a
	// cluster, and says so.
	Members Members
	// Consistent returns a view that holds everything that was acknowledged by any node
	// before the call. Optional: Cluster.View, which does on a single node.
	Consistent func(ctx context.Context) (View, error)
	// Stale reports whether the node has lost the leader: what it reads may be old, and it
	// can't write. Optional.
	Stale func() bool

	Registry *prometheus.Registry
	// MetricsPublic opens /metrics to callers without a token.
	MetricsPublic bool
	// Ready says why the node doesn't serve yet, or nil. Optional.
	Ready func() error
	// Upgrade hands the listeners to a new process. Optional.
	Upgrade func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error)
	// TLS tells about the node's certificates. Optional.
	TLS func() api.TLSStatus
	// CA returns the certificates of the cluster's CA, as PEM. Optional.
	CA func() []byte
	// Provider is the Terraform provider that this server hands out. Optional.
	Provider Provider

	Logger *slog.Logger
	Now    func() time.Time
	Rand   io.Reader // of tokens; default crypto/rand
	// MaxStreams bounds the event and log streams and blocking queries open at once; default 1024.
	MaxStreams int
}

func (c *Config) setDefaults() {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 1024
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Members == nil {
		c.Members = alone{c}
	}
	if c.Consistent == nil {
		c.Consistent = func(context.Context) (View, error) { return c.Cluster.View(), nil }
	}
	if c.Stale == nil {
		c.Stale = func() bool { return false }
	}
	if c.TLS == nil {
		c.TLS = func() api.TLSStatus { return api.TLSStatus{} }
	}
	if c.CA == nil {
		c.CA = func() []byte { return nil }
	}
	if c.Provider == nil {
		c.Provider = noProvider{}
	}
	if c.Upgrade == nil {
		c.Upgrade = func(context.Context, api.UpgradeRequest) (api.UpgradeResult, error) {
			return api.UpgradeResult{}, api.Errorf(api.CodeConflict, "this server cannot replace itself: restart it through its service manager")
		}
	}
}

func (c *Config) validate() error {
	if c.NodeID == "" || c.Cluster == nil || c.Runtime == nil || c.Logs == nil ||
		c.Registry == nil || c.Logger == nil || c.Now == nil {
		return errors.New("new HTTP API: NodeID, Cluster, Runtime, Logs, Registry, Logger and Now are required")
	}
	return nil
}

// Server answers the HTTP API.
type Server struct {
	cfg     Config
	auth    *auth.Authenticator
	echo    *echo.Echo
	rows    []endpoint
	openapi []byte
	metrics http.Handler
	seen    *apiMetrics
	started time.Time

	streams atomic.Int64
	closing context.Context // ends when Close is called
	close   context.CancelFunc
}

// New returns a Server; its metrics are registered with cfg.Registry.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Server{cfg: cfg, started: cfg.Now(), rows: table(cfg.MetricsPublic)}
	s.closing, s.close = context.WithCancel(context.Background())
	var err error
	if s.auth, err = auth.New(auth.Config{
		Token:  func(id string) (*api.Token, bool) { return cfg.Cluster.View().Token(id) },
		Now:    cfg.Now,
		Remote: echo.ExtractIPDirect(),
	}); err != nil {
		return nil, err
	}
	if s.openapi, err = openAPI(s.rows); err != nil {
		return nil, err
	}
	if s.seen, err = newAPIMetrics(cfg.Registry); err != nil {
		return nil, err
	}
	s.metrics = metricsHandler(cfg)
	s.echo = s.router()
	return s, nil
}

// ServeHTTP implements http.Handler. Served on the admin socket it wants an http.Server
// whose ConnContext is [auth.ConnContext].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Close ends the streams and blocking queries that are open, so that their servers can
// shut down; their clients come back to whoever serves next. Later requests are answered
// still, but no longer wait.
func (s *Server) Close() { s.close() }
