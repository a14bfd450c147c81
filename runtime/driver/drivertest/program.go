//go:build linux

package drivertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// EnvProgram holds, in the environment of a started program, what it does: a name and
// its argument.
//
//	exit N      ends with code N
//	raise N     sends itself signal N
//	wait        prints "ready" and waits for ever
//	stubborn    the same, ignoring SIGTERM
//	graceful N  the same, ending with code N on SIGTERM
//	family N    starts a stubborn child with a stubborn child of its own, prints "ready"
//	            once they are, and ends with code N on SIGTERM
//	orphans     makes an orphan, ends it, prints "ready" once nobody but processes 1 and
//	            2 is left, and waits for ever
//	listen WHO  itself, its child or an orphan listens; prints the socket's inode and
//	            "ready", and waits for ever
//	report      prints a Report to stdout and "done" to stderr
//	ten PROGRAM starts PROGRAM with the driver, its output going to fd 3, prints its
//	            handle as JSON, and waits for ever
const EnvProgram = "DRIVERTEST_PROGRAM"

// Report is what a program sees of itself.
type Report struct {
	Args, Env   []string
	Dir, Host   string
	Descriptors map[string]string
	PID, Group  int
	OpenFiles   uint64   // soft limit
	Visible     []string // the processes in /proc
	Status      string   // /proc/self/status
	Namespaces  map[string]string
	UID, GID    int
}

// Main is the body of TestMain. It ends the process: a program directly, so that neither
// the race detector nor the coverage counters add a pause or a message at its end.
func Main(m *testing.M, open func() (driver.Driver, error)) {
	program := os.Getenv(EnvProgram)
	if program == "" {
		goleak.VerifyTestMain(m)
		return
	}
	name, arg, _ := strings.Cut(program, " ")
	if err := run(name, arg, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(99)
	}
	syscall.Exit(0)
}

func run(name, arg string, open func() (driver.Driver, error)) error {
	n, _ := strconv.Atoi(arg)
	terminated := make(chan os.Signal, 1)
	switch name {
	case "exit":
		syscall.Exit(n)
	case "raise":
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
	case "wait":
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "graceful":
		signal.Notify(terminated, syscall.SIGTERM)
	case "family":
		signal.Notify(terminated, syscall.SIGTERM)
		if err := child("parent"); err != nil {
			return err
		}
	case "parent":
		signal.Ignore(syscall.SIGTERM)
		if err := child("stubborn"); err != nil {
			return err
		}
	case "orphans":
		if err := orphans(); err != nil {
			return err
		}
	case "listen":
		if err := listen(arg); err != nil {
			return err
		}
	case "report":
		return report()
	case "ten":
		return ten(arg, open)
	default:
		return fmt.Errorf("no program %q", name)
	}
	fmt.Println("ready")
	select {
	case <-terminated:
		syscall.Exit(n)
	case <-time.After(time.Hour): // a bound, should a test lose it
	}
	return nil
}

// child starts another of these programs, in the same group, and waits until it is ready.
func child(program string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self) //nolint:gosec // the test binary
	cmd.Env = append(os.Environ(), EnvProgram+"="+program)
	cmd.Stderr = os.Stderr // which holds the pipe open for as long as the child lives
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

// orphans makes an orphan and waits until it was reaped.
func orphans() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self) //nolint:gosec // the test binary
	cmd.Env = append(os.Environ(), EnvProgram+"=parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // killed
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pids, err := filepath.Glob("/proc/[0-9]*")
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("left: %q: %w", pids, err)
		}
		if len(pids) == 2 {
			return nil
		}
		for _, path := range pids {
			if pid, _ := strconv.Atoi(filepath.Base(path)); pid > 2 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

func report() error {
	r := Report{Args: os.Args, Env: os.Environ(), PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()}
	r.Descriptors, r.Namespaces = map[string]string{}, map[string]string{}
	r.Dir, _ = os.Getwd()
	r.Host, _ = os.Hostname()
	r.Group, _ = syscall.Getpgid(0)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		// The Go runtime opens some of its own.
		if err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			r.Descriptors[fd.Name()] = target
		}
	}
	namespaces, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		return err
	}
	for _, n := range namespaces {
		r.Namespaces[n.Name()], _ = os.Readlink("/proc/self/ns/" + n.Name())
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	r.OpenFiles = limit.Cur
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	r.Visible = processes
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	r.Status = string(status)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.WriteString(os.Stderr, "done\n")
	return err
}

func ten(program string, open func() (driver.Driver, error)) error {
	d, err := open()
	if err != nil {
		return err
	}
	out := os.NewFile(3, "output")
	spec, err := Spec(program)
	if err != nil {
		return err
	}
	spec.Start, spec.Stdout, spec.Stderr = os.Getenv("DRIVERTEST_START"), out, out
	p, err := d.Start(context.Background(), spec)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(p.Handle()); err != nil {
		return err
	}
	<-p.Done()
	return nil
}

// Spec returns a Spec that runs one of the programs, in the system's directory for
// temporary files.
func Spec(program string) (driver.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return driver.Spec{}, err
	}
	return driver.Spec{
		Ref:  api.Ref{Service: "conformance", ID: "t1"},
		Path: self,
		Env:  []string{EnvProgram + "=" + program},
		Dir:  os.TempDir(),
	}, nil
}
