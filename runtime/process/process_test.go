//go:build linux

package process_test

import (
	"testing"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/drivertest"
	"github.com/tenement-fleet/tenement/runtime/process"
)

func TestMain(m *testing.M) { drivertest.Main(m, process.New) }

func open(t testing.TB) driver.Driver {
	t.Helper()
	d, err := process.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { drivertest.Run(t, drivertest.Config{Open: open}) }

func TestConformanceAsOrdinaryUser(t *testing.T) { drivertest.AsOrdinaryUser(t, "TestConformance") }
