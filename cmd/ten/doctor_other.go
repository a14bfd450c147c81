//go:build !linux

package main

import (
	"context"
	"runtime"

	"github.com/tenement-fleet/tenement/api"
)

// examineMachine knows that a server does not run here.
func (a *app) examineMachine(context.Context, int) []api.Capability {
	return []api.Capability{needed(lacking("Linux", "run 'ten serve' on Linux; the other commands reach it from here with --server", "this is %s", runtime.GOOS))}
}
