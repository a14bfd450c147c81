package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func BenchmarkEncode(b *testing.B) {
	c := putService(testService("app"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	c := putService(testService("app"))
	entry := Entry(encode(b, c))
	b.SetBytes(int64(len(entry)))
	b.ReportAllocs()
	for b.Loop() {
		dec, err := newDecoder(entry)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := dec.next(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply applies entries of 64 changed services each.
func BenchmarkApply(b *testing.B) {
	s := New()
	var entries [2][]byte
	for n := range entries {
		var commands [][]byte
		for i := range 64 {
			c := putService(testService(fmt.Sprint("app", i), func(s *api.Service) { s.MaxRestarts = n + 1 }))
			commands = append(commands, encode(b, c))
		}
		entries[n] = Entry(commands...)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Apply(entries[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fill declares n instances as sleepers.
func fill(tb testing.TB, n int) *driven {
	d := drive(tb)
	d.must(Command{PutNode: &PutNode{Node: testNode("n1")}})
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = n })))
	place := &Place{}
	for i := range n {
		id := fmt.Sprintf("tenant-%06d", i)
		d.must(putInstance(testInstance("app", id, func(i *api.Instance) { i.Desired = api.DesiredAsleep })))
		place.Placements = append(place.Placements, Placement{Ref: ref("app", id), Node: "n1", Generation: 1})
		if len(place.Placements) == 1000 || i == n-1 {
			d.must(Command{Place: place})
			place = &Place{}
		}
	}
	d.log = nil
	return d
}

// BenchmarkInstanceMemory reports the heap that a declared, placed instance costs.
func BenchmarkInstanceMemory(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		before := heap()
		d := fill(b, n)
		d.events = ring{}
		b.ReportMetric(float64(heap()-before)/n, "B/instance")
		runtime.KeepAlive(d)
	}
}

// million is a state of a million instances on 1,000 nodes, each observed once.
func million(tb testing.TB) *Store {
	s := New()
	r := restorer{data: newData(), weights: s.weights}
	r.index, r.stateVersion = 1, StateVersion
	for n := range 1000 {
		node := testNode(fmt.Sprintf("2f1b6f0e-0000-4000-8000-%012d", n))
		r.setNode(&node)
	}
	for k := range 10 {
		name := fmt.Sprint("service-", k)
		spec := testService(name, func(s *api.Service) { s.MaxInstances = 1_000_000 })
		r.services = r.services.put(&service{spec: &spec})
		for n := range 100_000 {
			i := testInstance(name, fmt.Sprintf("tenant-%06d", n))
			i.Revision, i.CreatedAt, i.Generation = uint64(n+1), at(n), 1 //nolint:gosec // counts
			i.Node = fmt.Sprintf("2f1b6f0e-0000-4000-8000-%012d", n*7%1000)
			i.Observed = &api.Observed{State: api.StateAsleep, Since: at(n), ServiceRevision: 3, Generation: 1, Desired: api.DesiredRunning}
			if err := r.instance(&i); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := r.finish(r.nodes.len+r.services.len+len(r.read), r.nodes.len+r.services.len+len(r.read)); err != nil {
		tb.Fatal(err)
	}
	s.publish(r.data, nil)
	return s
}

// rss returns what the process occupies now, and at most so far, in MB.
func rss(tb testing.TB) (now, peak float64) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			now = kb / 1024
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			peak = kb / 1024
		}
	}
	return now, peak
}

// BenchmarkMillion says what a million instances cost: the bars are 5 s for a snapshot,
// 10 s to restore it and 1.5 GB. Restoring is measured alone, as at the start of a node,
// and beside the state that it replaces.
func BenchmarkMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "snapshot")
	timed := func(name string, f func() error) {
		start, cpu := time.Now(), cpuTime(b)
		if err := f(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), name+"-s")
		b.ReportMetric((cpuTime(b) - cpu).Seconds(), name+"-cpu-s")
		_, peak := rss(b)
		b.ReportMetric(peak, name+"-peak-MB")
	}
	for b.Loop() {
		s := million(b)
		now, _ := rss(b)
		b.ReportMetric(now, "state-MB")
		resetPeak()
		timed("write", func() error {
			f, err := os.Create(path) //nolint:gosec // in a directory of the test's
			if err != nil {
				return err
			}
			_, err = s.Snapshot().WriteTo(f)
			return errors.Join(err, f.Sync(), f.Close())
		})
		restore := func() error {
			f, err := os.Open(path) //nolint:gosec // in a directory of the test's
			if err != nil {
				return err
			}
			return errors.Join(s.Restore(f), f.Close())
		}
		hash := s.View().Hash()
		resetPeak()
		timed("replace", restore)
		if s.View().Hash() != hash {
			b.Fatal("restored something else")
		}
		s = New()
		debug.FreeOSMemory()
		resetPeak()
		timed("restore", restore)
		runtime.KeepAlive(s)
	}
}

// cpuTime is what the process has used: it says more than the clock on a busy machine.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resetPeak forgets the peak of the memory that was occupied so far.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// BenchmarkSnapshot writes and restores 100,000 instances.
func BenchmarkSnapshot(b *testing.B) {
	d := fill(b, 100_000)
	var buf bytes.Buffer
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			buf.Reset()
			if _, err := d.View().WriteTo(&buf); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(buf.Len()))
	})
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(int64(buf.Len()))
		for b.Loop() {
			if err := New().Restore(bytes.NewReader(buf.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
