package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestLeaseEndsWithoutTen: one server's ten is killed, another's hangs. What must never run
// twice is ended there all the same, and before anybody else starts it. It takes as long as
// a lease lasts; e2e/chaos breaks more.
func TestLeaseEndsWithoutTen(t *testing.T) {
	t.Parallel()
	beats := filepath.Join(t.TempDir(), "beats")
	f := startFleet(t, 3, appConfig("isolation = \"process\"\non_disconnect = \"stop\"", fmt.Sprintf("APP_BEAT = %q", beats)))
	refs := []string{"app:a", "app:b", "app:c"}
	for _, ref := range refs {
		f.nodes[0].put("/api/instances/"+ref, api.Instance{Desired: api.DesiredRunning})
	}
	owner, pids := f.owners(f.nodes[0], refs...)
	at := map[*ten]int{}
	for ref, s := range owner {
		at[s] = pids[ref]
	}
	killed, hung := f.nodes[1], f.nodes[2]
	if at[killed] == 0 || at[hung] == 0 {
		t.Fatalf("not one instance on each node: %v", at)
	}
	killed.kill()
	t.Cleanup(func() { _ = hung.cmd.Process.Signal(syscall.SIGCONT) }) // so that it can end
	if err := hung.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*ten{killed, hung} {
		waitGone(t, at[s])
	}
	for _, s := range []*ten{killed, hung} {
		b, err := os.ReadFile(filepath.Join(s.dataDir, ".ten", "guard.log"))
		if err != nil || !strings.Contains(string(b), fmt.Sprintf(`"pid":%d`, at[s])) {
			t.Errorf("the guard does not say that it killed %d: %q, %v", at[s], b, err)
		}
	}
	b, err := os.ReadFile(beats)
	if err != nil {
		t.Fatal(err)
	}
	runs := map[string]map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if field := strings.Fields(line); len(field) == 3 && strings.HasSuffix(line, "\n") {
			if runs[field[2]] == nil {
				runs[field[2]] = map[string]bool{}
			}
			runs[field[2]][field[1]] = true
		}
	}
	for ref, pid := range runs {
		if len(pid) != 1 {
			t.Errorf("%s ran more than once: %v", ref, pid)
		}
	}
}
