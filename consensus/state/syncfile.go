package state

import (
	"slices"

	"github.com/tenement-fleet/tenement/api"
)

func (c *SyncFile) apply(t *txn) (any, error) {
	listed := make(map[string]bool, len(c.Services))
	for i := range c.Services {
		s := c.Services[i]
		if s.Name == "" {
			return nil, noKey("services.name")
		}
		s.Source = api.SourceFile
		t.putService(s)
		listed[s.Name] = true
	}
	for s := range t.services.all() {
		if s.spec.Source == api.SourceFile && !listed[s.spec.Name] {
			t.deleteService(s.spec.Name)
		}
	}
	return nil, c.syncInstances(t)
}

func (c *SyncFile) syncInstances(t *txn) error {
	refs := slices.Clone(c.Instances)
	slices.SortFunc(refs, compareRefs)
	refs = slices.Compact(refs)
	// What goes makes room for what comes, so that renaming the last of max_instances works.
	for i := range t.instances.all() {
		if i.Source != api.SourceFile {
			continue
		}
		if _, ok := slices.BinarySearchFunc(refs, i.Ref(), compareRefs); !ok {
			t.deleteInstance(i.Ref())
		}
	}
	for _, ref := range refs {
		if err := t.declareInstance(ref); err != nil {
			return err
		}
	}
	return nil
}

// declareInstance creates a missing instance, and makes an existing one the file's.
func (t *txn) declareInstance(ref api.Ref) error {
	// Spelt out, because a default that changes in api one day must not change what
	// the commands of today do.
	weight := 100
	i := api.Instance{Service: ref.Service, ID: ref.ID, Desired: api.DesiredRunning, Weight: &weight}
	if have, ok := t.instances.get(ref); ok {
		i = *have
	}
	i.Source = api.SourceFile
	_, err := t.putInstance(i)
	return err
}
