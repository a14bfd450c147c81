package route

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// entry is the simplest item.
type entry struct{ k string }

func (e *entry) key() string { return e.k }

// TestTrieIsAMap compares the trie with a map under random changes, and checks that no
// change is seen through an older root; once with good hashes, once with hashes that
// collide in all bits or nearly so.
func TestTrieIsAMap(t *testing.T) {
	t.Run("good hash", func(t *testing.T) { rapid.Check(t, trieIsAMap(newHasher())) })
	t.Run("bad hash", func(t *testing.T) {
		rapid.Check(t, trieIsAMap(func(key string) uint64 { return uint64(len(key)%2) << 59 }))
	})
}

func trieIsAMap(h hasher) func(*rapid.T) {
	return func(t *rapid.T) {
		model := make(map[string]*entry)
		var root *node[*entry]
		if keys := rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,3}`), rapid.ID).Draw(t, "initial"); len(keys) > 0 {
			items := make([]*entry, len(keys))
			for i, k := range keys {
				items[i] = &entry{k}
				model[k] = items[i]
			}
			root = build(h, items)
		}
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			old, snapshot := root, maps.Clone(model)
			k := rapid.StringMatching(`[a-c]{1,3}`).Draw(t, "key")
			if rapid.Bool().Draw(t, "put") {
				e := &entry{k}
				root, model[k] = root.with(h, e), e
			} else {
				root = root.without(h, k)
				delete(model, k)
			}
			compare(t, h, old, snapshot)
			compare(t, h, root, model)
		}
	}
}

func compare(t *rapid.T, h hasher, root *node[*entry], model map[string]*entry) {
	for k, want := range model {
		if got, ok := root.get(h(k), k); !ok || got != want {
			t.Fatalf("get %q = %v, %v; want %v", k, got, ok, want)
		}
	}
	if got, ok := root.get(h("absent!"), "absent!"); ok {
		t.Fatalf("found %v for an absent key", got)
	}
	var got []string
	for e := range root.all() {
		got = append(got, e.k)
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
		t.Fatalf("all = %q, want %q", got, want)
	}
	if len(model) == 0 && root != nil {
		t.Fatal("an empty trie is not nil")
	}
}
