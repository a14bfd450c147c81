package chunk

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
	"pgregory.net/rapid"
)

var sources = []source.Source{
	{Ref: api.Ref{Service: "web", ID: "a"}, Level: api.Stdout},
	{Ref: api.Ref{Service: "web", ID: "a"}, Level: api.Stderr},
	{Ref: api.Ref{Service: "web", ID: "b"}, Level: api.Stdout},
	{Ref: api.Ref{Service: "db", ID: "a"}, Level: api.Stdout},
}

// Every entry comes back as it went in, through every filter exactly when a plain
// comparison says so, and then the chunk has all of the filter's terms.
func TestRoundTrip(t *testing.T) {
	var b Builder
	rapid.Check(t, func(t *rapid.T) {
		var want []api.LogEntry
		for i := range rapid.IntRange(1, 40).Draw(t, "lines") {
			src := rapid.SampledFrom(sources).Draw(t, "source")
			at := time.Unix(rapid.Int64Range(0, 3).Draw(t, "at"), 5).UTC()
			line := rapid.StringMatching(`([a-c]{0,2}[ :\xff\n]){0,4}`).Draw(t, "line")
			partial := rapid.Bool().Draw(t, "partial")
			b.Add(src, at, []byte(line), partial)
			want = append(want, api.LogEntry{
				Seq: 100 + uint64(i), Time: at, Service: src.Ref.Service, Instance: src.Ref.ID,
				Level: src.Level, Message: strings.ToValidUTF8(line, "\uFFFD"), Partial: partial,
			})
		}
		c := b.Finish(100)
		if n, err := Count(c.Body); err != nil || n != len(want) || c.Lines != n {
			t.Fatalf("Count = %d, %v; want %d", n, err, len(want))
		}
		search := rapid.SampledFrom([]string{"", "a", "aa b", ":"}).Draw(t, "search")
		f := Filter{
			Service: rapid.SampledFrom([]string{"", "web", "db"}).Draw(t, "service"),
			ID:      rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "id"),
			Level:   rapid.SampledFrom([]api.Stream{"", api.Stdout, api.Stderr}).Draw(t, "level"),
			After:   rapid.Uint64Range(0, 150).Draw(t, "after"),
			Words:   text.ParseWords(search),
		}
		want = slices.DeleteFunc(want, func(e api.LogEntry) bool {
			return f.Service != "" && f.Service != e.Service || f.ID != "" && f.ID != e.Instance ||
				f.Level != "" && f.Level != e.Level || e.Seq <= f.After || !f.Words.Match([]byte(e.Message))
		})
		got, err := f.Entries(nil, c.First, c.Body)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("Entries = %+v, %v\nwant %+v", got, err, want)
		}
		if len(got) > 0 {
			have := bytes.Fields(c.Terms)
			for _, term := range f.Terms() {
				if !slices.ContainsFunc(have, func(h []byte) bool { return string(h) == term }) {
					t.Fatalf("terms %q lack %q", have, term)
				}
			}
		}
	})
}

func TestTermsAreDistinct(t *testing.T) {
	var b Builder
	for round := range 3 {
		for i := range 5000 { // beyond the set's first size
			b.Add(sources[0], time.Unix(0, 0), []byte(strings.Repeat("x", i%700)+" y"), false)
		}
		terms := strings.Fields(string(b.Finish(1).Terms))
		// x…x up to 64 bytes, y, and four for the source.
		if n := len(slices.Compact(slices.Sorted(slices.Values(terms)))); n != len(terms) || n != 64+1+4 {
			t.Fatalf("round %d: %d terms, %d distinct", round, len(terms), n)
		}
	}
}

func FuzzEntries(f *testing.F) {
	var b Builder
	b.Add(sources[0], time.Unix(1, 0), []byte("hello"), false)
	b.Add(sources[1], time.Unix(1, 0), []byte("world"), true)
	f.Add(b.Finish(1).Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := Count(body)
		got, err2 := (&Filter{}).Entries(nil, 1, body)
		for _, e := range []error{err, err2} {
			if e != nil && !errors.Is(e, ErrCorrupt) {
				t.Fatal(e)
			}
		}
		if err == nil && err2 == nil && n != len(got) {
			t.Fatalf("Count = %d, entries = %d", n, len(got))
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var bd Builder
	line := []byte("2026-05-04T12:03:01.123Z INFO http: request handled user=48213 dur=12.3ms req=7f3a9c01")
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		bd.Add(sources[0], now, line, false)
		if bd.Full() {
			bd.Finish(1)
		}
	}
}
