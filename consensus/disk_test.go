package consensus

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// fakeSpace is a disk of which a test says how much is free.
type fakeSpace struct{ free atomic.Int64 }

func (f *fakeSpace) ask(string) (api.Size, error) {
	n := f.free.Load()
	if n < 0 {
		return 0, errors.New("no such disk")
	}
	return api.Size(n), nil
}

func TestReserve(t *testing.T) {
	const reserve, low = 8 * api.KiB, 4 * api.KiB
	var space fakeSpace
	d := &disk{dir: t.TempDir(), lowWater: low, reserve: reserve, free: space.ask, log: slog.New(slog.DiscardHandler)}
	for i, step := range []struct {
		free               api.Size
		holds, mayBeFilled bool
	}{
		{reserve + low - 1, false, false}, // too little to take it
		{reserve + low, true, true},       // this much is free before it is taken
		{low, true, true},                 // and this much after
		{low - 1, true, false},            // below the low-water mark it stays
		{reserve / 4, true, false},        // to the last
		{reserve/4 - 1, false, false},     // given up
		{reserve + low - 1, false, false}, // what it gave up is not for writes
		{reserve + low, true, true},       // taken back
	} {
		space.free.Store(int64(step.free))
		err := d.writable()
		if ok := err == nil; ok != step.mayBeFilled {
			t.Errorf("step %d, %s free: writable: %v", i, step.free, err)
		}
		if err := d.tend(); err != nil {
			t.Fatal(err)
		}
		if d.holdsReserve() != step.holds {
			t.Errorf("step %d, %s free: holds the reserve: %v", i, step.free, d.holdsReserve())
		}
	}
	if st, err := os.Stat(d.reservePath()); err != nil || st.Size() != int64(reserve) {
		t.Errorf("the reserve: got %v %v", st, err)
	}
	space.free.Store(-1)
	if err := d.writable(); err == nil {
		t.Error("a disk that can't be measured is writable")
	}
	off := &disk{dir: t.TempDir(), free: space.ask}
	if err := errors.Join(off.writable(), off.tend(), off.release()); err != nil {
		t.Errorf("switched off: got %v", err)
	}
}

func TestFill(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/zeros")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's file
	const size = int64(2*api.MiB + 5)
	if err := fill(f, size); err != nil {
		t.Fatal(err)
	}
	if st, _ := f.Stat(); st.Size() != size {
		t.Errorf("got %d bytes, want %d", st.Size(), size)
	}
}

// Below the low-water mark writes are refused with a reason, reads go on, and writes
// resume with the first after space was freed.
func TestDiskFull(t *testing.T) {
	var space fakeSpace
	space.free.Store(int64(api.GiB))
	cfg := testConfig(t, t.TempDir())
	cfg.FreeSpace = space.ask
	n := open(t, cfg)
	putServices(t, n, 0, 2)
	space.free.Store(int64(60 * api.MiB))
	_, err := n.PutService(t.Context(), service("more"), nil)
	if api.CodeOf(err) != api.CodeDiskFull || !strings.Contains(err.Error(), "is short of") || !strings.Contains(err.Error(), "resume by themselves") {
		t.Errorf("got %v", err)
	}
	if _, ok := n.View().Service("s1"); !ok {
		t.Error("reads no longer work")
	}
	putServices(t, n, 0, 1) // what is there already needs no disk
	closeNode(t, n)

	n = open(t, cfg) // a full disk is no reason not to start
	if _, err := n.PutService(t.Context(), service("more"), nil); api.CodeOf(err) != api.CodeDiskFull {
		t.Errorf("got %v", err)
	}
	space.free.Store(int64(api.GiB))
	putService(t, n, service("more"))

	space.free.Store(0)
	cfg = testConfig(t, t.TempDir())
	cfg.FreeSpace = space.ask
	if _, err := Open(t.Context(), cfg); api.CodeOf(err) != api.CodeDiskFull {
		t.Errorf("a first start on a full disk: got %v", err)
	}
}
