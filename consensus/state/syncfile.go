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
		s.Source, s.SourceNode = api.SourceFile, c.Node
		t.putService(s)
		listed[s.Name] = true
	}
	for s := range t.services.all() {
		if c.owns(s.spec.Source, s.spec.SourceNode) && !listed[s.spec.Name] {
			t.deleteService(s.spec.Name)
		}
	}
	return nil, c.syncInstances(t)
}

// owns reports whether it is for this file to remove what came from source: it declared
// it, or a node did that did not say which it is.
func (c *SyncFile) owns(source api.Source, node string) bool {
	return source == api.SourceFile && (node == c.Node || node == "")
}

func (c *SyncFile) syncInstances(t *txn) error {
	refs := slices.Clone(c.Instances)
	slices.SortFunc(refs, compareRefs)
	refs = slices.Compact(refs)
	// What goes makes room for what comes, so that renaming the last of max_instances works.
	for i := range t.instances.all() {
		if !c.owns(i.Source, i.SourceNode) {
			continue
		}
		if _, ok := slices.BinarySearchFunc(refs, i.Ref(), compareRefs); !ok {
			t.deleteInstance(i)
		}
	}
	for _, ref := range refs {
		if err := t.declareInstance(ref, c.Node); err != nil {
			return err
		}
	}
	return nil
}

// declareInstance creates a missing instance, and makes an existing one the file's.
func (t *txn) declareInstance(ref api.Ref, node string) error {
	// Spelt out, because a default that changes in api one day must not change what
	// the commands of today do.
	weight := 100
	i := api.Instance{Service: ref.Service, ID: ref.ID, Desired: api.DesiredRunning, Weight: &weight}
	if have, ok := t.instances.get(ref); ok {
		if have.Fleet != "" {
			return memberConflict("declare", have)
		}
		i = *have
	}
	i.Source, i.SourceNode = api.SourceFile, node
	_, err := t.putInstance(i)
	return err
}
