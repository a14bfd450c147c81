//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver/launch/nofile"
	"github.com/tenement-fleet/tenement/runtime/tiny"
)

// role is the environment variable that makes the test binary one of the programs below.
const role = "LAUNCH_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
		return
	case "limit":
		limit, ok := nofile.Original()
		fmt.Println(limit, ok)
	case "start limit":
		startInherited("limit", os.Stdout, os.Stderr)
	case "print":
		fmt.Print("out")
		fmt.Fprint(os.Stderr, "err")
	case "swap":
		startInherited("print", os.Stderr, os.Stdout)
	case "status":
		status, err := os.ReadFile("/proc/self/status")
		fmt.Println(string(status), err)
	}
	syscall.Exit(0) // without the messages that coverage counters add
}

// startInherited starts another role with streams of its own choice and waits for it.
func startInherited(r string, stdout, stderr *os.File) {
	cfg := self(r)
	cfg.Stdout, cfg.Stderr = stdout, stderr
	child, err := Start(cfg)
	if err == nil {
		err = reap(child.PID)
	}
	if err != nil {
		fmt.Println(err)
		syscall.Exit(1)
	}
}

func self(r string) Config {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Config{Path: path, Env: []string{role + "=" + r}, Dir: "/"}
}

// output starts a program and returns what it printed, once it has ended with code 0.
func output(t *testing.T, cfg Config) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cfg.Stdout, cfg.Stderr = w, w
	child, err := Start(cfg)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(child.PIDFD)
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := reap(child.PID); err != nil {
		t.Errorf("%s: %v", cfg.Path, err)
	}
	return string(b)
}

func TestConfine(t *testing.T) {
	cfg := self("status")
	cfg.Confine = []Step{{}, Syscall("give up new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)}
	if got := output(t, cfg); !strings.Contains(got, "NoNewPrivs:\t1") {
		t.Errorf("status = %s", got)
	}
}

func TestStepErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("....."), 0o600); err != nil {
		t.Fatal(err)
	}
	ok := WriteFile("write", file, "12")
	for _, c := range []struct {
		name  string
		steps []Step
		want  string
		is    error
	}{
		{"none", nil, "", nil},
		{"zero", []Step{{}, ok, {}}, "", nil},
		{"second", []Step{ok, Syscall("leave the root", unix.SYS_CHDIR, 1), ok}, "leave the root: bad address", unix.EFAULT},
		{"open", []Step{WriteFile("write nothing", file+"/x", "1")}, "write nothing: not a directory", unix.ENOTDIR},
		{"mount", []Step{Mount("mount nothing", "none", "/proc", "nonesuch", 0, "")}, "mount nothing: no such device", unix.ENODEV},
		{"NUL", []Step{Mount("mount", "a\x00", "b", "c", 0, "")}, `mount: "a\x00" holds a NUL byte: invalid argument`, unix.EINVAL},
		{
			"killed",
			[]Step{Syscall("end too early", unix.SYS_EXIT_GROUP, 5), ok},
			"end too early: killed on the way: exit code 5", nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "mount" && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			err := Try(0, c.steps, nil)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || err.Error() != c.want || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Try = %v, want %v", err, c.want)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "12..." {
		t.Errorf("file holds %q, %v", b, err)
	}
}

func TestNamespacesRefused(t *testing.T) {
	// A combination that no kernel accepts.
	err := Try(unix.CLONE_NEWUSER|unix.CLONE_FS, nil, nil)
	step, ok := errors.AsType[*StepError](err)
	if !ok || step.What != CreateNamespaces || !errors.Is(err, unix.EINVAL) {
		t.Errorf("Try = %v", err)
	}
}

// TestOwnStreams: the streams of the child may be the parent's own, in any order.
func TestOwnStreams(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), self("").Path)
	cmd.Env = []string{role + "=swap"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stdout.String() != "err" || stderr.String() != "out" {
		t.Errorf("stdout %q, stderr %q, %v", &stdout, &stderr, err)
	}
}

// TestOpenFilesLimit: the program gets the limit that ten itself was started with, not
// the one that the Go runtime made of it.
func TestOpenFilesLimit(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: 123, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self("").Path)
	cmd.Env = []string{role + "=start limit"}
	out, err := cmd.CombinedOutput()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("{123 %d} true\n", before.Max); err != nil || string(out) != want {
		t.Errorf("limit = %q, %v; want %q", out, err, want)
	}
}

// TestUnderStress starts programs from several goroutines while signals arrive, memory
// is collected and os/exec starts others.
func TestUnderStress(t *testing.T) {
	path, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	stop := make(chan struct{})
	var noise, work sync.WaitGroup
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
				runtime.GC()
			}
		}
	})
	for range 4 {
		work.Go(func() {
			for range 25 {
				child, err := Start(Config{Path: path, Dir: "/"})
				if err != nil {
					t.Error(err)
					return
				}
				_ = unix.Close(child.PIDFD)
				if err := reap(child.PID); err != nil {
					t.Error(err)
				}
				if err := exec.CommandContext(t.Context(), path).Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	close(stop)
	noise.Wait()
}

// TestBusyFile: a program file that is open for writing is waited for a moment.
func TestBusyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	b, err := os.ReadFile(self("").Path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = Start(Config{Path: path, Dir: "/"})
	if !errors.Is(err, unix.ETXTBSY) || time.Since(began) < 10*time.Millisecond {
		t.Errorf("Start = %v after %v", err, time.Since(began))
	}
}

// TestInitImage: the init is an ELF file of this machine that the kernel executes.
func TestInitImage(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(tiny.Image(initCode())))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Progs) != 2 || f.Progs[0].Flags != elf.PF_R|elf.PF_X || f.Entry <= f.Progs[0].Vaddr {
		t.Errorf("image: %+v", f)
	}
	p, err := NewInit()
	if err != nil {
		t.Fatal(err)
	}
	// Without a child it has nobody to wait for.
	cmd := exec.CommandContext(t.Context(), fmt.Sprintf("/proc/self/fd/%d", p.file.Fd()))
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 127 {
		t.Errorf("run init: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzInterpreter(f *testing.F) {
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Add([]byte("#!"))
	f.Add(tiny.Image(initCode()))
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := interpreterOf(path); len(got) > 4096 {
			t.Errorf("interpreter = %q", got)
		}
	})
}
