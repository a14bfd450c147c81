//go:build amd64 || arm64

package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const boot = "this-boot"

func openKeeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	k, err := Open(dir, boot, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = k.Close()
		if k, err := Open(dir, boot, slog.New(slog.DiscardHandler)); err == nil {
			k.Relieve()
		}
	})
	return k
}

func mkfifo(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fill opens a pipe, puts text into it and closes it.
func fill(t *testing.T, path, text string) {
	t.Helper()
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// content returns what is in a pipe, which stays there if somebody holds it.
func content(t *testing.T, path string) string {
	t.Helper()
	r, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(r) }()
	b := make([]byte, 100)
	n, err := unix.Read(r, b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	if n > 0 {
		if _, err := unix.Write(r, b[:n]); err != nil {
			t.Fatal(err)
		}
	}
	return string(b[:max(n, 0)])
}

// gone waits for the end of a process that is not ours to wait for.
func gone(t *testing.T, id identity) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); alive(id); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives on", id.pid)
		}
	}
}

func alive(id identity) bool {
	start, err := startTime(id.pid)
	if err != nil || start != id.start {
		return false
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id.pid))
	return !strings.Contains(string(b), ") Z ")
}

func TestHoldAcrossTens(t *testing.T) {
	dir := t.TempDir()
	mkfifo(t, dir, "a", "b", "c")
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	k := openKeeper(t, dir)
	if k.child != nil {
		t.Error("a process before there is anything to hold")
	}
	k.Hold("a", "b")
	fill(t, a, "one")
	fill(t, b, "two")
	fill(t, filepath.Join(dir, "c"), "three")
	k.Drop("b", "c", "unknown")
	first := k.child.id
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, a); got != "one" {
		t.Errorf("kept %q", got)
	}
	if got := content(t, b) + content(t, filepath.Join(dir, "c")); got != "" {
		t.Errorf("%q is still there", got)
	}

	k = openKeeper(t, dir)
	k.Hold("a")
	second := k.child.id
	if !alive(first) {
		t.Error("the former keeper ended too soon")
	}
	k.Relieve()
	gone(t, first)
	if got := content(t, a); got != "one" {
		t.Errorf("kept %q", got)
	}
	k.Drop("a")
	if got := content(t, a); got != "" {
		t.Errorf("%q is still there", got)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(second) {
		t.Error("a keeper that holds nothing is left")
	}
	if names, _ := filepath.Glob(filepath.Join(dir, recordPrefix+".*")); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// What the process has of ten: nothing but what it is told to hold.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	mkfifo(t, dir, "a")
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(leak) }()
	k := openKeeper(t, dir)
	k.Hold("a")
	k.Drop("unknown") // until it has answered, it may not have begun
	pid := k.child.id.pid
	proc := fmt.Sprintf("/proc/%d/", pid)
	entries, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, e := range entries {
		link, _ := os.Readlink(proc + "fd/" + e.Name())
		links = append(links, strings.TrimRight(strings.TrimPrefix(link, dir), "[]:0123456789"))
	}
	if got := strings.Join(links, " "); got != "socket   /a" {
		t.Errorf("descriptors: %q", got)
	}
	if sid, err := unix.Getsid(pid); sid != pid || err != nil {
		t.Errorf("session %d of process %d, %v", sid, pid, err)
	}
	for file, want := range map[string]string{"comm": "ten-keeper\n", "environ": "", "cmdline": "ten: keeper of output pipes\x00"} {
		if b, err := os.ReadFile(proc + file); string(b) != want || err != nil {
			t.Errorf("%s = %q, %v", file, b, err)
		}
	}
	if cwd, _ := os.Readlink(proc + "cwd"); cwd != "/" {
		t.Errorf("works in %s", cwd)
	}
	if info, err := os.Stat(proc + "exe"); err != nil || info.Size() > 1024 {
		t.Errorf("program: %v, %v", info, err)
	}
}

// A keeper that dies is replaced, and what it held is held again.
func TestRevive(t *testing.T) {
	dir := t.TempDir()
	mkfifo(t, dir, "a", "b")
	k := openKeeper(t, dir)
	k.Hold("a")
	for range 2 {
		w, err := os.OpenFile(filepath.Join(dir, "a"), os.O_RDWR, 0) // as the program has it
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		old := k.child
		k.mu.Unlock()
		if err := old.process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-old.gone
		for held := false; !held; time.Sleep(time.Millisecond) {
			k.mu.Lock()
			held = k.child != nil && k.child != old && !k.behind
			k.mu.Unlock()
		}
		_ = w.Close()
	}
	if got := content(t, filepath.Join(dir, "a")); got != "xx" {
		t.Errorf("kept %q", got)
	}
	k.mu.Lock()
	old := k.child
	k.mu.Unlock()
	if err := old.process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-old.gone
	k.Hold("b") // does not wait for the minder
	fill(t, filepath.Join(dir, "b"), "b")
	k.Drop("a")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, filepath.Join(dir, "b")); got != "b" {
		t.Errorf("kept %q", got)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, recordPrefix+".*")); len(names) != 1 {
		t.Errorf("on record: %v", names)
	}
}

func TestDirectoryDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "io")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mkfifo(t, dir, "a")
	k := openKeeper(t, dir)
	k.Hold("a")
	id := k.child.id
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	gone(t, id)
}

func TestMany(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for i := range 3*batchSize + 1 {
		names = append(names, fmt.Sprint(i))
	}
	mkfifo(t, dir, names...)
	k := openKeeper(t, dir)
	k.Hold(append([]string{"missing"}, names...)...)
	if !k.behind {
		t.Error("a missing pipe is held")
	}
	k.Drop("missing")
	k.Hold(names[0]) // catches up
	k.Drop("unknown")
	if k.behind {
		t.Error("not all are held")
	}
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", k.child.id.pid))
	if got := len(entries) - 3; got != len(names) {
		t.Errorf("%d descriptors for %d pipes", got, len(names))
	}
	k.Drop(names...)
	entries, _ = os.ReadDir(fmt.Sprintf("/proc/%d/fd", k.child.id.pid))
	if len(entries) != 3 {
		t.Errorf("%d descriptors after all", len(entries))
	}
}

// A record is no leave to kill whatever has the pid now.
func TestOthersAreSpared(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	other := openKeeper(t, t.TempDir())
	mkfifo(t, other.dir, "a")
	other.Hold("a")
	for _, id := range []identity{
		{boot, cmd.Process.Pid, start},                           // no keeper
		{boot, other.child.id.pid, other.child.id.start - 1},     // a later one
		{"other-boot", other.child.id.pid, other.child.id.start}, // one of another boot
		{boot: boot, pid: 1 << 22, start: 5},                     // no process
	} {
		if err := os.WriteFile(filepath.Join(dir, id.String()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := openKeeper(t, dir)
	if len(k.old) != 4 {
		t.Fatalf("on record: %v", k.old)
	}
	k.Relieve()
	if !alive(identity{pid: cmd.Process.Pid, start: start}) || !alive(other.child.id) {
		t.Error("killed a stranger")
	}
	if names, _ := filepath.Glob(filepath.Join(dir, recordPrefix+".*")); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestHasWriter(t *testing.T) {
	dir := t.TempDir()
	mkfifo(t, dir, "a")
	path := filepath.Join(dir, "a")
	check := func(want bool) {
		t.Helper()
		if got, err := HasWriter(path); got != want || err != nil {
			t.Errorf("HasWriter = %v, %v; want %v", got, err, want)
		}
	}
	check(false)
	k := openKeeper(t, dir)
	k.Hold("a")
	check(false)
	fill(t, path, "data")
	check(false)
	w, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(true)
	_ = unix.Close(w)
	check(false)
	if got := content(t, path); got != "data" {
		t.Errorf("%q is left", got)
	}
}

func TestIdentity(t *testing.T) {
	id := identity{boot: "0a-1b", pid: 17, start: 1 << 60}
	if got, ok := parseIdentity(id.String()); got != id || !ok {
		t.Errorf("parse %q = %v, %v", id, got, ok)
	}
	for _, name := range []string{"", "keeper", "keeper.b.1", "keeper.b.x.1", "keeper.b.1.x", "keeper.b.-1.1", "keeper.b.1.1.1", "free.b.1.1"} {
		if got, ok := parseIdentity(name); ok {
			t.Errorf("parse %q = %v", name, got)
		}
	}
}

func BenchmarkKeep(b *testing.B) {
	dir := b.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	k, err := Open(dir, boot, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	var hold, drop time.Duration
	for b.Loop() {
		began := time.Now()
		k.Hold("a", "b")
		held := time.Now()
		k.Drop("a", "b")
		hold, drop = hold+held.Sub(began), drop+time.Since(held)
	}
	b.ReportMetric(float64(hold)/float64(b.N), "ns/hold")
	b.ReportMetric(float64(drop)/float64(b.N), "ns/drop")
}
