// Package chaos breaks real servers: three of them, each in a network namespace of its
// own with a link to a bridge, while clients write, read and send requests. Faults are
// signals, packet filters, full disks, failing system calls and flipped bytes. What the
// servers have acknowledged must be there afterwards, equal on all of them.
//
// It runs with TEN_CHAOS=1 as root, as `make chaos` does, in namespaces that it makes for
// itself: whatever happens, nothing of it is left on the machine.
package chaos

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// How often, or how long, each fault comes: a tenth of the full counts.
var (
	seed       = flag.Uint64("chaos.seed", 0, "seed of the faults; 0: from the clock")
	short      = flag.Bool("chaos.short", false, "few of the common faults, in three minutes")
	kills      = flag.Int("chaos.kills", 100, "kill -9 of one node under load")
	allKills   = flag.Int("chaos.allkills", 20, "kill -9 of all nodes at once")
	pauses     = flag.Int("chaos.pauses", 50, "SIGSTOP of the leader")
	maxPause   = flag.Duration("chaos.maxpause", 30*time.Second, "the longest of them")
	partitions = flag.Int("chaos.partitions", 50, "partitions of each of the three kinds together")
	loss       = flag.Duration("chaos.loss", 6*time.Minute, "30 % packet loss")
	starve     = flag.Duration("chaos.starve", 6*time.Minute, "CPU starvation")
	syncErrors = flag.Int("chaos.syncerrors", 20, "failing fdatasync")
	syncDelays = flag.Int("chaos.syncdelays", 5, "hanging fdatasync")
	diskFull   = flag.Int("chaos.diskfull", 5, "full disks")
	flips      = flag.Int("chaos.flips", 100, "flipped or torn bytes of a stopped node")
	upgrades   = flag.Int("chaos.upgrades", 5, "rolling upgrades forth and back")
	bootstraps = flag.Int("chaos.bootstraps", 50, "clusters founded by servers that start together")
	clocks     = flag.Int("chaos.clocks", 5, "steps of the wall clock")
	singles    = flag.Int("chaos.singles", 20, "cut-off nodes with a single-writer instance")
	fenced     = flag.Int("chaos.fences", 16, "single-writer instances whose ten is killed, stopped, restarted, drained")
	sleepers   = flag.Int("chaos.sleepers", 10, "times 1,000 requests for one sleeper")
	survivals  = flag.Int("chaos.survivals", 20, "kills of ten while 50 instances serve")
)

// stage tells a process of the harness which one it is: outside, the first process of
// the namespaces, or the tests within.
const stage = "TEN_CHAOS_STAGE"

// binaries: of this version, of the next, with a clock that can be set, and a program.
var tenBinary, nextBinary, clockBinary, appBinary string

// missing says why nothing can be tested here.
var missing string

func TestMain(m *testing.M) {
	flag.Parse()
	if *short {
		shorten()
	}
	switch {
	case os.Getenv("TEN_CHAOS") == "":
		missing = "TEN_CHAOS=1 is not set: see make chaos"
	case os.Geteuid() != 0:
		missing = "needs root"
	default:
		for _, program := range []string{"ip", "nft", "nsenter", "strace"} {
			if _, err := exec.LookPath(program); err != nil {
				missing = program + " is not installed"
			}
		}
	}
	code := 1
	var err error
	switch {
	case missing != "":
		code = m.Run()
	case os.Getenv(stage) == "":
		code, err = outside()
	case os.Getenv(stage) == "init":
		code, err = initProcess()
	default:
		if err = build(); err == nil {
			code = m.Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	os.Exit(code)
}

// shorten takes few of the faults that are not given by a flag.
func shorten() {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{
		"kills": "4", "allkills": "1", "pauses": "2", "maxpause": "5s", "partitions": "3", "loss": "5s", "starve": "0s",
		"syncerrors": "1", "syncdelays": "0", "diskfull": "0", "flips": "3", "upgrades": "1", "bootstraps": "2", "clocks": "0",
		"singles": "1", "fences": "2", "sleepers": "1", "survivals": "1",
	} {
		if !given["chaos."+name] {
			_ = flag.Set("chaos."+name, value) // of a flag that exists, to what it can be
		}
	}
}

// again runs this program again in another stage.
func again(next string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stage+"="+next)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func outside() (int, error) {
	cmd := again("init")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return ee.ExitCode(), nil
	}
	return 0, err
}

// initProcess is process 1 of the namespaces: it waits for whoever ends. With it all end.
func initProcess() (int, error) {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"none", "/", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0},
	} {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return 1, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := sh("ip link set lo up"); err != nil {
		return 1, err
	}
	cmd := again("tests")
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == cmd.Process.Pid:
			return 1, fmt.Errorf("the tests ended by %v", status.Signal())
		}
	}
}

// build makes the binaries.
func build() error {
	dir, err := os.MkdirTemp("", "chaos-bin-")
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	tenBinary, nextBinary, clockBinary, appBinary = path("ten"), path("ten-next"), path("ten-clock"), path("app")
	for _, args := range [][]string{
		{"-ldflags=-X main.version=1.0.0-chaos", "-o", tenBinary, "../../cmd/ten"},
		{"-ldflags=-X main.version=1.1.0-chaos", "-o", nextBinary, "../../cmd/ten"},
		{"-tags=chaosclock", "-o", clockBinary, "../../cmd/ten"},
		{"-o", appBinary, "../app"},
	} {
		cmd := exec.Command("go", append([]string{"build"}, args...)...) //nolint:gosec // the arguments are ours
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// sh runs a command line without quotes.
func sh(line string) error {
	args := strings.Fields(line)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput() //nolint:gosec // the lines are ours
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}
