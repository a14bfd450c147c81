package logs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"golang.org/x/sys/unix"
)

// startProgram runs a helper with its output captured by s.
func startProgram(t testing.TB, s *Store, ref api.Ref, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := program(t, name, args...)
	start(t, s, ref, cmd)
	return cmd
}

func start(t testing.TB, s *Store, ref api.Ref, cmd *exec.Cmd) {
	t.Helper()
	stdout, stderr, err := s.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = stdout.Close()
	_ = stderr.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// A program prints numbered lines as fast as it can while ten is killed again and again,
// at moments as good as random: every line is there once, in order.
func TestKill(t *testing.T) {
	cfg := fast(Config{Dir: t.TempDir()})
	s := openStore(t, cfg)
	lines := 400_000
	if raceEnabled {
		lines = 40_000
	}
	counter := program(t, "count", "1", strconv.Itoa(lines), strings.Repeat("x", 40))
	stdin, err := counter.StdinPipe() // keeps it alive: what is in a pipe dies with its last holder
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, alice, counter)
	stop(t, s)

	kills, r := 0, rand.New(rand.NewPCG(1, 2))
	for last := uint64(0); last < uint64(lines)*9/10 && kills < 100; kills++ {
		ten := program(t, "capture", cfg.Dir, alice.String())
		if kills%3 == 0 { // amid its start
			if err := ten.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(30_000)) * time.Microsecond)
		} else {
			ready(t, ten)
			time.Sleep(time.Duration(r.IntN(10_000)) * time.Microsecond)
		}
		if err := ten.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = ten.Wait()
		if kills%20 == 19 {
			s := openStore(t, cfg)
			last = s.feed.last()
			stop(t, s)
		}
	}
	s = openStore(t, cfg)
	if err := s.Attach(alice); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := counter.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(alice); err != nil {
		t.Fatal(err)
	}
	stop(t, s) // indexes what is left
	s = openStore(t, cfg)
	n, seq := 0, uint64(0)
	each(t, s, func(e api.LogEntry) {
		n++
		if want := fmt.Sprintf("line %d ", n); !strings.HasPrefix(e.Message, want) {
			t.Fatalf("entry %d is %q, after %d kills", n, e.Message, kills)
		}
		if e.Seq <= seq {
			t.Fatalf("seq %d after %d", e.Seq, seq)
		}
		seq = e.Seq
	})
	if n != lines {
		t.Errorf("%d lines, want %d", n, lines)
	}
	stop(t, s)
	if left, err := s.spool.List(); len(left) > 0 || err != nil {
		t.Errorf("spool holds %v, %v", left, err)
	}
	t.Logf("%d kills", kills)
}

// each calls f for everything in the store, oldest first.
func each(t testing.TB, s *Store, f func(api.LogEntry)) {
	t.Helper()
	filter := &chunk.Filter{}
	for deadline := time.Now().Add(20 * time.Second); ; {
		list, upTo, _, err := s.since(ctx(t), filter)
		if err != nil && time.Now().Before(deadline) { // on a full disk
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			f(e)
		}
		if upTo <= filter.After {
			return
		}
		filter.After = upTo
	}
}

// A store that starts finds pipes that nobody holds, and tidies up.
func TestOpenSweepsDeadPipes(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	stdout, stderr, err := s.Open(alice)
	if err != nil {
		t.Fatal(err)
	}
	bob := api.Ref{Service: "notes", ID: "bob"}
	bobOut, _ := open(t, s, bob)
	write(t, stdout, "never ended")
	write(t, bobOut, "still alive")
	for s.backlog.Load() < 22 {
		time.Sleep(time.Millisecond)
	}
	stop(t, s)
	_ = stdout.Close()
	_ = stderr.Close()

	s = openStore(t, Config{Dir: dir})
	if got := await(t, s, api.LogQuery{}, 1); got[0].Message != "never ended" {
		t.Errorf("got %q", got[0].Message)
	}
	if got := files(t, s.cfg.IODir); len(got) != 2 || !strings.HasPrefix(got[0], "notes:bob.") {
		t.Errorf("pipes left: %v", got)
	}
	if err := s.Attach(bob); err != nil {
		t.Fatal(err)
	}
	write(t, bobOut, "\n")
	if got := await(t, s, api.LogQuery{Instance: "bob"}, 1); got[0].Message != "still alive" {
		t.Errorf("got %q", got[0].Message)
	}
}

func TestHeldPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(want bool) {
		t.Helper()
		if got, err := heldPipe(path); got != want || err != nil {
			t.Errorf("heldPipe = %v, %v; want %v", got, err, want)
		}
	}
	check(false)
	var fds []int
	for _, flag := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
		fd, err := unix.Open(path, flag|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		check(true)
		fds = append(fds, fd)
	}
	if _, err := unix.Write(fds[2], []byte("a")); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fds[2])
	_ = unix.Close(fds[0])
	check(true) // by a writer alone, and data
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if n, err := unix.Read(fd, b); n != 1 || err != nil {
		t.Errorf("Read = %d, %v: heldPipe took the data", n, err)
	}
	_ = unix.Close(fd)
	check(true)
	_ = unix.Close(fds[1])
	check(false)
}

func TestTwoStoresOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	opened := make(chan *Store)
	go func() {
		second, err := Open(Config{Dir: dir}) // waits for the first to stop
		if err != nil {
			t.Error(err)
		}
		opened <- second
	}()
	select {
	case <-opened:
		t.Fatal("opened twice")
	case <-time.After(50 * time.Millisecond):
	}
	stop(t, s)
	if second := <-opened; second != nil {
		stop(t, second)
	}
}

func TestDamagedPartition(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	stdout, _ := open(t, s, alice)
	write(t, stdout, "before\n")
	before := await(t, s, api.LogQuery{}, 1)[0]
	stop(t, s)
	dbs, _ := filepath.Glob(filepath.Join(dir, "*.db"))
	if len(dbs) != 1 {
		t.Fatal(dbs)
	}
	if err := os.WriteFile(dbs[0], []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, Config{Dir: dir})
	if err := s.Attach(alice); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s, api.LogQuery{}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	write(t, stdout, "after\n")
	got := await(t, s, api.LogQuery{Search: "after"}, 1)
	if got[0].Seq <= before.Seq {
		t.Errorf("seq %d after %d", got[0].Seq, before.Seq)
	}
	if torn, _ := filepath.Glob(filepath.Join(dir, "*.torn")); len(torn) != 1 {
		t.Errorf("moved aside: %v", torn)
	}
}

// After a reboot nothing is added to the partition that was open when the power failed.
func TestReboot(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []int{1, 1, 2, 2} {
		s := openStore(t, Config{Dir: dir, bootID: []string{"a", "a", "b", "b"}[i]})
		stdout, _ := open(t, s, alice)
		write(t, stdout, "line\n")
		if got := await(t, s, api.LogQuery{Search: "line"}, i+1); got[i].Seq != uint64(i+1) {
			t.Errorf("start %d: %+v", i, got)
		}
		stop(t, s)
		if dbs, _ := filepath.Glob(filepath.Join(dir, "*.db")); len(dbs) != want {
			t.Errorf("start %d: %v, want %d partitions", i, dbs, want)
		}
	}
}
