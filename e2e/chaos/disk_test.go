package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inject has strace meddle with every fdatasync of ten, until stop is called.
func (m *machine) inject(fault string) (stop func()) {
	m.t.Helper()
	pid := strconv.Itoa(m.cmd.Process.Pid)
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:"+fault, "-p", pid) //nolint:gosec // the arguments are ours
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it detaches, if it is not in the middle of something
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
}

// TestSyncErrors: fdatasync fails: ten ends at once, and is as good as new afterwards.
func TestSyncErrors(t *testing.T) {
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for n := range *syncErrors {
		m := f.pick()
		if n%2 == 0 {
			m = f.leader()
		}
		time.Sleep(f.between(0, time.Second))
		stop := m.inject("error=EIO")
		select {
		case <-m.done:
		case <-time.After(patience):
			t.Fatalf("%d: ten on %s lives on with a disk that does not write", n, m.name)
		}
		stop()
		if last := m.tail(400); !strings.Contains(last, "fatal") {
			t.Errorf("%d: %s does not say why it ended: %s", n, m.name, last)
		}
		time.Sleep(f.between(0, 3*time.Second))
		m.start()
		if n%5 == 4 {
			l.check()
		}
	}
	l.end(5)
}

// TestSyncDelays: fdatasync hangs on the leader: another one leads.
func TestSyncDelays(t *testing.T) {
	if *syncDelays == 0 {
		t.Skip("skipped: -chaos.syncdelays=0")
	}
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for n := range *syncDelays {
		m := f.leader()
		stop := m.inject("delay_enter=8000000")
		took := f.until("another leader", patience, func() error {
			c, err := f.others(m)[0].cluster()
			if err != nil || c.Leader == "" {
				return fmt.Errorf("no leader: %w", err)
			}
			for _, o := range c.Members {
				if o.ID == c.Leader && o.Name == m.name {
					return fmt.Errorf("%s still leads", m.name)
				}
			}
			return nil
		})
		t.Logf("%d: another leads %s after the disk hung", n, took.Round(time.Millisecond))
		stop()
		select {
		case <-m.done:
			m.start()
		case <-time.After(10 * time.Second):
		}
		f.until("all is well", 2*patience, f.well)
		l.check()
	}
	l.end(0.5)
}

// TestDiskFull: the disk of a node is full: another leads, and it is one of them again
// once there is room.
func TestDiskFull(t *testing.T) {
	if *diskFull == 0 {
		t.Skip("skipped: -chaos.diskfull=0")
	}
	f := newFleet(t, plain)
	for _, m := range f.nodes {
		if err := os.MkdirAll(m.dataDir, 0o755); err != nil { //nolint:gosec // programs pass through it
			t.Fatal(err)
		}
		f.sh("mount -t tmpfs -o size=500m none " + m.dataDir)
		t.Cleanup(func() { _ = sh("umount -l " + m.dataDir) })
	}
	f.bring(6)
	l := f.load(6)
	for n := range *diskFull {
		m := f.leader()
		if n%2 == 1 {
			m = f.others(m)[f.rand.IntN(2)]
		}
		fill := filepath.Join(m.dataDir, "fill")
		f.fill(m.dataDir, fill)
		begin, before := time.Now(), l.writes.Load()
		f.until("writes elsewhere", patience, func() error {
			if n := l.writes.Load() - before; n < 200 {
				return fmt.Errorf("%d writes", n)
			}
			return nil
		})
		t.Logf("%d: %s is full (leader: %t); 200 writes took %s", n, m.name, n%2 == 0, time.Since(begin).Round(time.Millisecond))
		if n%2 == 0 {
			f.until("another leader", patience, func() error {
				if c, err := m.cluster(); err != nil || c.Leader == c.Node || c.Leader == "" {
					return fmt.Errorf("%s leads: %v %w", m.name, c.Leader == c.Node, err)
				}
				return nil
			})
		}
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		select {
		case <-m.done:
			t.Errorf("%d: ten on %s ended: %s", n, m.name, m.tail(400))
			m.start()
		default:
		}
		f.until("all is well", 2*patience, f.well)
		l.check()
	}
	l.end(5)
}

// fill leaves a mebibyte of the file system.
func (f *fleet) fill(dir, path string) {
	f.t.Helper()
	file, err := os.Create(path) //nolint:gosec // a path of ours
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nothing of value is in it
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		f.t.Fatal(err)
	}
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-1<<20); err != nil { //nolint:gosec // it fits
		f.t.Fatal(err)
	}
}
