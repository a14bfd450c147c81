//go:build linux

package drivertest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// AsOrdinaryUser runs the named test of this test binary once more, as a user without
// any privilege. It needs root.
func AsOrdinaryUser(t *testing.T, test string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user; the tests run as an ordinary one already")
	}
	const uid = 54321
	// Directories that this user can enter, unlike those of go test.
	dir, err := os.MkdirTemp("", "ordinary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, tmp := filepath.Join(dir, "test"), filepath.Join(dir, "tmp")
	copyProgram(t, binary)
	for path, mode := range map[string]os.FileMode{dir: 0o755, tmp: 0o777} {
		if err := os.Mkdir(path, mode); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^"+test+"$", "-test.v", "-test.short") //nolint:gosec // the test binary
	cmd.Env = []string{"TMPDIR=" + tmp, "PATH=" + os.Getenv("PATH")}
	cmd.Dir = tmp
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as user %d: %v\n%s", uid, err, out)
	} else if testing.Verbose() {
		t.Logf("as user %d:\n%s", uid, out)
	}
}

func copyProgram(t *testing.T, path string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755) //nolint:gosec // to be executed by another user
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
