package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own, which can be filled for real.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk leaves not a byte.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // a test's file
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's file
	if err := fill(f, int64(api.GiB)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

func TestARealDiskRunsFull(t *testing.T) {
	disk := smallDisk(t, "32m")
	dir, hog := filepath.Join(disk, "ten"), filepath.Join(disk, "hog")
	cfg := testConfig(t, dir)
	cfg.LowWater, cfg.Reserve = 4*api.MiB, 4*api.MiB
	n := open(t, cfg)
	putServices(t, n, 0, 10)
	if err := n.disk.tend(); err != nil || !n.disk.holdsReserve() {
		t.Fatalf("no reserve: %v", err)
	}
	fillDisk(t, hog)
	if _, err := n.PutService(t.Context(), service("more"), nil); api.CodeOf(err) != api.CodeDiskFull {
		t.Errorf("a full disk: got %v", err)
	}
	closeNode(t, n)

	// To start again Raft has to write, and finds the room that the reserve gives up.
	n = open(t, cfg)
	if n.disk.holdsReserve() {
		t.Error("the reserve was not given up")
	}
	if _, ok := n.View().Service("s9"); !ok {
		t.Error("an acknowledged write is lost")
	}
	if _, err := n.PutService(t.Context(), service("more"), nil); api.CodeOf(err) != api.CodeDiskFull {
		t.Errorf("after a restart: got %v", err)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	putService(t, n, service("more"))
	if err := n.disk.tend(); err != nil || !n.disk.holdsReserve() {
		t.Errorf("the reserve was not taken back: %v", err)
	}
}

// Space can vanish between the check and the write. The reserve then saves the write.
func TestReserveSavesAWriteOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, "16m")
	cfg := testConfig(t, filepath.Join(disk, "ten"))
	cfg.LowWater, cfg.Reserve = -1, 4*api.MiB // nothing is refused
	n := open(t, cfg)
	if err := n.disk.tend(); err != nil || !n.disk.holdsReserve() {
		t.Fatalf("no reserve: %v", err)
	}
	fillDisk(t, filepath.Join(disk, "hog"))
	for i := 0; n.disk.holdsReserve(); i++ { // until the log needs a page more
		putServices(t, n, i, i+1)
	}
	putService(t, n, service("after"))
}
