package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// envLoopback makes this program, in a network namespace of its own, raise the loopback
// interface and become a shell.
const envLoopback = "E2E_RAISE_LOOPBACK"

// raiseLoopback runs script in a shell once 127.0.0.0/8 works. It returns only errors.
func raiseLoopback(script string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = uint16(net.FlagUp) | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 { //nolint:gosec // an ioctl wants it
		return fmt.Errorf("raise loopback: %w", errno)
	}
	shell, err := exec.LookPath("bash")
	if err != nil {
		return fmt.Errorf("find bash: %w", err)
	}
	return syscall.Exec(shell, []string{"bash", script}, os.Environ()) //nolint:gosec // a test's own script
}

// TestDocumentedCommands types what README.md and docs/operations.md say about several
// servers, line by line, as written.
func TestDocumentedCommands(t *testing.T) {
	for _, doc := range []string{"README.md", "docs/operations.md"} {
		t.Run(filepath.Base(doc), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", doc))
			if err != nil {
				t.Fatal(err)
			}
			lines := documented(string(text))
			if len(lines) < 10 {
				t.Fatalf("%s has %d commands to run", doc, len(lines))
			}
			runDocumented(t, lines)
		})
	}
}

var runnable = regexp.MustCompile("(?s)<!-- run: [^>]*-->\n```console\n(.*?)```")

// documented returns the commands of a page's blocks that are marked to be run.
func documented(page string) (lines []string) {
	for _, block := range runnable.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
				lines = append(lines, command)
			}
		}
	}
	return lines
}

var (
	serves = regexp.MustCompile(`^ten serve .*--bind (\S+) .*--node-name (\S+)\b.*&$`)
	kills  = regexp.MustCompile(`^kill -9 (.*)$`)
)

// script makes the commands a shell script that stops at the first that fails. What a
// person sees and waits for, it waits for: that a server serves, that a process is gone.
func script(lines []string) string {
	b := &strings.Builder{}
	b.WriteString("set -eu\ntrap 'rc=$?; set +e; kill -INT $(jobs -p) 2>/dev/null; wait; exit $rc' EXIT\n")
	for _, line := range lines {
		fmt.Fprintf(b, "echo %s\n", "'+ "+strings.ReplaceAll(line, "'", `'\''`)+"'")
		if strings.HasPrefix(line, "curl ") {
			line = strings.Replace(line, "curl ", "curl -sSf -m 60 ", 1)
		}
		b.WriteString(line + "\n")
		if m := serves.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(b, "%s=$!\n", strings.ToUpper(m[2]))
			fmt.Fprintf(b, "for n in $(seq 300); do curl -so /dev/null http://%s:8080/health && break; sleep 0.1; done; curl -sSf -o /dev/null http://%[1]s:8080/health\n", m[1])
		}
		if m := kills.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(b, "wait %s || true\n", m[1])
		}
	}
	b.WriteString("echo done\n")
	return b.String()
}

// killBelow ends what a script has left running: servers whose directory is dir, and the
// programs of their instances.
func killBelow(dir string) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if !bytes.Contains(env, []byte("TENEMENT_DATA_DIR="+dir+"/")) && !strings.HasPrefix(cwd, dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

func runDocumented(t *testing.T, lines []string) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir, err := os.MkdirTemp("", "d-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(from, to string) {
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	link(tenBinary, filepath.Join(bin, "ten"))
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "hello"), "../examples/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build hello: %v\n%s", err, out)
	}
	t.Cleanup(func() { killBelow(dir) })
	if !strings.Contains(strings.Join(lines, "\n"), "ten init") {
		lines = append([]string{"ten init --name hello --command ./hello"}, lines...)
	}
	path := filepath.Join(dir, "script.sh")
	if err := os.WriteFile(path, []byte(script(lines)), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // this test's own binary
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), envLoopback+"="+path, "PATH="+bin+":"+os.Getenv("PATH"), "TENEMENT_CONFIG=")
	cmd.SysProcAttr = ownNetwork()
	cmd.WaitDelay = time.Second // servers that are left hold the output open
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("this machine allows no network namespace: %v", err)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // what replaced a server is no child of the shell
	}
	if err != nil || !strings.Contains(out.String(), "\ndone\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// ownNetwork gives a process a network that nobody else has, and the right to raise it.
func ownNetwork() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}
