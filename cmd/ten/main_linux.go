package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/telemetry"
)

func platformHooks() hooks {
	return hooks{
		Serve: serve,
		DataDir: func(file string) (string, error) {
			return config.DataDir(configOptions(serveOptions{Config: file}))
		},
		Capabilities: server.Capabilities,
		Sample:       config.Sample,
		Config: func(o serveOptions) ([]byte, any, error) {
			cfg, err := load(o)
			if err != nil {
				return nil, nil, err
			}
			cfg = cfg.Redacted()
			text := cfg.Render()
			if cfg.File != "" {
				text = append([]byte("# "+cfg.File+"\n"), text...)
			}
			return text, cfg, nil
		},
		Secret:    secretOf,
		NewSecret: server.NewSecret,
		LongToken: server.LongToken,
		Recover:   recoverServer,
		InspectSnapshot: func(r io.Reader) (*snapshotInfo, error) {
			s, err := server.InspectSnapshot(r)
			return &snapshotInfo{
				Version: s.Version, ClusterID: s.ClusterID, Index: s.Index, Node: s.Node, CreatedAt: s.CreatedAt,
				Services: s.Services, Instances: s.Instances, Fleets: s.Fleets, Nodes: s.Nodes, Tokens: s.Tokens,
			}, err
		},
	}
}

// guard is the life of a process of this program that is no command: see server.Guard.
func guard(args []string) (code int, is bool) { return server.Guard(args) }

// secretOf reads the secret of the server with this data directory: the first, if it has
// two while one is being replaced.
func secretOf(dataDir string) (string, error) {
	b, err := os.ReadFile(server.SecretPath(dataDir))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if first == "" {
		return "", fmt.Errorf("read secret: %s is empty", server.SecretPath(dataDir))
	}
	return first, nil
}

// recoverServer makes the stopped server with this data directory its cluster's only
// member, or says what that would do.
func recoverServer(dataDir string, preview bool) (*recovery, error) {
	log, err := telemetry.NewLogger(os.Stderr, telemetry.FormatAuto, slog.LevelWarn)
	if err != nil {
		return nil, err
	}
	r, err := server.RecoverPreview(dataDir)
	if err == nil && !preview {
		r, err = server.Recover(dataDir, log)
	}
	if err != nil {
		return nil, err
	}
	out := &recovery{Node: r.Node, ClusterID: r.ClusterID, Index: r.Index, Backup: r.Backup, Members: []recoveryMember{}}
	for _, m := range r.Before {
		after := "gone"
		if m.ID == r.Node {
			after = "votes"
		}
		out.Members = append(out.Members, recoveryMember{ID: m.ID, Address: m.Address, Voter: m.Voter, After: after})
	}
	return out, nil
}

func configOptions(o serveOptions) config.Options {
	return config.Options{
		File: o.Config, Env: os.Environ(), Root: os.Geteuid() == 0,
		Flags: config.Flags{
			DataDir: o.DataDir, Bind: o.Bind, Port: o.Port, Domain: o.Domain,
			TLS: o.TLS, Email: o.Email, Staging: o.Staging, TLSPort: o.TLSPort, TLSNames: o.TLSNames,
			Join: o.Join, SecretFile: o.SecretFile, TokenFile: o.TokenFile, BootstrapExpect: o.BootstrapExpect,
			NodeName: o.NodeName, PeerPort: o.PeerPort, GossipPort: o.GossipPort, Advertise: o.Advertise,
		},
	}
}

func load(o serveOptions) (*config.Config, error) {
	cfg, err := config.Load(configOptions(o))
	if err != nil {
		return nil, &inputError{err}
	}
	return cfg, nil
}

// serve runs the server; its log goes to standard error, as text on a terminal and as
// JSON elsewhere. Ctrl-C ends the programs too, any other signal leaves them running.
func serve(ctx context.Context, o serveOptions, tell func(serving)) error {
	log, err := telemetry.NewLogger(os.Stderr, telemetry.FormatAuto, slog.LevelInfo)
	if err != nil {
		return err
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if signalOf(ctx) == os.Interrupt {
			cause = server.ErrInterrupted
		}
		cancel(cause)
	})
	defer stop()
	var cfg *config.Config
	options := server.Options{
		Load:    func() (_ *config.Config, err error) { cfg, err = load(o); return cfg, err },
		Version: o.Version, Logger: log, Out: os.Stdout, Now: clock(),
		Guard: "/proc/self/exe",
	}
	// One that replaces another is none of the terminal's: Ctrl-C does not reach it.
	if tell != nil && os.Getenv("TENEMENT_HANDOVER") == "" {
		options.Serving = func(at net.Addr) { tell(servingOf(cfg, at)) }
	}
	return server.Run(run, options)
}

// servingOf sums up what a server with this configuration serves.
func servingOf(cfg *config.Config, at net.Addr) serving {
	s := serving{
		File: cfg.File, DataDir: cfg.DataDir, Near: cfg.DataDir, Program: "ten", Domain: cfg.Domain, Port: cfg.Port,
		Services: cfg.Services, Instances: cfg.Instances, Routes: map[string]string{},
	}
	if strings.ContainsRune(os.Args[0], filepath.Separator) {
		s.Program = os.Args[0]
	}
	if wd, err := os.Getwd(); err == nil && !filepath.IsAbs(s.Program) {
		if rel, err := filepath.Rel(wd, s.DataDir); err == nil && filepath.IsLocal(rel) {
			s.Near = rel
		}
	}
	if tcp, ok := at.(*net.TCPAddr); ok {
		s.Port = tcp.Port
	}
	if cfg.Routing.Default != "" {
		s.Routes[cfg.Domain] = cfg.Routing.Default
	}
	for name, service := range cfg.Routing.Subdomain {
		s.Routes[name+"."+cfg.Domain] = service
	}
	for path, service := range cfg.Routing.Path {
		s.Routes[cfg.Domain+"/"+strings.Trim(strings.TrimSuffix(path, "*"), "/")+"/"] = service
	}
	return s
}
