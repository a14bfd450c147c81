package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestPool(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *Pool {
		t.Helper()
		p, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open()
	if p.Take("a") {
		t.Error("took from an empty pool")
	}
	file("a", "one")
	file("b", "two")
	for _, name := range []string{"a", "b", "gone"} {
		if err := p.Give(name); err != nil {
			t.Fatal(err)
		}
	}
	p = open()
	file("c", "three")
	if p.Take("c") {
		t.Error("replaced a file")
	}
	if err := p.Give("c"); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if got := p.Take(fmt.Sprint("new", i)); got != (i < 3) {
			t.Errorf("Take %d = %v", i, got)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "new0")); string(b) != "three" || err != nil {
		t.Errorf("took %q, %v", b, err)
	}
	for i := range most + 10 {
		name := fmt.Sprint("many", i)
		file(name, "")
		if err := p.Give(name); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != most+3 {
		t.Errorf("%d files kept, want %d free and 3", len(entries), most)
	}
}
