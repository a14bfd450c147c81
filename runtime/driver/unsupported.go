package driver

import (
	"context"
	"fmt"
	"runtime"

	"github.com/tenement-fleet/tenement/api"
)

// Unsupported returns a driver for a level that this build of ten lacks: every method
// but Name fails with ErrUnsupported.
func Unsupported(name api.Isolation) Driver { return unsupported(name) }

type unsupported api.Isolation

func (u unsupported) Name() api.Isolation { return api.Isolation(u) }

func (u unsupported) Probe(context.Context) error {
	return fmt.Errorf("isolation %q needs Linux on amd64 or arm64, this is %s on %s: %w",
		string(u), runtime.GOOS, runtime.GOARCH, ErrUnsupported)
}

func (u unsupported) Start(ctx context.Context, _ Spec) (Process, error) { return nil, u.Probe(ctx) }

func (u unsupported) Recover(ctx context.Context, _ Handle) (Process, error) {
	return nil, u.Probe(ctx)
}

func (u unsupported) FindStart(ctx context.Context, _ string) (Handle, error) {
	return Handle{}, u.Probe(ctx)
}
