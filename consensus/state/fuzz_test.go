package state

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// FuzzApply feeds lines as commands: no bytes make Apply panic, change anything when it
// fails, or bring about a state that a snapshot does not hold.
func FuzzApply(f *testing.F) {
	var all []byte
	for _, e := range readGolden(f, "testdata/"+goldenName+".log") {
		f.Add(e.Command[1:])
		all = append(append(all, e.Command[1:]...), '\n')
	}
	f.Add(all)
	f.Add([]byte("not a command"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		s := New()
		index := uint64(0)
		var early *View
		var hash [32]byte
		for line := range bytes.SplitSeq(lines, []byte("\n")) {
			index++
			before := s.View()
			res := s.Apply(index, append([]byte{Version}, line...))
			if res.Err != nil && s.View() != before {
				t.Fatalf("%q failed with %v and changed the state", line, res.Err)
			}
			if _, ok := errors.AsType[*api.Error](res.Err); res.Err != nil && !ok && !errors.Is(res.Err, ErrUnreadable) {
				t.Fatalf("%q: got an error of no kind: %v", line, res.Err)
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
		if res := s.Apply(1, b); res.Err != nil && s.View().Index() != 0 {
			t.Fatalf("%q failed with %v and changed the state", b, res.Err)
		}
	})
}

// FuzzRestore feeds snapshots: they restore to something that a snapshot holds, or not
// at all.
func FuzzRestore(f *testing.F) {
	golden, err := os.ReadFile("testdata/" + goldenName + ".snapshot")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)/2])
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
