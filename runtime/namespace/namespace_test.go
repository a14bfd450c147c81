//go:build linux

package namespace_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/drivertest"
	"github.com/tenement-fleet/tenement/runtime/namespace"
)

func TestMain(m *testing.M) {
	drivertest.Main(m, func() (driver.Driver, error) { return namespace.New() })
}

// open skips where the machine does not allow namespaces.
func open(t *testing.T) driver.Driver {
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
	long := strings.Repeat("x", 50)
	for _, c := range []struct {
		ref  api.Ref
		host string
	}{
		{api.Ref{Service: "notes", ID: "alice"}, "notes-alice"},
		{api.Ref{Service: long, ID: long}, long + "-" + long[:12]},
		{api.Ref{Service: long, ID: "1234567890-_zz"}, long + "-1234567890"},
	} {
		got := drivertest.Inspect(t, open(t), func(spec *driver.Spec) { spec.Ref = c.ref })
		if got.Host != c.host {
			t.Errorf("host name of %s = %q, want %q", c.ref, got.Host, c.host)
		}
		// The init and the program.
		if want := []string{"/proc/1", "/proc/2"}; !slices.Equal(got.Visible, want) || got.PID != 2 || got.Group != 1 {
			t.Errorf("sees %q, is %d in group %d", got.Visible, got.PID, got.Group)
		}
	}
}

func TestOwnNamespacesAsOrdinaryUser(t *testing.T) {
	drivertest.AsOrdinaryUser(t, "TestOwnNamespaces")
}
