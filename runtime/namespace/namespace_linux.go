//go:build amd64 || arm64

package namespace

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/group"
	"github.com/tenement-fleet/tenement/runtime/driver/launch"
)

// Driver implements driver.Driver; Close frees the little that it holds.
type Driver struct {
	*group.Runner
	init *launch.Init
	// initErr is why there is no init; Probe and Start report it.
	initErr error
	user    bool // whether a user namespace is needed
}

var (
	_ driver.Driver = (*Driver)(nil)
	_ io.Closer     = (*Driver)(nil)
)

// New returns the driver. Whether it works on this machine is for Probe to say.
func New() (*Driver, error) {
	d := &Driver{user: !hasCapability(unix.CAP_SYS_ADMIN)}
	d.init, d.initErr = launch.NewInit()
	r, err := group.NewRunner(group.Config{Name: api.IsolationNamespace, Prepare: d.prepare, Init: true})
	if err != nil {
		return nil, fmt.Errorf("open namespace driver: %w", err)
	}
	d.Runner = r
	return d, nil
}

// Close frees what the driver holds; programs keep running.
func (d *Driver) Close() error {
	if d.init == nil {
		return nil
	}
	return d.init.Close()
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, spec driver.Spec) (driver.Process, error) {
	p, err := d.Runner.Start(ctx, spec)
	if err != nil {
		return nil, d.explain(err)
	}
	return p, nil
}

// Probe implements driver.Driver: it makes a process with everything that an instance
// gets, except for the program.
func (d *Driver) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.initErr != nil {
		return unsupported(d.initErr, "")
	}
	if err := launch.Try(d.flags(), d.steps(), d.init); err != nil {
		return d.explain(err)
	}
	return nil
}

func (d *Driver) prepare(spec driver.Spec, cfg *launch.Config) error {
	if d.initErr != nil {
		return unsupported(d.initErr, "")
	}
	cfg.Namespaces = d.flags()
	cfg.Setup = d.steps()
	cfg.Init = d.init
	cfg.InitArgs = []string{"ten: " + spec.Ref.String()}
	cfg.InitEnv = []string{driver.EnvStart + "=" + spec.Start}
	return nil
}

func (d *Driver) flags() uintptr {
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if d.user {
		flags |= unix.CLONE_NEWUSER
	}
	return flags
}

// The names of steps that explain looks for.
const (
	stepMapUser   = "map the user"
	stepPropagate = "make mounts private"
	stepProc      = "mount /proc"
)

func (d *Driver) steps() []launch.Step {
	var steps []launch.Step
	if d.user {
		uid, gid := os.Geteuid(), os.Getegid()
		steps = append(steps,
			// The kernel wants this before an ordinary user may map a group.
			launch.WriteFile(stepMapUser, "/proc/self/setgroups", "deny"),
			launch.WriteFile(stepMapUser, "/proc/self/uid_map", fmt.Sprintf("%d %d 1\n", uid, uid)),
			launch.WriteFile(stepMapUser, "/proc/self/gid_map", fmt.Sprintf("%d %d 1\n", gid, gid)),
		)
	}
	return append(steps,
		launch.Mount(stepPropagate, "", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		launch.Mount(stepProc, "proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
	)
}

// hasCapability reports whether this process may use a capability.
func hasCapability(c uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}
