package fence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guardName is what a guard is called in lists of processes, and how it is told what it is.
const guardName = "ten: guard of leases"

const (
	// socketFD is the guard's end of the socket to the ten that started it.
	socketFD = 3
	// again is how often it is looked for what runs without a lease.
	again = 500 * time.Millisecond
)

// Killer ends what must not run without a lease. It returns how many still run, as far as
// it knows. It kills nothing that was started after expired has last returned false, which
// it calls before each kill.
type Killer func(ctx context.Context, expired func() bool) (left int, err error)

// IsGuard reports whether a process with these arguments was started as a guard.
func IsGuard(args []string) bool { return len(args) > 0 && args[0] == guardName }

// Guard is the whole life of the process that was started with these arguments; it returns
// the exit code. What it kills by gets the rest of them, those of [Config].
func Guard(args []string, killer func(args []string) (Killer, error)) int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE) // those are ten's
	if len(args) < 4 {
		return 2
	}
	g := guard{boot: args[2], name: args[3]}
	err := g.open(args[1])
	if err == nil {
		g.kill, err = killer(args[4:])
	}
	if err == nil {
		err = g.report()
	}
	if err == nil {
		err = g.run()
	}
	if err != nil {
		g.log("%v", err)
		return 1
	}
	return 0
}

type guard struct {
	boot, name string
	file       *os.File
	kill       Killer
	told       string // what was logged last
}

func (g *guard) open(path string) (err error) {
	// It is the last to go when memory runs out, if that may be.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	g.file, err = os.Open(path) //nolint:gosec // ten says which
	return err
}

// report tells ten that this guard is there, and returns once the file names it.
func (g *guard) report() error {
	if _, err := unix.Write(socketFD, []byte{1}); err != nil {
		return fmt.Errorf("tell ten: %w", err)
	}
	var b [1]byte
	for {
		n, err := unix.Read(socketFD, b[:])
		switch {
		case n == 1:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			fds := []unix.PollFd{{Fd: socketFD, Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, -1) // the next read tells
		default:
			return errors.Join(errors.New("ten has ended"), err)
		}
	}
}

// run returns when there is nothing to guard any more.
func (g *guard) run() error {
	for {
		l, err := readLease(g.file)
		switch {
		case err != nil && !errors.Is(err, errTorn):
			return err
		case err == nil && l.Guard != g.name, deleted(g.file):
			return nil // another one has taken over, or all is gone
		case err == nil && !l.expired(g.boot, Now()):
			sleepUntil(l.End)
			continue
		}
		left, err := g.kill(context.Background(), g.expired)
		if err != nil {
			g.log("end programs whose lease has ended: %v", err)
		}
		if left == 0 && err == nil && tenIsGone() {
			return nil
		}
		// A ten that hung, and goes on, may be about to start one still.
		time.Sleep(again)
	}
}

// expired reports whether what runs must not: nobody has replaced this guard or given it
// more time.
func (g *guard) expired() bool {
	l, err := readLease(g.file)
	return errors.Is(err, errTorn) || err == nil && l.Guard == g.name && l.expired(g.boot, Now())
}

// log prints a line once.
func (g *guard) log(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	if text != g.told {
		g.told = text
		fmt.Fprintf(os.Stderr, "%s guard of leases: %s\n", time.Now().UTC().Format(time.RFC3339), text)
	}
}

// tenIsGone reports whether the ten that started this guard has ended, or let go of it.
func tenIsGone() bool {
	fds := []unix.PollFd{{Fd: socketFD}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
