package fence

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain is also the guard of the tests: it says what it kills in a file.
func TestMain(m *testing.M) {
	if IsGuard(os.Args) {
		os.Exit(Guard(os.Args, func(args []string) (Killer, error) {
			if args[0] == "broken" {
				return nil, errors.New("told to fail")
			}
			return func(_ context.Context, expired func() bool) (int, error) {
				if !expired() {
					return 0, nil
				}
				return 0, os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0o600)
			}, nil
		}))
	}
	goleak.VerifyTestMain(m)
}

const boot = "this-boot"

type world struct{ dir, killed string }

func (w world) open(t *testing.T) *Fence {
	t.Helper()
	f, err := Open(Config{
		Path: filepath.Join(w.dir, "lease"), LogPath: filepath.Join(w.dir, "log"), BootID: boot,
		Program: "/proc/self/exe", Args: []string{w.killed}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.Rest() // ends the guard; closed already it has none
		_ = f.Close()
	})
	return f
}

func newWorld(t *testing.T) world {
	dir := t.TempDir()
	return world{dir, filepath.Join(dir, "killed")}
}

// kills waits until a guard has killed, and returns its pid.
func (w world) kills(t *testing.T) (pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(w.killed)
		if pid, _ = strconv.Atoi(string(b)); err == nil && pid > 0 {
			return pid
		}
	}
	t.Fatal("no guard has killed")
	return 0
}

func (w world) spared(t *testing.T, until time.Duration) {
	t.Helper()
	if _, err := os.Stat(w.killed); err == nil && Now() < until {
		t.Error("a guard has killed before the end")
	}
}

// gone waits until a process that is no child of this one any more has ended.
func gone(t *testing.T, fd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(time.Minute); ; {
		if n, err := unix.Poll(fds, 1000); n == 1 {
			break
		} else if err != nil && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			t.Fatalf("the guard has not ended: %v", err)
		}
	}
	_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil)
	_ = unix.Close(fd)
}

func pidfd(t *testing.T, f *Fence) int {
	t.Helper()
	fd, err := unix.PidfdOpen(f.child.process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestGuard: the guard kills when the lease has ended, not before, however often that was
// put off; also when nobody is there any more who could have put it off.
func TestGuard(t *testing.T) {
	for _, alone := range []bool{false, true} {
		w := newWorld(t)
		f := w.open(t)
		var end time.Duration
		for range 3 {
			end = Now() + 3*time.Second
			if err := f.Extend(end); err != nil {
				t.Fatal(err)
			}
		}
		w.spared(t, end)
		end = Now() + time.Second
		if err := f.Extend(end); err != nil { // the guard sees that only when it looks again
			t.Fatal(err)
		}
		guard, pid := pidfd(t, f), f.child.process.Pid
		if alone {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if by := w.kills(t); by != pid || Now() < end {
			t.Errorf("killed by %d, want %d; %s after the end", by, pid, Now()-end)
		}
		if alone {
			gone(t, guard) // it has nothing to do any more
			continue
		}
		_ = unix.Close(guard)
		if err := f.Extend(Now() + time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTakeOver: the next ten's guard takes the place of the one before, which kills
// nothing any more; the end on file is what it was.
func TestTakeOver(t *testing.T) {
	w := newWorld(t)
	one := w.open(t)
	end := Now() + 2*time.Second
	if err := one.Extend(end); err != nil {
		t.Fatal(err)
	}
	first := pidfd(t, one)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two := w.open(t)
	if err := two.Watch(); err != nil {
		t.Fatal(err)
	}
	if two.lease.End != end {
		t.Errorf("the end has become %s, want %s", two.lease.End, end)
	}
	second := two.child.process.Pid
	gone(t, first)
	if by := w.kills(t); by != second || Now() < end {
		t.Errorf("killed by %d, want %d", by, second)
	}
}

// TestRest: without anything to guard nothing is killed, not by the guard of an earlier
// ten either.
func TestRest(t *testing.T) {
	w := newWorld(t)
	one := w.open(t)
	if err := one.Extend(Now() + time.Second); err != nil {
		t.Fatal(err)
	}
	first := pidfd(t, one)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two := w.open(t)
	if err := two.Rest(); err != nil {
		t.Fatal(err)
	}
	gone(t, first)
	w.spared(t, math.MaxInt64)
}

// TestNoLeaseOfAnotherBoot: what is found running without a lease of this boot has none.
func TestNoLeaseOfAnotherBoot(t *testing.T) {
	for _, left := range []string{"", "torn", Lease{BootID: "another", End: 1 << 62}.text(t)} {
		w := newWorld(t)
		if err := os.WriteFile(filepath.Join(w.dir, "lease"), []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		f := w.open(t)
		if err := f.Watch(); err != nil {
			t.Fatal(err)
		}
		w.kills(t)
	}
}

func (l Lease) text(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lease")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := l.write(f); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestGuardIsReplaced: a guard that was killed is noticed, and the next Extend starts
// another one.
func TestGuardIsReplaced(t *testing.T) {
	w := newWorld(t)
	f := w.open(t)
	if err := f.Extend(Now() + time.Hour); err != nil {
		t.Fatal(err)
	}
	old := f.child.process.Pid
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for alive := true; alive; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		alive = f.child != nil
		f.mu.Unlock()
	}
	end := Now()
	if err := f.Extend(end); err != nil {
		t.Fatal(err)
	}
	if by := w.kills(t); by == old {
		t.Error("no other guard was started")
	}
}

// TestNoGuard: when no guard can be started the lease is not put off, and the guard before
// goes on.
func TestNoGuard(t *testing.T) {
	w := newWorld(t)
	one := w.open(t)
	end := Now() + time.Second
	if err := one.Extend(end); err != nil {
		t.Fatal(err)
	}
	pid, first := one.child.process.Pid, pidfd(t, one)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	bad := world{w.dir, "broken"}.open(t)
	if err := bad.Extend(Now() + time.Hour); err == nil {
		t.Error("no error")
	}
	if b, err := os.ReadFile(filepath.Join(w.dir, "log")); err != nil || !strings.Contains(string(b), "told to fail") {
		t.Errorf("the log says %q, %v", b, err)
	}
	if by := w.kills(t); by != pid {
		t.Errorf("killed by %d, want %d", by, pid)
	}
	gone(t, first)
}
