package agent

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func testService(persist bool) *api.Service {
	svc := &api.Service{Name: "web", Command: "/bin/web", Args: []string{}, Health: "/up", Isolation: api.IsolationProcess, StoragePersist: &persist}
	svc.SetDefaults()
	svc.Revision = 1
	return svc
}

func ruleName(r rule) string {
	name := runtime.FuncForPC(reflect.ValueOf(r).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// sample is a typical machine of a phase.
func sample(p phase, next target, persist bool) machine {
	m := machine{Service: testService(persist), Phase: p, Next: next, Want: api.DesiredRunning, Since: t0.Add(-time.Hour)}
	switch p {
	case starting, terminating, unhealthy, backoff:
		m.Deadline = t0
	case degraded:
		m.Fails = 1
	case fetching:
		m.DataOn = "n2"
	case fenced:
		m.Fenced = true
	case stopped:
		m.Want = api.DesiredStopped
	case gone:
		m.Want = wantGone
	}
	switch next {
	case toStopped:
		m.Want = api.DesiredStopped
	case toGone:
		m.Want = wantGone
	}
	return m
}

func targetsOf(p phase) []target {
	switch p {
	case draining, terminating, aborting, ending:
		return []target{toAsleep, toStart, toRetry, toStopped, toFailed, toGone}
	case unhealthy:
		return []target{toStart, toRetry, toFailed}
	case fetching:
		return []target{toAsleep, toStart, toStopped}
	default:
		return []target{toAsleep}
	}
}

var targetNames = [...]string{"asleep", "start", "retry", "stopped", "failed", "gone"}

// TestTransitions shows what every event does in every phase, for review.
func TestTransitions(t *testing.T) {
	var b bytes.Buffer
	for p := range phase(phaseCount) {
		m := sample(p, toAsleep, true)
		fmt.Fprintf(&b, "%s (%s)\n", p, m.state())
		for ev := range event(eventCount) {
			r := rules[p][ev]
			if r == nil {
				t.Fatalf("no case for %s while %s", ev, p)
			}
			kept, ephemeral := outcomes(p, ev, true), outcomes(p, ev, false)
			fmt.Fprintf(&b, "  %-16s %s%s\n", ev, ruleName(r), kept)
			if ephemeral != kept {
				fmt.Fprintf(&b, "    ephemeral data%s\n", ephemeral)
			}
		}
	}
	golden(t, "transitions.txt", b.Bytes())
}

// outcomes is one outcome, or one for each target where a stop is under way.
func outcomes(p phase, ev event, persist bool) string {
	var lines []string
	targets := targetsOf(p)
	for _, next := range targets {
		before := sample(p, next, persist)
		after, actions := before.step(ev, "detail", t0)
		var parts []string
		if after.Phase != p {
			parts = append(parts, "→ "+after.Phase.String())
		}
		switch after.Phase {
		case fetching, draining, terminating, aborting, ending, unhealthy:
			if after.Next != next || after.Phase != p {
				parts = append(parts, "to "+targetNames[after.Next])
			}
			if after.Purge && !before.Purge {
				parts = append(parts, "to purge")
			}
		}
		for _, a := range actions {
			parts = append(parts, "["+a.String()+"]")
		}
		if len(parts) > 0 {
			lines = append(lines, targetNames[next]+": "+strings.Join(parts, " "))
		}
	}
	switch {
	case len(lines) == 0:
		return ""
	case len(targets) == 1:
		_, one, _ := strings.Cut(lines[0], ": ")
		return ": " + one
	default:
		return "\n      " + strings.Join(lines, "\n      ")
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what the code does; run go test -update and review the change", path)
	}
}

// TestPhaseStates: each state of the vocabulary is some phase's.
func TestPhaseStates(t *testing.T) {
	seen := make(map[api.State]bool)
	for p := range phase(phaseCount) {
		m := machine{Phase: p}
		seen[m.state()] = true
	}
	for _, s := range api.States() {
		if !seen[s] {
			t.Errorf("no phase shows as %s", s)
		}
	}
}

func TestBackoff(t *testing.T) {
	svc := testService(true)
	for n, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 32 * time.Second,
		7: time.Minute, 1000: time.Minute,
	} {
		if got := backoffAfter(svc, n); got != want {
			t.Errorf("pause before restart %d is %s, want %s", n, got, want)
		}
	}
}

// TestRestartWindow: one restart more than allowed within the window is a failure; old
// ones don't count.
func TestRestartWindow(t *testing.T) {
	crashAt := func(m machine, at time.Time) machine {
		m.Phase = running
		m, _ = m.step(onExitFailed, "exit code 1", at)
		m, _ = m.step(onEnded, "", at)
		return m
	}
	m := machine{Service: testService(true), Want: api.DesiredRunning}
	for i := range 3 {
		m = crashAt(m, t0.Add(time.Duration(i)*time.Second))
		if m.Phase != backoff || len(m.Recent) != i+1 {
			t.Fatalf("after crash %d: %s with %d restarts, want backoff", i+1, m.Phase, len(m.Recent))
		}
	}
	if late := crashAt(m, t0.Add(301*time.Second)); late.Phase != backoff {
		t.Errorf("a crash after two of three restarts left the window: %s, want backoff", late.Phase)
	}
	m = crashAt(m, t0.Add(299*time.Second))
	if m.Phase != failed || !strings.Contains(m.Reason, "exit code 1; gave up after 3 restarts within 5m") {
		t.Errorf("after one crash too many: %s (%s), want failed", m.Phase, m.Reason)
	}
}

func TestRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		policy api.RestartPolicy
		exit   event
		want   api.Desired
		next   target
	}{
		{api.RestartAlways, onExitOK, api.DesiredRunning, toRetry},
		{api.RestartAlways, onExitFailed, api.DesiredRunning, toRetry},
		{api.RestartAlways, onExitUnknown, api.DesiredAsleep, toRetry},
		{api.RestartOnFailure, onExitOK, api.DesiredRunning, toStopped},
		{api.RestartOnFailure, onExitOK, api.DesiredAsleep, toAsleep},
		{api.RestartOnFailure, onExitFailed, api.DesiredRunning, toRetry},
		{api.RestartOnFailure, onExitUnknown, api.DesiredRunning, toRetry},
		{api.RestartNever, onExitOK, api.DesiredRunning, toStopped},
		{api.RestartNever, onExitFailed, api.DesiredRunning, toFailed},
		{api.RestartNever, onExitUnknown, api.DesiredRunning, toFailed},
	} {
		m := sample(running, toAsleep, true)
		m.Service = m.Service.Clone()
		m.Service.Restart, m.Want = c.policy, c.want
		after, _ := m.step(c.exit, "", t0)
		if after.Phase != ending || after.Next != c.next {
			t.Errorf("%s, %s, desired %s: %s to %s, want ending to %s", c.policy, c.exit, c.want,
				after.Phase, targetNames[after.Next], targetNames[c.next])
		}
	}
}

// TestDataOfTheFailed: data that went to another node while the program's end was put
// away are fetched before the instance rests, whatever brings it to rest.
func TestDataOfTheFailed(t *testing.T) {
	for _, policy := range []api.RestartPolicy{api.RestartAlways, api.RestartNever} {
		for _, ev := range []event{onSleep, onStop, onWantAsleep, onWantStopped} {
			svc := testService(true)
			svc.Restart = policy
			m := machine{Service: svc}
			for _, ev := range []event{onWantRunning, onGranted, onStartFailed, onFetch, onEnded, ev} {
				m, _ = m.step(ev, "n2", t0)
			}
			if m.Phase == ending { // the data of before are put away first
				m, _ = m.step(onEnded, "", t0)
			}
			if m.Phase != fetching || m.DataOn != "n2" {
				t.Errorf("%s, %s: %s, its data on %q; want it fetching from n2", policy, ev, m.Phase, m.DataOn)
			}
		}
	}
}
