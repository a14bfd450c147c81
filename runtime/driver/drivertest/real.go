//go:build linux

package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/launch/nofile"
)

// Inspect starts the program "report" and returns what it saw.
func Inspect(t *testing.T, d driver.Driver, change func(*driver.Spec)) Report {
	t.Helper()
	var s suite
	spec := s.spec(t, "report")
	if change != nil {
		change(&spec)
	}
	r, w := pipe(t)
	errs, werr := pipe(t)
	spec.Stdout, spec.Stderr = w, werr
	p, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	_ = w.Close()
	_ = werr.Close()
	defer finish(t, p)
	var report Report
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		t.Errorf("read report: %v", err)
	}
	if b, err := io.ReadAll(errs); err != nil || string(b) != "done\n" {
		t.Errorf("stderr = %q, %v", b, err)
	}
	wantExit(t, p, code(0))
	return report
}

func (s suite) report(t *testing.T) {
	// A descriptor that somebody forgot to mark close-on-exec.
	leak, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(leak) }()
	dir := t.TempDir()
	env := []string{EnvProgram + "=report", "A=1", "EMPTY=", "Ü=\xff=\n"}
	var start string
	got := Inspect(t, s.Open(t), func(spec *driver.Spec) {
		spec.Args, spec.Env, spec.Dir, start = []string{"-x", "", "ä b"}, env, dir, spec.Start
	})
	self, _ := os.Executable()
	if want := []string{self, "-x", "", "ä b"}; !slices.Equal(got.Args, want) {
		t.Errorf("args = %q, want %q", got.Args, want)
	}
	// JSON does not keep the invalid byte.
	want := []string{env[0], env[1], env[2], "Ü=\ufffd=\n", driver.EnvStart + "=" + start}
	if slices.Sort(got.Env); !slices.Equal(got.Env, slices.Sorted(slices.Values(want))) {
		t.Errorf("env = %q, want %q", got.Env, want)
	}
	if got.Dir != dir {
		t.Errorf("dir = %q, want %q", got.Dir, dir)
	}
	fds := slices.Sorted(maps.Keys(got.Descriptors))
	// The fourth is the directory that the program reads to find out.
	fds = slices.DeleteFunc(fds, func(fd string) bool { return strings.HasPrefix(got.Descriptors[fd], "/proc/") })
	if !slices.Equal(fds, []string{"0", "1", "2"}) || got.Descriptors["0"] != os.DevNull {
		t.Errorf("descriptors = %v", got.Descriptors)
	}
	// Two Go runtimes, this one's and the program's, raise the limit in the same way.
	if limit, ok := nofile.Original(); ok && got.OpenFiles != limit.Hard-1 && got.OpenFiles != limit.Hard {
		t.Errorf("open files = %d, started with %+v", got.OpenFiles, limit)
	}
	for _, mask := range []string{"SigBlk", "SigIgn"} {
		if !strings.Contains(got.Status, mask+":\t0000000000000000") {
			t.Errorf("%s is not empty in\n%s", mask, got.Status)
		}
	}
}

func (s suite) nullStreams(t *testing.T) {
	p, err := s.Open(t).Start(t.Context(), s.spec(t, "report"))
	if err != nil {
		t.Fatal(err)
	}
	defer finish(t, p)
	wantExit(t, p, code(0))
}

func (s suite) startErrors(t *testing.T) {
	d, dir := s.Open(t), t.TempDir()
	file := func(name, content string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		name, path, dir string
		is              error
		says            string
	}{
		{"missing file", missing, dir, fs.ErrNotExist, missing},
		{"missing directory", file("ok", "#!/bin/true\n", 0o700), missing, fs.ErrNotExist, "working directory " + missing},
		{"directory is a file", file("ok", "#!/bin/true\n", 0o700), file("f", "", 0o600), syscall.ENOTDIR, filepath.Join(dir, "f")},
		{"not executable", file("plain", "#!/bin/true\n", 0o600), dir, fs.ErrPermission, "not executable (mode 0600)"},
		{"directory", dir, dir, fs.ErrPermission, "it is a directory"},
		{"no interpreter", file("script", "#!/no/such/interpreter -x\n", 0o700), dir, fs.ErrNotExist, "interpreter /no/such/interpreter is missing"},
		{"no format", file("text", "hello\n", 0o700), dir, syscall.ENOEXEC, "neither a program for this machine nor a script"},
		{"empty", file("empty", "", 0o700), dir, syscall.ENOEXEC, filepath.Join(dir, "empty")},
		{"relative", "bin/true", dir, nil, `"bin/true": not an absolute path`},
		{"NUL", dir + "/a\x00b", dir, syscall.EINVAL, "NUL byte"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			spec := s.spec(t, "exit 0")
			spec.Path, spec.Dir = c.path, c.dir
			fds := descriptors(t)
			_, err := d.Start(t.Context(), spec)
			if err == nil {
				t.Fatal("Start succeeded")
			}
			t.Log(err)
			if c.is != nil && !errors.Is(err, c.is) || errors.Is(err, driver.ErrUnsupported) {
				t.Errorf("Start = %v, want %v", err, c.is)
			}
			for _, text := range []string{spec.Ref.String(), c.says} {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("Start = %q, want it to say %q", err, text)
				}
			}
			if got := descriptors(t); got != fds || children() {
				t.Errorf("left behind: %d descriptors (%d before), children %t", got, fds, children())
			}
		})
	}
}

// groupEnds: the leader ends by itself, its stubborn offspring goes with it.
func (s suite) groupEnds(t *testing.T) {
	p := s.start(t, s.Open(t), "family 6")
	s.ready(t, p)
	wantNil(t, "Terminate", p.Terminate())
	wantExit(t, p, code(6))
	p.allGone(t)
}

func (s suite) groupKilled(t *testing.T) {
	p := s.start(t, s.Open(t), "family 6")
	s.ready(t, p)
	wantNil(t, "Kill", p.Kill())
	wantExit(t, p, killedBy(syscall.SIGKILL))
	p.allGone(t)
}

// wantExitIfKnown is wantExit for a process that is nobody's child here: its exit is
// known on newer kernels only.
func wantExitIfKnown(t *testing.T, p driver.Process, want driver.Exit) {
	t.Helper()
	if got := waitDone(t, p); got.Known && got != want {
		t.Errorf("Exit = %+v, want %+v", got, want)
	} else if !got.Known {
		t.Logf("the kernel does not tell how an adopted process ended")
	}
}

func (s suite) recoverAfterKill(t *testing.T) {
	h, out := s.predecessor(t, "family 8")
	d := s.Open(t)
	found, err := d.FindStart(t.Context(), h.Start)
	if err != nil || found != h {
		t.Errorf("FindStart = %+v, %v, want %+v", found, err, h)
	}
	p := s.recover(t, d, h)
	wantRunning(t, p)
	// It ends by other hands than ours.
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantExitIfKnown(t, p, killedBy(syscall.SIGKILL))
	out.allGone(t)
	_, err = d.Recover(t.Context(), h)
	wantGone(t, "Recover again", err)
}

func (s suite) terminateRecovered(t *testing.T) {
	h, out := s.predecessor(t, "family 8")
	p := s.recover(t, s.Open(t), h)
	wantNil(t, "Terminate", p.Terminate())
	wantExitIfKnown(t, p, code(8))
	wantNil(t, "Kill after the end", p.Kill())
	out.allGone(t)
}

// leftovers: the leader ended while no ten watched; the next ten ends what it left.
func (s suite) leftovers(t *testing.T) {
	h, out := s.predecessor(t, "family 8")
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	awaitZombie(ctx, t, h.PID)
	d := s.Open(t)
	if found, err := d.FindStart(ctx, h.Start); err == nil {
		_, err = d.Recover(ctx, found)
		wantGone(t, "Recover of a group without leader", err)
	} else {
		wantGone(t, "FindStart", err)
	}
	_, err := d.Recover(ctx, h)
	wantGone(t, "Recover of an ended leader", err)
	out.allGone(t)
}

// awaitZombie waits until a process has ended, reaped or not.
func awaitZombie(ctx context.Context, t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	deadline, _ := ctx.Deadline()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(time.Until(deadline).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Fatal(fmt.Errorf("process %d did not end: %w", pid, err))
		}
		return
	}
}
