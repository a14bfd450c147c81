package state

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var words = &order[string, string]{func(s string) string { return s[:1+len(s)/2] }, strings.Compare}

// check fails unless the tree is ordered, balanced and has its length.
func (t tree[K, V]) check(tb rapid.TB) {
	var walk func(n *node[V]) (count int, height int8)
	walk = func(n *node[V]) (int, int8) {
		if n == nil {
			return 0, 0
		}
		lc, lh := walk(n.left)
		rc, rh := walk(n.right)
		if d := lh - rh; d < -1 || d > 1 || n.height != 1+max(lh, rh) {
			tb.Fatalf("unbalanced: left %d, right %d, height %d", lh, rh, n.height)
		}
		return lc + rc + 1, n.height
	}
	if count, _ := walk(t.root); count != t.len {
		tb.Fatalf("got len %d, counted %d", t.len, count)
	}
}

func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-d]{1,6}`)
		tr, model := words.tree(), map[string]string{}
		type version struct {
			tree  tree[string, string]
			model map[string]string
		}
		var versions []version
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			w := word.Draw(t, "word")
			if rapid.Bool().Draw(t, "put") {
				tr = tr.put(w)
				model[words.key(w)] = w
			} else {
				tr = tr.delete(words.key(w))
				delete(model, words.key(w))
			}
			tr.check(t)
			versions = append(versions, version{tr, maps.Clone(model)})
		}
		// Every version is still what it was when it was made.
		for _, v := range versions {
			keys := slices.Sorted(maps.Keys(v.model))
			var want []string
			for _, k := range keys {
				want = append(want, v.model[k])
			}
			if got := slices.Collect(v.tree.all()); !slices.Equal(got, want) {
				t.Fatalf("all: got %v, want %v", got, want)
			}
			k := word.Draw(t, "key")
			first, _ := slices.BinarySearch(keys, k)
			if got := slices.Collect(v.tree.from(k)); !slices.Equal(got, want[first:]) {
				t.Fatalf("from %q: got %v, want %v", k, got, want[first:])
			}
			got, ok := v.tree.get(k)
			if w, wantOK := v.model[k]; got != w || ok != wantOK {
				t.Fatalf("get %q: got %q %v, want %q %v", k, got, ok, w, wantOK)
			}
		}
	})
}

func TestTreeStopsWhenAsked(t *testing.T) {
	tr := words.tree()
	for _, w := range []string{"a", "b", "c", "d", "e"} {
		tr = tr.put(w)
	}
	for name, seq := range map[string]func(func(string) bool){"all": tr.all(), "from": tr.from("a")} {
		n := 0
		for range seq {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%s: yielded %d after the second", name, n)
		}
	}
}

func TestTreeDeleteOfAbsentKeyIsTheSameTree(t *testing.T) {
	tr := words.tree().put("b").put("a")
	if got := tr.delete("zz"); got.root != tr.root || got.len != 2 {
		t.Error("the tree was rebuilt for nothing")
	}
}

func TestTreeBuild(t *testing.T) {
	var values []string
	for n := range 300 {
		tr := words.build(values)
		tr.check(t)
		if got := slices.Collect(tr.all()); !slices.Equal(got, values) {
			t.Fatalf("got %v, want %v", got, values)
		}
		values = append(values, strings.Repeat("x", 2*n))
	}
}
