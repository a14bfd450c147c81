package server

import (
	"context"
	"log/slog"
	"os"

	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/fence"
)

// Guard is the life of a process that was started to end what outlives its node's lease;
// is tells whether the one with these arguments was.
func Guard(args []string) (code int, is bool) {
	if !fence.IsGuard(args) {
		return 0, false
	}
	return fence.Guard(args, newKiller), true
}

// newKiller returns what a guard kills by. Its argument is the directory of the records
// of what runs.
func newKiller(args []string) (fence.Killer, error) {
	drivers, err := newDrivers()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	return func(ctx context.Context, expired func() bool) (int, error) {
		return agent.KillFenced(ctx, args[0], agent.BootID(), drivers, expired, log)
	}, nil
}
