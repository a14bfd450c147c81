// Command ten is tenement's one binary: the server (ten serve) and the client commands
// that steer it.
//
// Every command is built by a method of [app], which holds all that a command needs from
// its surroundings: flags, streams, terminal, environment, clock. Only main and app print
// and exit. What needs Linux comes in through [hooks]. Started by Terraform, it is the
// provider and nothing else.
package main

import (
	"context"
	"os"

	"github.com/tenement-fleet/tenement/provider"
	"github.com/tenement-fleet/tenement/server/config"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	if provider.Started(os.Args, os.Getenv) {
		return provider.Main(version, config.Parse)
	}
	if code, is := guard(os.Args); is {
		return code
	}
	ctx, stop := signalContext(context.Background())
	defer stop()
	return newApp(platformHooks()).execute(ctx, os.Args[1:])
}
