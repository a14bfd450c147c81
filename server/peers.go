package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/gossip"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/proxy"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/peering"
)

// secretFile, in the internal directory, holds the cluster's secret.
const secretFile = "secret"

// drainPeers bounds how long requests of other nodes are waited for when the port closes.
const drainPeers = 2 * time.Second

// peers is a node's way to the others: whom it trusts, its port and what is said there.
// It exists before the node is a member of anything.
type peers struct {
	peersConfig
	identity consensus.Identity
	keyring  *secret.Keyring
	port     *transport.Transport
	door     *relay // what the port answers with
	client   *peering.Client
	writes   *peering.Client // for writes on their way to the leader
	founding *founding
	host     string // at which others reach this machine
	gossips  string // port of gossip
	gossip   atomic.Pointer[gossip.Pool]
	hints    atomic.Pointer[map[string]string] // peer addresses from the answer to our join

	// tickets redeems join tokens.
	tickets atomic.Pointer[func(ctx context.Context, id string, hash [32]byte) error]
	// replicated finds a node's peer port in the replicated state.
	replicated atomic.Pointer[func(node string) (string, bool)]
}

type peersConfig struct {
	*config.Config
	internal func(...string) string
	log      *slog.Logger
	registry prometheus.Registerer
	now      func() time.Time
	version  string
}

// openPeers opens the peer port. Behind it is nobody yet but who answers joiners.
func openPeers(ctx context.Context, cfg peersConfig) (*peers, error) {
	p := &peers{peersConfig: cfg, door: newRelay()}
	var err error
	if p.identity, err = consensus.Identify(cfg.internal()); err != nil {
		return nil, err
	}
	if p.keyring, err = openKeyring(ctx, cfg.Config, cfg.internal(secretFile), cfg.log); err != nil {
		return nil, err
	}
	if p.host, err = advertised(cfg.Config); err != nil {
		return nil, err
	}
	ln, err := listenNear(ctx, cfg.Bind, cfg.Cluster.PeerPort, config.DefaultPeerPort, cfg.log, "peer")
	if err != nil {
		return nil, err
	}
	if p.gossips, err = gossipPort(ctx, cfg.Config, cfg.log); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	p.founding = newFounding(p.identity, cfg.Cluster.BootstrapExpect, nodeName(cfg.Config), cfg.version, cfg.internal("promise.json"))
	p.door.serve(peering.FoundingHandler(p.founding, http.HandlerFunc(notYet)))
	p.port, err = transport.New(transport.Config{
		Listener: ln, Advertise: net.JoinHostPort(p.host, port), NodeID: p.identity.ID, Keyring: p.keyring,
		Handler: p.door, JoinHandler: transport.JoinHandler(p.keyring, p.redeem),
		AddressOf: p.address, Logger: cfg.log, Now: cfg.now, Registerer: cfg.registry,
	})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	p.client = &peering.Client{To: p.port.Client, Probe: p.port.Prober}
	p.writes = &peering.Client{To: p.port.Forwarder}
	return p, nil
}

// redeem accepts a ticket of a join token, once the node is one of a cluster.
func (p *peers) redeem(ctx context.Context, id string, hash [32]byte) error {
	if f := p.tickets.Load(); f != nil {
		return (*f)(ctx, id, hash)
	}
	return api.Errorf(api.CodeUnavailable, "redeem join token: this server is not ready")
}

// notYet answers while there is no node behind the peer port. A request for an instance
// is not lost: the node that passes it on waits until there is one, or another takes over.
func notYet(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(proxy.HeaderInstance) != "" {
		proxy.NotHere(w)
		return
	}
	peering.WriteError(w, &api.Error{
		Code: api.CodeUnavailable, Message: "this server is not ready: it is joining a cluster, or starting", RetryAfter: api.Seconds(1),
	})
}

// address returns where a node's peer port is: gossip knows it first, the state for longer.
func (p *peers) address(node string) (string, bool) {
	if g := p.gossip.Load(); g != nil {
		if a, ok := g.AddressOf(node); ok {
			return a, true
		}
	}
	if f := p.replicated.Load(); f != nil {
		if a, ok := (*f)(node); ok {
			return a, true
		}
	}
	if known := p.hints.Load(); known != nil {
		a, ok := (*known)[node]
		return a, ok
	}
	return "", false
}

// openKeyring returns the secret that the server keeps, or the one that it is given for
// its first start, or a new one.
func openKeyring(ctx context.Context, cfg *config.Config, path string, log *slog.Logger) (*secret.Keyring, error) {
	kept, err := secret.Load(path)
	if err == nil {
		warnOtherSecret(ctx, cfg, kept, log)
		return kept, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	secrets, err := givenSecrets(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		if len(cfg.Cluster.Join) > 0 {
			return nil, errors.New("join cluster: its secret is missing: copy it from a member ('ten secret') and name the file with --secret-file, or use a join token with --token-file")
		}
		s, err := secret.New(rand.Reader)
		if err != nil {
			return nil, err
		}
		secrets = []secret.Secret{s}
	}
	k, err := secret.NewKeyring(secrets...)
	if err != nil {
		return nil, err
	}
	return k, k.Save(path)
}

// givenSecrets returns the secrets that the configuration leads to; none when it names none.
func givenSecrets(ctx context.Context, cfg *config.Config) ([]secret.Secret, error) {
	switch {
	case cfg.Cluster.SecretFile != "":
		text, err := os.ReadFile(cfg.Cluster.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("read cluster secret: %w", err)
		}
		s, err := secret.Parse(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("read cluster secret %s: %w", cfg.Cluster.SecretFile, err)
		}
		return []secret.Secret{s}, nil
	case cfg.Cluster.TokenFile != "":
		token, err := readJoinToken(cfg)
		if err != nil {
			return nil, err
		}
		secrets, err := transport.FetchSecrets(ctx, token)
		if err != nil {
			return nil, fmt.Errorf("join with token: %w", err)
		}
		return secrets, nil
	default:
		return nil, nil
	}
}

func readJoinToken(cfg *config.Config) (secret.JoinToken, error) {
	text, err := os.ReadFile(cfg.Cluster.TokenFile)
	if err != nil {
		return secret.JoinToken{}, fmt.Errorf("read join token: %w", err)
	}
	token, err := secret.ParseJoinToken(strings.TrimSpace(string(text)))
	if err != nil {
		return secret.JoinToken{}, fmt.Errorf("read join token %s: %w", cfg.Cluster.TokenFile, err)
	}
	return token, nil
}

// warnOtherSecret tells an operator that a file has no effect any more.
func warnOtherSecret(ctx context.Context, cfg *config.Config, kept *secret.Keyring, log *slog.Logger) {
	if cfg.Cluster.SecretFile == "" {
		return
	}
	given, err := givenSecrets(ctx, cfg)
	if err != nil {
		log.Warn("the secret file has no effect: this server keeps its cluster's secret itself", "file", cfg.Cluster.SecretFile, "error", err)
		return
	}
	for _, s := range kept.Secrets() {
		if s.Equal(given[0]) {
			return
		}
	}
	log.Warn("the secret file holds another secret than this server's cluster has, and has no effect", "file", cfg.Cluster.SecretFile)
}

// listenNear listens on the port, or, when that was nobody's choice and another server of
// this machine has it, on any.
func listenNear(ctx context.Context, bind string, port, usual int, log *slog.Logger, what string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(bind, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) && port == usual {
		if ln, err = lc.Listen(ctx, "tcp", net.JoinHostPort(bind, "0")); err == nil {
			log.Warn("the "+what+" port is taken, another one is used", "port", port, "address", ln.Addr().String())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", what, port, err)
	}
	return ln, nil
}

// advertised returns the host at which other servers reach this one.
func advertised(cfg *config.Config) (string, error) {
	if a := cmp.Or(cfg.Cluster.Advertise, cfg.Bind); a != "" {
		if ip := net.ParseIP(a); ip == nil || !ip.IsUnspecified() {
			return a, nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find own address: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "127.0.0.1", nil
}

// gossipPort returns the port that gossip will listen on. Other nodes hear of it before
// it does.
func gossipPort(ctx context.Context, cfg *config.Config, log *slog.Logger) (string, error) {
	ln, err := listenNear(ctx, cfg.Bind, cfg.Cluster.GossipPort, config.DefaultGossipPort, log, "gossip")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, errors.Join(err, ln.Close())
}

// openGossip starts to gossip.
func (p *peers) openGossip(ctx context.Context, clusterID string, meta gossip.Meta) error {
	ip, err := resolve(ctx, p.host)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(p.gossips)
	if err != nil {
		return fmt.Errorf("open gossip: %w", err)
	}
	cfg := gossip.Config{
		NodeID: p.identity.ID, ClusterID: clusterID, Bind: cmp.Or(bindIP(p.Bind), "0.0.0.0"), Port: port,
		Advertise: ip, Keys: p.keyring.GossipKeys, KeysChanged: p.keyring.Changed, Meta: meta,
		Logger: p.log, Now: p.now, Registerer: p.registry,
	}
	pool, err := gossip.Open(cfg) //nolint:contextcheck // takes none
	if err != nil && p.Cluster.GossipPort != 0 && p.Cluster.GossipPort != config.DefaultGossipPort {
		return fmt.Errorf("open gossip: %w", err)
	}
	if err != nil { // somebody else was given the port since it was found free
		p.log.Warn("the gossip port is taken, another one is used", "port", port, "error", err)
		cfg.Port = 0
		if pool, err = gossip.Open(cfg); err != nil { //nolint:contextcheck // takes none
			return fmt.Errorf("open gossip: %w", err)
		}
		_, p.gossips, _ = net.SplitHostPort(pool.Addr().String())
	}
	p.gossip.Store(pool)
	return nil
}

// peerAddress and gossipAddress are where others reach this node.
func (p *peers) peerAddress() string {
	_, port, _ := net.SplitHostPort(p.port.Addr().String())
	return net.JoinHostPort(p.host, port)
}

func (p *peers) gossipAddress() string { return net.JoinHostPort(p.host, p.gossips) }

// meetAll joins the gossip of the nodes that are known, and goes on trying while none
// answers.
func (p *peers) meetAll(ctx context.Context, nodes func() []string) {
	for {
		if known := nodes(); len(known) > 0 {
			if n, err := p.gossip.Load().Join(ctx, known...); n > 0 || ctx.Err() != nil {
				return
			} else if err != nil {
				p.log.Warn("no node answers over gossip, trying again", "error", err)
			}
		}
		select {
		case <-time.After(gossipRetry):
		case <-ctx.Done():
			return
		}
	}
}

const gossipRetry = 5 * time.Second

func bindIP(bind string) string {
	if net.ParseIP(bind) != nil {
		return bind
	}
	return ""
}

func resolve(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil || len(ips) == 0 {
		return "", fmt.Errorf("find address of %s: %w", host, err)
	}
	return ips[0].IP.String(), nil
}

// close ends what openPeers began. Requests of other nodes that are under way finish, for
// a while.
func (p *peers) close(ctx context.Context) error {
	var errs []error
	if g := p.gossip.Load(); g != nil {
		errs = append(errs, g.Close())
	}
	if err := bounded(ctx, drainPeers, p.port.Shutdown); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func nodeName(cfg *config.Config) string {
	if cfg.Cluster.NodeName != "" {
		return cfg.Cluster.NodeName
	}
	name, err := os.Hostname()
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if err != nil || !api.ValidName(name) {
		return "node"
	}
	return name
}
