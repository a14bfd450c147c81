package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fault is what happens to the ten of a machine with a single-writer instance, and how it
// gets well again once the instance runs elsewhere.
type fault struct {
	name     string
	do, undo func(f *fleet, m *machine)
}

var fences = []fault{
	{"killed", func(_ *fleet, m *machine) { m.kill() }, func(_ *fleet, m *machine) { m.start() }},
	{"stopped", func(_ *fleet, m *machine) { m.signal(syscall.SIGSTOP) }, func(f *fleet, m *machine) {
		time.Sleep(f.between(0, 40*time.Second)) // it may hang for long
		m.signal(syscall.SIGCONT)
	}},
	{"killed and started again while cut off", func(f *fleet, m *machine) {
		f.cutOff(m)
		m.kill()
		m.launch()
	}, (*fleet).healOne},
	{"killed with its guard and started again while cut off", func(f *fleet, m *machine) {
		f.cutOff(m)
		m.kill()
		m.killGuard()
		m.launch()
	}, (*fleet).healOne},
	{"killed with its guard, and started again after the lease", func(f *fleet, m *machine) {
		f.cutOff(m)
		m.kill()
		m.killGuard()
		time.Sleep(f.between(12*time.Second, 16*time.Second))
		m.launch()
	}, (*fleet).healOne},
	{"upgraded, then killed", func(f *fleet, m *machine) { f.upgradeAndKill(m) }, func(_ *fleet, m *machine) { m.start() }},
	{"cut off, then drained", func(f *fleet, m *machine) {
		f.cutOff(m)
		f.drain(m, true)
	}, func(f *fleet, m *machine) { f.healOne(m); f.drain(m, false) }},
	{"drained", func(f *fleet, m *machine) { f.drain(m, true) }, func(f *fleet, m *machine) { f.drain(m, false) }},
}

// TestFences: an instance of which there must never be two runs elsewhere only when it
// has ended, whatever has become of ten on its node.
func TestFences(t *testing.T) {
	for _, persist := range []bool{true, false} {
		t.Run(fmt.Sprintf("data=%t", persist), func(t *testing.T) { testFences(t, persist) })
	}
}

func testFences(t *testing.T, persist bool) {
	beats := filepath.Join(t.TempDir(), "beats")
	f := startFleet(t, api.Service{
		OnDisconnect: api.DisconnectStop, StoragePersist: &persist, Env: map[string]string{"APP_BEAT": beats},
	}, 3)
	var gaps []time.Duration
	for n := range *fenced {
		with := fences[n%len(fences)]
		id := fmt.Sprintf("i%d", f.rand.IntN(3))
		owner := f.owner(id)
		pids := f.runs(beats)[id]
		before := pids[len(pids)-1].pid
		with.do(f, owner)
		took := f.until("it starts elsewhere", patience, func() error {
			if now := f.runs(beats)[id]; now[len(now)-1].pid == before {
				return fmt.Errorf("%d: %s on %s, %s, is not started anew", n, id, owner.name, with.name)
			}
			return nil
		})
		with.undo(f, owner)
		f.until("all is well", 2*patience, f.well)
		t.Logf("%s: %s runs elsewhere after %s", with.name, id, took.Round(100*time.Millisecond))
		gaps = append(gaps, f.checkRuns(beats)...)
	}
	f.settle()
	if len(gaps) > 0 {
		t.Logf("%d times, 0 overlaps; between two writers at least %s", *fenced, slices.Min(gaps).Round(time.Millisecond))
	}
}

// cutOff lets the machine and the others hear nothing of each other.
func (f *fleet) cutOff(m *machine) {
	for _, o := range f.others(m) {
		o.deafTo(m)
	}
	m.deafTo(f.others(m)...)
}

// upgradeAndKill kills the successor of the machine's ten.
func (f *fleet) upgradeAndKill(m *machine) {
	f.t.Helper()
	if _, err := m.ten("upgrade", "--binary", nextBinary); err != nil {
		f.t.Fatal(err)
	}
	var now api.Telemetry
	m.must("GET", "/api/telemetry", nil, &now)
	if err := syscall.Kill(now.PID, syscall.SIGKILL); err != nil {
		f.t.Fatal(err)
	}
	m.kill() // waits until the predecessor has ended
}

func (f *fleet) healOne(m *machine) {
	f.heal()
	if err := m.serves(patience); err != nil {
		f.t.Error(err)
	}
}

// drain has what is on the machine leave it, or lets things come back.
func (f *fleet) drain(m *machine, away bool) {
	f.t.Helper()
	args := []string{"node", "drain", "--no-wait", m.name}
	if !away {
		args = []string{"node", "uncordon", m.name}
	}
	f.until(args[1], patience, func() error {
		_, err := f.others(m)[0].ten(args...)
		return err
	})
}

// killGuard kills the guard of leases that ten has left.
func (m *machine) killGuard() {
	m.t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, proc := range procs {
		args, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		if strings.HasPrefix(string(args), "ten: guard of leases\x00"+m.dataDir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
	m.t.Errorf("%s has no guard", m.name)
}
