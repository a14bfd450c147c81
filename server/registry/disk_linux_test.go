package registry

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// On a full disk whoever asks hears so, nothing of half a package stays, and once there
// is space it is made.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root to mount a small file system")
	}
	f := newFixture(t)
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	writeFile(t, f.cfg.Program, string(random))
	if err := os.MkdirAll(f.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", f.cfg.Dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("skipped: a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(f.cfg.Dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		err := f.Prepare(t.Context())
		if api.CodeOf(err) != api.CodeDiskFull || !strings.Contains(err.Error(), f.cfg.Dir) {
			t.Fatalf("got %v", err)
		}
		if left, err := filepath.Glob(filepath.Join(f.cfg.Dir, "*")); err != nil || len(left) != 0 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
	}
	if err := syscall.Mount("none", f.cfg.Dir, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	if err := f.Prepare(t.Context()); err != nil || f.made() != 1 {
		t.Errorf("made %d times: %v", f.made(), err)
	}
}
