//go:build amd64 || arm64

package group

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/launch"
)

// Config is what distinguishes one driver from another.
type Config struct {
	Name api.Isolation
	// Prepare, if set, adds namespaces, steps and an init to what a plain process gets.
	Prepare func(driver.Spec, *launch.Config) error
	// Init says that Prepare sets an init.
	Init bool

	perMember bool // see process
}

// Runner implements the part of driver.Driver that its drivers share.
type Runner struct {
	cfg    Config
	bootID string
}

// NewRunner returns a Runner.
func NewRunner(cfg Config) (*Runner, error) {
	id, err := readBootID()
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, bootID: id}, nil
}

// Name implements driver.Driver.
func (r *Runner) Name() api.Isolation { return r.cfg.Name }

// Start implements driver.Driver.
func (r *Runner) Start(ctx context.Context, spec driver.Spec) (driver.Process, error) {
	p, err := r.start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Ref, err)
	}
	return p, nil
}

func (r *Runner) start(ctx context.Context, spec driver.Spec) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(spec.Path) {
		return nil, fmt.Errorf("execute %q: not an absolute path", spec.Path)
	}
	cfg := launch.Config{
		Path: spec.Path, Args: spec.Args, Dir: spec.Dir,
		Env:    append(slices.Clip(spec.Env), driver.EnvStart+"="+spec.Start),
		Stdout: spec.Stdout, Stderr: spec.Stderr,
	}
	if r.cfg.Prepare != nil {
		if err := r.cfg.Prepare(spec, &cfg); err != nil {
			return nil, err
		}
	}
	child, err := launch.Start(cfg)
	if err != nil {
		return nil, err
	}
	// Nobody but this function reaps the child, so its pid is its own, even if it has ended.
	s, err := readStat(child.PID)
	if err != nil {
		abandon(child)
		return nil, err
	}
	return watched(&process{
		handle: driver.Handle{
			Driver: r.cfg.Name, PID: child.PID, StartTime: s.start, BootID: r.bootID, Start: spec.Start,
		},
		child: true, viaInit: r.cfg.Init, perMember: r.cfg.perMember,
	}, child.PIDFD)
}

// abandon ends a child that can't be looked after.
func abandon(c launch.Child) {
	_ = unix.Kill(-c.PID, unix.SIGKILL)
	_, _ = syscall.Wait4(c.PID, nil, 0, nil)
	_ = unix.Close(c.PIDFD)
}

// Recover implements driver.Driver.
func (r *Runner) Recover(ctx context.Context, h driver.Handle) (driver.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("recover process %d: %w", h.PID, err)
	}
	if h.Driver != r.cfg.Name {
		return nil, fmt.Errorf("recover process %d: it runs under %q, not %q", h.PID, h.Driver, r.cfg.Name)
	}
	if h.BootID != r.bootID || h.PID <= 0 {
		return nil, driver.ErrGone
	}
	// First the pidfd, then the look at what it names: from then on nothing can be reused.
	pidfd, err := unix.PidfdOpen(h.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: the id of a thread now
		sweep(h)
		return nil, driver.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("recover process %d: open pidfd: %w", h.PID, err)
	}
	p := &process{handle: h, child: isChild(pidfd), viaInit: r.cfg.Init, perMember: r.cfg.perMember}
	switch s, err := readStat(h.PID); {
	// A first thread that has ended says nothing of the others: the pidfd knows.
	case err != nil || s.ended() && ended(pidfd):
		if err == nil && s.start == h.StartTime && p.child {
			_, _ = syscall.Wait4(h.PID, nil, syscall.WNOHANG, nil) // ended after a Release
		}
		_ = unix.Close(pidfd)
		sweep(h)
		return nil, driver.ErrGone
	case s.start != h.StartTime:
		// Another process has that pid now, so nobody was left in the group of that name.
		_ = unix.Close(pidfd)
		return nil, driver.ErrGone
	}
	w, err := watched(p, pidfd)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// isChild reports whether a process is one of ours to reap.
func isChild(pidfd int) bool {
	return unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil
}

// sweep kills what is left of the group of a leader that ended while no ten watched it:
// the processes of that group that carry its start in their environment, and no others.
func sweep(h driver.Handle) {
	if h.Start != "" {
		h.StartTime = 0 // no leader vouches for anybody
		_ = signalMembers(h, unix.SIGKILL)
	}
}

// FindStart implements driver.Driver.
func (r *Runner) FindStart(ctx context.Context, start string) (driver.Handle, error) {
	found := driver.Handle{Driver: r.cfg.Name, BootID: r.bootID, Start: start}
	orphan := 0
	for pid := range processes() {
		if err := ctx.Err(); err != nil {
			return driver.Handle{}, fmt.Errorf("find start %s: %w", start, err)
		}
		if !hasStart(pid, start) {
			continue
		}
		s, err := readStat(pid)
		switch {
		case err != nil:
		case s.group != pid:
			orphan = s.group
		case s.session != pid && (found.PID == 0 || s.start < found.StartTime):
			// The leader of a group can't have made itself a session, as a daemon that it
			// left behind has; and it is older than any group made by its own children.
			found.PID, found.StartTime = pid, s.start
		}
	}
	if found.PID == 0 {
		found.PID = orphan
	}
	if found.PID == 0 {
		return driver.Handle{}, driver.ErrGone
	}
	return found, nil
}
