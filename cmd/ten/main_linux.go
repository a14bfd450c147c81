package main

import (
	"context"
	"log/slog"
	"os"

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
			cfg, err := config.Load(configOptions(o))
			if err != nil {
				return nil, nil, err
			}
			return cfg.Render(), cfg, nil
		},
	}
}

func configOptions(o serveOptions) config.Options {
	return config.Options{
		File: o.Config, Env: os.Environ(), Root: os.Geteuid() == 0,
		Flags: config.Flags{
			DataDir: o.DataDir, Port: o.Port, Domain: o.Domain,
			TLS: o.TLS, Email: o.Email, Staging: o.Staging,
		},
	}
}

// serve runs the server; its log goes to standard error, as text on a terminal and as
// JSON elsewhere. Ctrl-C ends the programs too, any other signal leaves them running.
func serve(ctx context.Context, o serveOptions) error {
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
	return server.Run(run, server.Options{
		Load:    func() (*config.Config, error) { return config.Load(configOptions(o)) },
		Version: o.Version, Logger: log, Out: os.Stdout,
	})
}
