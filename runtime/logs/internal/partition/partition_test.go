package partition

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var src = source.Source{Ref: api.Ref{Service: "a-b_c", ID: "1"}, Level: api.Stderr}

func create(t testing.TB, offsets map[string]int64) *DB {
	t.Helper()
	d, err := Create(t.Context(), filepath.Join(t.TempDir(), "odd name?#%20.db"), "boot", offsets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func one(first uint64, lines ...string) chunk.Chunk {
	var b chunk.Builder
	for _, l := range lines {
		b.Add(src, time.Unix(1, 0), []byte(l), false)
	}
	return b.Finish(first)
}

func found(t testing.TB, d *DB, f *chunk.Filter, newestFirst bool) (firsts []uint64) {
	t.Helper()
	err := d.Search(t.Context(), f.Terms(), f.After, newestFirst, func(first uint64, _ []byte) bool {
		firsts = append(firsts, first)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return firsts
}

func TestAppendAndReopen(t *testing.T) {
	d := create(t, map[string]int64{"x": 1, "y": 2})
	if n, err := d.Next(t.Context()); n != 0 || err != nil {
		t.Errorf("Next = %d, %v", n, err)
	}
	err := d.Append(t.Context(), []chunk.Chunk{one(10, "a", "b"), one(12, "c")}, map[string]int64{"y": 5, "z": 6}, []string{"x", "w"})
	if err != nil {
		t.Fatal(err)
	}
	// A transaction that fails changes nothing.
	if err := d.Append(t.Context(), []chunk.Chunk{one(13, "d"), one(10, "e")}, map[string]int64{"y": 99}, nil); err == nil {
		t.Fatal("the same number twice")
	}
	for range 2 {
		offsets, err := d.Offsets(t.Context())
		if want := map[string]int64{"y": 5, "z": 6}; err != nil || !maps.Equal(offsets, want) {
			t.Errorf("Offsets = %v, %v; want %v", offsets, err, want)
		}
		if n, err := d.Next(t.Context()); n != 13 || err != nil {
			t.Errorf("Next = %d, %v", n, err)
		}
		if boot, err := d.Boot(t.Context()); boot != "boot" || err != nil {
			t.Errorf("Boot = %q, %v", boot, err)
		}
		if got := found(t, d, &chunk.Filter{Service: "a-b_c", Level: api.Stderr}, true); !slices.Equal(got, []uint64{12, 10}) {
			t.Errorf("newest first: %v", got)
		}
		if got := found(t, d, &chunk.Filter{Words: text.ParseWords("B a")}, false); !slices.Equal(got, []uint64{10}) {
			t.Errorf("by words: %v", got)
		}
		if got := found(t, d, &chunk.Filter{After: 11 + chunk.MaxLines}, false); !slices.Equal(got, []uint64{12}) {
			t.Errorf("after: %v", got)
		}
		path := d.path
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if d, err = Open(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := found(t, d, &chunk.Filter{}, false); len(got) != 2 {
		t.Errorf("after Seal: %v", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(d.path)); len(entries) != 1 || Size(d.path) == 0 {
		t.Errorf("files after Close: %v", entries)
	}
	if _, err := Create(t.Context(), d.path, "", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over it = %v", err)
	}
	if err := errors.Join(Remove(d.path), Remove(d.path)); err != nil || Size(d.path) != 0 {
		t.Errorf("Remove = %v", err)
	}
}

func TestSearchMakesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	d := OpenRead(path)
	if err := d.Search(t.Context(), nil, 0, true, nil); err == nil || IsDamaged(err) {
		t.Errorf("Search = %v", err)
	}
	if err := d.Close(); err != nil || Size(path) != 0 {
		t.Errorf("Close = %v", err)
	}
}

func TestOpenDamaged(t *testing.T) {
	d := create(t, nil)
	for i := range uint64(200) {
		if err := d.Append(t.Context(), []chunk.Chunk{one(1+i, strings.Repeat("word ", 100))}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":      {},
		"garbage":    []byte(strings.Repeat("garbage ", 4096)),
		"bad header": append([]byte("SQLite format 3\x00"), good[100:]...),
		"zeroed":     make([]byte, len(good)),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if d, err := Open(t.Context(), path); !IsDamaged(err) {
				t.Errorf("Open = %v, %v", d, err)
			}
			if err := MoveAside(path); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path + ".torn"); err != nil || Size(path) != 0 {
				t.Errorf("MoveAside: %v", err)
			}
		})
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none")); IsDamaged(err) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing = %v", err)
	}
}

// Whatever somebody searches for is data: the index takes it without an error, and finds
// the line that holds it.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{"a", `"`, `a" OR "b`, "NEAR(a b, 3)", "t:a", "^a*", "-a", "(", "a\x00b", "\xff", "京都", "{t}:x", "::stderr", strings.Repeat("ab ", 300), strings.Repeat("a", 1000)} {
		f.Add(s)
	}
	d := create(f, nil)
	next := uint64(1)
	f.Fuzz(func(t *testing.T, search string) {
		c := one(next, "unrelated", "x "+search+" y")
		next += uint64(c.Lines)
		if err := d.Append(t.Context(), []chunk.Chunk{c}, nil, nil); err != nil {
			t.Fatal(err)
		}
		filter := &chunk.Filter{Words: text.ParseWords(search)}
		hit := false
		err := d.Search(t.Context(), filter.Terms(), 0, true, func(first uint64, body []byte) bool {
			if first != c.First {
				return true
			}
			entries, err := filter.Entries(nil, first, body)
			if err != nil {
				t.Fatal(err)
			}
			hit = slices.ContainsFunc(entries, func(e api.LogEntry) bool { return e.Seq == first+1 })
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		// Bytes that are not UTF-8 stand for themselves in a line, for U+FFFD in a search.
		if !hit && search == strings.ToValidUTF8(search, "") {
			t.Fatalf("%q does not find its own line", search)
		}
	})
}
