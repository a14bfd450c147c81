package acctest

import (
	"testing"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
)

// Programs are those of a cluster that never accept a connection.
type Programs struct {
	// Started gets a value for every start.
	Started chan struct{}
	machine *fake.Machine
}

// Silent returns programs for a cluster's Config.
func Silent(t *testing.T) *Programs {
	p := &Programs{Started: make(chan struct{}, 1000)}
	p.machine = fake.NewMachine(func(driver.Spec) fake.Behaviour {
		p.Started <- struct{}{}
		return fake.Behaviour{}
	})
	t.Cleanup(p.machine.Close)
	return p
}

// Config is that of a cluster with these programs.
func (p *Programs) Config() Config { return Config{Machine: p.machine} }
