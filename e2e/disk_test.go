package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// onDisk puts the server's data directory on a file system of its own.
func (s *ten) onDisk(size string) {
	s.t.Helper()
	if os.Getuid() != 0 {
		s.t.Skip("skipped: needs root to mount a small file system")
	}
	if err := os.MkdirAll(s.dataDir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("none", s.dataDir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		s.t.Skipf("skipped: a small file system can't be mounted: %v", err)
	}
	s.t.Cleanup(func() { // before the directory is removed, after the server has ended
		if err := syscall.Unmount(s.dataDir, syscall.MNT_DETACH); err != nil {
			s.t.Errorf("unmount: %v", err)
		}
	})
	s.t.Cleanup(s.interrupt)
}

// fill takes all free space and returns what gives it back.
func (s *ten) fill() (free func()) {
	s.t.Helper()
	path := filepath.Join(s.dataDir, "filler")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); ; {
		if _, err = f.Write(block); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			s.t.Error(err)
		}
	}
}

// TestDiskFull: on a full disk writes are refused with words that say so, reads and
// requests go on, also after a restart, and everything is well once there is space.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := newTen(t, appConfig("idle_timeout = 1", ""))
	s.onDisk("300m")
	s.start()
	s.run("spawn", "app:one")
	pid := s.waitState("app:one", api.StateRunning).Observed.PID

	free := s.fill()
	_, stderr, code := s.exec("weight", "app:one", "5")
	if code == 0 || !strings.Contains(stderr, "disk") || !strings.Contains(stderr, "free") {
		t.Errorf("a write on a full disk: exit %d, %q", code, stderr)
	}
	still := func(when string) {
		t.Helper()
		if in := s.instances()["app:one"]; in == nil || in.EffectiveWeight() != 100 {
			t.Errorf("%s, reads: %+v", when, in)
		}
		for range 20 {
			s.want("one.app.localhost", "/", "one")
		}
	}
	still("on a full disk")
	s.waitState("app:one", api.StateAsleep)
	still("after a sleep")
	if err := os.WriteFile(s.config, []byte(appConfig("idle_timeout = 100", "")+"\n[service.new]\ncommand = \"true\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.terminate()
	s.start()
	still("after a restart")
	if in := s.waitState("app:one", api.StateRunning); in.Observed.PID == pid {
		t.Errorf("it slept, and has pid %d still", pid)
	}

	free()
	s.run("weight", "app:one", "5")
	if got := s.instances()["app:one"].EffectiveWeight(); got != 5 {
		t.Errorf("weight %d, want 5", got)
	}
	// What the file declares comes into effect by itself.
	var index uint64
	for {
		var services []*api.Service
		next, err := s.local(t.Context(), "GET", "/api/services?wait=60s&index="+strconv.FormatUint(index, 10), &services)
		if err != nil {
			t.Fatal(err)
		}
		if len(services) == 2 {
			break
		}
		if next == index {
			t.Fatalf("the file's services are not declared: %d", len(services))
		}
		index = next
	}
}
