//go:build linux && (amd64 || arm64)

package group

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/drivertest"
)

// oldKernel is a driver that does without the signals to groups that Linux 6.9 brought.
type oldKernel struct{ *Runner }

func (oldKernel) Probe(context.Context) error { return nil }

func newOldKernel() (driver.Driver, error) {
	r, err := NewRunner(Config{Name: api.IsolationProcess, perMember: true})
	return oldKernel{r}, err
}

func TestMain(m *testing.M) { drivertest.Main(m, newOldKernel) }

func TestConformanceOnAnOldKernel(t *testing.T) {
	drivertest.Run(t, drivertest.Config{Open: func(t testing.TB) driver.Driver {
		d, err := newOldKernel()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}})
}

func TestParseStat(t *testing.T) {
	// Fields 3 to 52 of proc(5).
	fields := strings.Fields("S 1 41 40" + strings.Repeat(" 0", 15) + " 777" + strings.Repeat(" 1", 29) + " 9")
	line := "42 (a) b) " + strings.Join(fields, " ") + "\n"
	if len(fields) != 50 || fields[22-3] != "777" {
		t.Fatal(line)
	}
	got, err := parseStat([]byte(line))
	if want := (stat{'S', 41, 40, 777, 9}); err != nil || got != want {
		t.Errorf("parseStat = %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S", "42 (a) S" + strings.Repeat(" x", 50)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) = %+v", bad, got)
		}
	}
}

func TestOwnStat(t *testing.T) {
	got, err := readStat(os.Getpid())
	if err != nil || got.group != syscall.Getpgrp() || got.start == 0 || got.ended() {
		t.Errorf("readStat = %+v, %v", got, err)
	}
}

func TestFindStart(t *testing.T) {
	environ := []byte("A=1\x00TENEMENT_START=s1\x00B=\n\x00TENEMENT_STARTS=s2\x00XTENEMENT_START=s3\x00TENEMENT_START=s4")
	for start, want := range map[string]bool{"s1": true, "s": false, "s2": false, "s3": false, "s4": true, "": false} {
		if got := findStart(environ, start); got != want {
			t.Errorf("findStart(%q) = %t", start, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("1 () Z 1 1 1"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStat(b) })
}

func FuzzFindStart(f *testing.F) {
	f.Add([]byte("A=1\x00TENEMENT_START=s1\x00"), "s1")
	f.Fuzz(func(t *testing.T, environ []byte, start string) {
		entry := "\x00" + driver.EnvStart + "=" + start + "\x00"
		if want := strings.Contains("\x00"+string(environ)+"\x00", entry); !strings.Contains(start, "\x00") && findStart(environ, start) != want {
			t.Errorf("findStart(%q, %q) = %t", environ, start, !want)
		}
	})
}

// TestReusedPID: whoever has the pid of a program that is gone is left alone, whatever
// of its handle agrees.
func TestReusedPID(t *testing.T) {
	d, err := newOldKernel()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := readBootID()
	if err != nil {
		t.Fatal(err)
	}
	// This very process: it would not survive a signal.
	for _, pid := range []int{os.Getpid(), os.Getppid(), 1, 0, -1, 1 << 30} {
		h := driver.Handle{Driver: api.IsolationProcess, PID: pid, StartTime: 1 << 50, BootID: boot, Start: "s"}
		if _, err := d.Recover(t.Context(), h); !errors.Is(err, driver.ErrGone) {
			t.Errorf("Recover of pid %s = %v", strconv.Itoa(pid), err)
		}
	}
}
