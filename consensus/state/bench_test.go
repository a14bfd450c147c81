package state

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

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
