package consensus

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// wrapped is a reader as Raft hands it to the state machine.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

// A snapshot that comes late must not take back what has been applied since.
func TestOldSnapshotIsLeftAlone(t *testing.T) {
	f := &fsm{store: state.New(), latch: newLatch(func(error) {}), now: time.Now, applied: func(time.Duration) {}}
	apply := func(index uint64) {
		c := &state.Command{PutService: &state.PutService{Service: *service(fmt.Sprintf("s%d", index))}}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: state.Entry(b)})
	}
	restore := func(b []byte, index uint64) {
		if err := f.Restore(wrapped{openSnapshot{io.NopCloser(bytes.NewReader(b)), index}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(3) {
		apply(i + 1)
	}
	var old bytes.Buffer
	if _, err := f.store.Snapshot().WriteTo(&old); err != nil {
		t.Fatal(err)
	}
	apply(4)
	apply(5)
	want := f.store.View().Hash()
	restore(old.Bytes(), 3)
	if f.store.View().Hash() != want {
		t.Fatal("an old snapshot replaced the state")
	}
	apply(4) // as Raft does then
	apply(5)
	if f.store.View().Hash() != want {
		t.Error("entries were applied twice")
	}
	apply(6)
	if _, ok := f.store.View().Service("s6"); !ok {
		t.Error("the next entry was not applied")
	}
	// What a user restores is older too, but comes after all of it in the log.
	restore(old.Bytes(), 7)
	if _, ok := f.store.View().Service("s4"); ok {
		t.Error("a snapshot that is new in the log was left alone")
	}
	apply(8)
	if _, ok := f.store.View().Service("s8"); !ok {
		t.Error("the entry after a snapshot was not applied")
	}
}
