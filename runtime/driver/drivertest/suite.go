//go:build linux

package drivertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

// patience bounds every wait. It is long, since only a failing test uses it up.
const patience = 60 * time.Second

// Config is what a suite runs against.
type Config struct {
	// Open makes a driver, as a new ten would.
	Open func(t testing.TB) driver.Driver
	// Simulated leaves out what needs real programs. The driver must then act on
	// EnvProgram as the programs exit, wait, stubborn and graceful do.
	Simulated bool
}

// Run runs the suite.
func Run(t *testing.T, cfg Config) {
	s := suite{cfg}
	for _, c := range []struct {
		name string
		test func(*testing.T)
		real bool
	}{
		{"exit codes", s.exitCodes, false},
		{"raised signal", s.raisedSignal, true},
		{"terminate", s.terminate, false},
		{"kill", s.kill, false},
		{"signals at once", s.signalsAtOnce, false},
		{"cancelled start", s.cancelledStart, false},
		{"release", s.release, false},
		{"recover gone", s.recoverGone, false},
		{"recover wrong process", s.recoverWrongProcess, false},
		{"find start", s.findStart, false},
		{"cycles", s.cycles, false},
		{"what a program sees", s.report, true},
		{"streams default to null", s.nullStreams, true},
		{"whose socket it is", s.sockets, true},
		{"start errors", s.startErrors, true},
		{"group ends with its leader", s.groupEnds, true},
		{"kill takes the group", s.groupKilled, true},
		{"recover after ten was killed", s.recoverAfterKill, true},
		{"terminate a recovered program", s.terminateRecovered, true},
		{"what is left of a group", s.leftovers, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if c.real && cfg.Simulated {
				t.Skip("runs no real programs")
			}
			c.test(t)
		})
	}
}

type suite struct{ Config }

var starts atomic.Uint64

func newStart() string { return fmt.Sprintf("drivertest-%d-%d", os.Getpid(), starts.Add(1)) }

// started is a program under test and the read end of what it prints.
type started struct {
	driver.Process
	out *bufio.Reader
	end *os.File

	released bool
}

func (s suite) spec(t *testing.T, program string) driver.Spec {
	t.Helper()
	spec, err := Spec(program)
	if err != nil {
		t.Fatal(err)
	}
	spec.Start = newStart()
	return spec
}

func (s suite) start(t *testing.T, d driver.Driver, program string) *started {
	t.Helper()
	return s.startSpec(t, d, s.spec(t, program))
}

func (s suite) startSpec(t *testing.T, d driver.Driver, spec driver.Spec) *started {
	t.Helper()
	r, w := pipe(t)
	spec.Stdout, spec.Stderr = w, w
	p, err := d.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	_ = w.Close()
	st := &started{Process: p, out: bufio.NewReader(r), end: r}
	t.Cleanup(func() {
		if !st.released {
			finish(t, p)
		}
	})
	return st
}

// Release lets go of the process, and of its cleanup.
func (p *started) Release() {
	p.released = true
	p.Process.Release()
}

// finish ends a process that a test may have ended already.
func finish(t *testing.T, p driver.Process) {
	t.Helper()
	if err := p.Kill(); err != nil {
		t.Errorf("Kill: %v", err)
	}
	waitDone(t, p)
	p.Release()
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

// ready waits until the program has printed "ready".
func (s suite) ready(t *testing.T, p *started) {
	t.Helper()
	if s.Simulated {
		return
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("program printed %q, %v; want ready", line, err)
	}
}

// allGone checks that nobody holds the program's output open any more, at this moment.
func (p *started) allGone(t *testing.T) {
	t.Helper()
	if err := p.end.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, p.out); err != nil {
		t.Errorf("after Done a process still holds the output open: %v", err)
	}
}

func waitDone(t *testing.T, p driver.Process) driver.Exit {
	t.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(patience):
		t.Fatal("the process did not end")
		return driver.Exit{}
	}
}

func wantExit(t *testing.T, p driver.Process, want driver.Exit) {
	t.Helper()
	if got := waitDone(t, p); got != want {
		t.Errorf("Exit = %+v, want %+v", got, want)
	}
}

func wantRunning(t *testing.T, p driver.Process) {
	t.Helper()
	select {
	case <-p.Done():
		t.Fatalf("the process ended: %+v", p.Exit())
	default:
	}
}

func wantNil(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func code(n int) driver.Exit { return driver.Exit{Known: true, Code: n} }

func killedBy(sig syscall.Signal) driver.Exit {
	return driver.Exit{Known: true, Code: 128 + int(sig), Signal: sig}
}

// predecessor is another ten that was killed after it had started a program.
func (s suite) predecessor(t *testing.T, program string) (driver.Handle, *started) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	cmd := exec.CommandContext(t.Context(), self) //nolint:gosec // the test binary
	cmd.Env = append(os.Environ(), EnvProgram+"=ten "+program, "DRIVERTEST_START="+newStart())
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	var h driver.Handle
	if err := json.NewDecoder(stdout).Decode(&h); err != nil {
		t.Errorf("read handle: %v", err)
	}
	p := &started{out: bufio.NewReader(r), end: r}
	s.ready(t, p)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return h, p
}

func (s suite) recover(t *testing.T, d driver.Driver, h driver.Handle) driver.Process {
	t.Helper()
	p, err := d.Recover(t.Context(), h)
	if err != nil {
		t.Fatalf("Recover: %v", err)
	}
	t.Cleanup(func() { finish(t, p) })
	return p
}

func wantGone(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, driver.ErrGone) {
		t.Errorf("%s = %v, want ErrGone", what, err)
	}
}

// children reports whether this process has any child, be it a zombie.
func children() bool {
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return !errors.Is(err, unix.ECHILD)
}

// descriptors counts the open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
