//go:build linux

package namespace_test

import (
	"bufio"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/drivertest"
	"github.com/tenement-fleet/tenement/runtime/namespace"
)

func TestMain(m *testing.M) {
	drivertest.Main(m, func() (driver.Driver, error) { return namespace.New() })
}

// open skips where the machine does not allow namespaces.
func open(t testing.TB) driver.Driver {
	t.Helper()
	d, err := namespace.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	err = d.Probe(t.Context())
	if errors.Is(err, driver.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { drivertest.Run(t, drivertest.Config{Open: open}) }

func TestConformanceAsOrdinaryUser(t *testing.T) { drivertest.AsOrdinaryUser(t, "TestConformance") }

func TestOwnNamespaces(t *testing.T) {
	got := drivertest.Inspect(t, open(t), nil)
	// The init and the program.
	if want := []string{"/proc/1", "/proc/2"}; !slices.Equal(got.Visible, want) || got.PID != 2 || got.Group != 1 {
		t.Errorf("sees %q, is %d in group %d", got.Visible, got.PID, got.Group)
	}
	for name, id := range got.Namespaces {
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		own := slices.Contains([]string{"pid", "pid_for_children", "mnt", "ipc", "uts"}, name) || name == "user" && os.Geteuid() != 0
		if own == (id == ours) {
			t.Errorf("namespace %s: %s inside, %s outside", name, id, ours)
		}
	}
	// A name that nobody resolves would cost programs that look up their own a query.
	if host, _ := os.Hostname(); got.Host != host {
		t.Errorf("host name = %q inside, %q outside", got.Host, host)
	}
	if got.UID != os.Geteuid() || got.GID != os.Getegid() {
		t.Errorf("user %d, group %d inside, %d, %d outside", got.UID, got.GID, os.Geteuid(), os.Getegid())
	}
}

// TestInitReaps: somebody waits for the orphans of a program that does not.
func TestInitReaps(t *testing.T) {
	spec, err := drivertest.Spec("orphans")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	spec.Stdout, spec.Stderr = w, w
	p, err := open(t).Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "ready\n" {
		t.Errorf("program printed %q, %v", line, err)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	<-p.Done()
}

func TestOwnNamespacesAsOrdinaryUser(t *testing.T) {
	drivertest.AsOrdinaryUser(t, "TestOwnNamespaces")
}
