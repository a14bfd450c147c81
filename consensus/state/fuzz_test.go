package state

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// FuzzApply feeds lines as entries: no bytes make Apply panic, change anything when a
// command fails, or bring about a state that a snapshot does not hold.
func FuzzApply(f *testing.F) {
	for _, g := range goldens {
		var all []byte
		for _, e := range readGolden(f, "testdata/"+g.name+".log") {
			f.Add(e[1:])
			all = append(all, e[1:]...)
		}
		f.Add(all)
	}
	f.Add([]byte("not a command"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		s := New()
		var early *View
		var hash [32]byte
		for line := range bytes.SplitSeq(lines, []byte("\n")) {
			before := s.View()
			res, err := s.Apply(Entry(line))
			if err != nil && !errors.Is(err, ErrUnreadable) {
				t.Fatalf("%q: got %v", line, err)
			}
			if len(res[0]) == 1 && res[0][0].Err != nil && s.View() != before {
				t.Fatalf("%q failed with %v and changed the state", line, res[0][0].Err)
			}
			for _, r := range res[0] {
				if _, ok := errors.AsType[*api.Error](r.Err); r.Err != nil && !ok {
					t.Fatalf("%q: got an error of no kind: %v", line, r.Err)
				}
			}
			if early == nil && s.View().Index() > 0 {
				early, hash = s.View(), s.View().Hash()
			}
		}
		if early != nil && early.Hash() != hash {
			t.Fatalf("a view has changed, to\n%s", snapshotOf(t, early))
		}
		checkConsistent(t, s.View())
		restored := New()
		if err := restored.Restore(bytes.NewReader(snapshotOf(t, s.View()))); err != nil {
			t.Fatal(err)
		}
		checkConsistent(t, restored.View())
		if restored.View().Hash() != s.View().Hash() {
			t.Fatalf("the snapshot of\n%s\nrestores to\n%s", snapshotOf(t, s.View()), snapshotOf(t, restored.View()))
		}
	})
}

// FuzzRaw feeds bytes without the format's first byte being given.
func FuzzRaw(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{Version})
	f.Add([]byte{Version + 1, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		if res, err := s.Apply(b); err != nil && len(res[0]) == 0 && s.View().Index() != 0 {
			t.Fatalf("%q failed with %v and changed the state", b, err)
		}
	})
}

// FuzzRestore feeds snapshots: they restore to something that a snapshot holds, or not
// at all.
func FuzzRestore(f *testing.F) {
	for _, g := range goldens {
		golden, err := os.ReadFile("testdata/" + g.name + ".snapshot")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(golden)
		f.Add(golden[:len(golden)/2])
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		before := s.View()
		if err := s.Restore(bytes.NewReader(b)); err != nil {
			if s.View() != before || !errors.Is(err, ErrUnreadable) {
				t.Fatalf("a failed restore changed the state, or has no kind: %v", err)
			}
			return
		}
		checkConsistent(t, s.View())
		again := New()
		if err := again.Restore(bytes.NewReader(snapshotOf(t, s.View()))); err != nil {
			t.Fatal(err)
		}
		if again.View().Hash() != s.View().Hash() {
			t.Fatal("a snapshot of a restored snapshot is another state")
		}
	})
}
