package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is an interactive shell on a pseudo terminal: what is typed is a person's.
type terminal struct {
	name string
	tty  *os.File // the side of the keyboard and the screen

	mu      sync.Mutex
	screen  []byte
	changed chan struct{} // closed by what comes next
	closed  bool
}

// The prompt tells what the last command came to, and where the shell is.
const prompt = `@@$? $PWD@@`

var prompted = regexp.MustCompile(`@@(\d+) ([^@\n]*)@@$`)

// openTerminals starts shells that share a network of their own, in which every port is
// free and nothing but this machine is reached. It skips the test where that is forbidden.
func openTerminals(t *testing.T, dir string, env []string, n int) []*terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	var all []*terminal
	script := "set -m\n" // or else the shells would be deaf to Ctrl-C
	for i := range n {
		term, shell := newTerminal(t, strconv.Itoa(i+1))
		defer shell.Close()
		all = append(all, term)
		cmd.ExtraFiles = append(cmd.ExtraFiles, shell)
		script += fmt.Sprintf("PS1='"+prompt+"' PS2= setsid --ctty --wait bash --norc --noprofile --noediting -i <&%d >&%[1]d 2>&%[1]d 3>&- 4>&- &\n", i+3)
	}
	path := filepath.Join(dir, "terminals.sh")
	if err := os.WriteFile(path, []byte(script+"wait\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = dir
	cmd.Env = append(env, envLoopback+"="+path)
	cmd.SysProcAttr = ownNetwork()
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) {
		t.Skipf("skipped: this machine allows no network namespace: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, term := range all {
			_ = term.tty.Close() // hangs up
		}
		killBelow(dir)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	for _, term := range all {
		term.await(t, prompted.MatchString)
	}
	return all
}

// newTerminal returns a terminal, and the side of it that a shell gets.
func newTerminal(t *testing.T, name string) (*terminal, *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("open a pseudo terminal: %v", err)
	}
	term := &terminal{name: name, tty: os.NewFile(uintptr(fd), "ptmx"), changed: make(chan struct{})}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatalf("open a pseudo terminal: %v", err)
	}
	shell, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a pseudo terminal: %v", err)
	}
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		modes.Lflag &^= unix.ECHO // what is typed is known
		err = unix.IoctlSetTermios(fd, unix.TCSETS, modes)
	}
	if err = errors.Join(err, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 120})); err != nil {
		t.Fatalf("set up a pseudo terminal: %v", err)
	}
	go term.watch()
	return term, shell
}

// watch reads until the terminal is closed, or nobody has it any more.
func (term *terminal) watch() {
	buf := make([]byte, 4096)
	for {
		n, err := term.tty.Read(buf)
		term.mu.Lock()
		term.screen = append(term.screen, buf[:n]...)
		term.closed = err != nil
		close(term.changed)
		term.changed = make(chan struct{})
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// shown returns what the screen shows since the last command was typed.
func (term *terminal) shown() (text string, changed chan struct{}, closed bool) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return legible(term.screen), term.changed, term.closed
}

// await waits until the screen shows what is waited for, and returns it.
func (term *terminal) await(t *testing.T, done func(string) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	for {
		text, changed, closed := term.shown()
		if done(text) {
			return text
		}
		if closed {
			t.Fatalf("terminal %s is closed, and shows\n%s", term.name, text)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("terminal %s shows no more than\n%s", term.name, text)
		}
	}
}

// enter types text. What the screen showed is wiped off.
func (term *terminal) enter(t *testing.T, text string) {
	t.Helper()
	term.mu.Lock()
	term.screen = nil
	term.mu.Unlock()
	if _, err := term.tty.WriteString(text); err != nil {
		t.Fatalf("type at terminal %s: %v", term.name, err)
	}
}

// run types a command, and returns what it printed, its status and where the shell is then.
func (term *terminal) run(t *testing.T, command string) (out string, status int, where string) {
	t.Helper()
	term.enter(t, command+"\n")
	return term.prompted(t)
}

// prompted waits for the prompt.
func (term *terminal) prompted(t *testing.T) (out string, status int, where string) {
	t.Helper()
	out = term.await(t, prompted.MatchString)
	m := prompted.FindStringSubmatch(out)
	status, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(out, m[0]), status, m[2]
}

var styling = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// legible is what a terminal shows of the bytes that it gets, without colours.
func legible(screen []byte) string {
	var lines []string
	for line := range bytes.Lines(screen) {
		text := strings.TrimRight(styling.ReplaceAllString(string(line), ""), "\r\n")
		text = text[strings.LastIndexByte(text, '\r')+1:] // drawn over what was there
		lines = append(lines, strings.TrimRight(text, " "))
	}
	return strings.Join(lines, "\n")
}
