// Package chunk packs log lines into the rows of the store. A chunk holds up to
// [MaxLines] consecutive entries of any sources, grouped by source and time, and the
// set of terms by which the full-text index finds it; see DESIGN.md of package logs.
package chunk

import (
	"encoding/binary"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
)

// A chunk is full when it has that many lines or bytes. More lines a chunk make
// indexing cheaper and rare combinations of frequent words dearer to find.
const (
	MaxLines = 64
	maxBytes = 32 << 10
)

// Chunk is one row: the entries First, First+1, … First+Lines-1.
type Chunk struct {
	First uint64
	Lines int
	Body  []byte
	// Terms is every distinct term of the chunk, separated by blanks.
	Terms []byte
}

// Builder collects lines. The zero Builder is ready for use.
//
// Body layout: groups, each
//
//	uvarint lines, byte level, uvarint name length, name "service:id",
//	8 bytes unix nanoseconds, uvarint length of what follows
//	lines × (uvarint length<<1 | partial, bytes)
type Builder struct {
	src    source.Source
	at     int64
	count  int // lines in the open group
	lines  int // lines in all
	group  []byte
	body   []byte
	folded []byte
	terms  termSet
}

// Len returns how many lines the chunk has so far.
func (b *Builder) Len() int { return b.lines }

// Full reports whether the chunk should be finished before more is added.
func (b *Builder) Full() bool {
	return b.lines >= MaxLines || len(b.body)+len(b.group) >= maxBytes
}

// Add appends one line that src printed and ten saw at the given time.
func (b *Builder) Add(src source.Source, at time.Time, line []byte, partial bool) {
	nanos := at.UnixNano()
	if b.count == 0 || b.src != src || b.at != nanos {
		b.endGroup()
		b.src, b.at = src, nanos
		for _, t := range sourceTerms(src.Ref.Service, src.Ref.ID, src.Level) {
			b.terms.add([]byte(t))
		}
	}
	head := uint64(len(line)) << 1
	if partial {
		head |= 1
	}
	b.group = binary.AppendUvarint(b.group, head)
	b.group = append(b.group, line...)
	b.folded = text.Fold(b.folded[:0], line)
	text.Terms(b.folded, b.terms.add)
	b.count++
	b.lines++
}

func (b *Builder) endGroup() {
	if b.count == 0 {
		return
	}
	name := b.src.Ref.String()
	b.body = binary.AppendUvarint(b.body, uint64(b.count))
	b.body = append(b.body, levelByte(b.src.Level))
	b.body = binary.AppendUvarint(b.body, uint64(len(name)))
	b.body = append(b.body, name...)
	b.body = binary.LittleEndian.AppendUint64(b.body, uint64(b.at))
	b.body = binary.AppendUvarint(b.body, uint64(len(b.group)))
	b.body = append(b.body, b.group...)
	b.group, b.count = b.group[:0], 0
}

// Finish returns the chunk, whose first entry gets the given number, and empties the
// builder. The chunk owns its memory.
func (b *Builder) Finish(first uint64) Chunk {
	b.endGroup()
	c := Chunk{First: first, Lines: b.lines, Body: append([]byte(nil), b.body...), Terms: append([]byte(nil), b.terms.text...)}
	b.body, b.lines = b.body[:0], 0
	b.terms.reset()
	return c
}

func levelByte(l api.Stream) byte {
	if l == api.Stderr {
		return 'e'
	}
	return 'o'
}

// sourceTerms are the terms that stand for where a line came from. All hold a colon,
// which no term of a text does. Empty parts are left out.
func sourceTerms(service, id string, level api.Stream) []string {
	var terms []string
	if service != "" && id != "" {
		terms = append(terms, service+":"+id)
	}
	if service != "" {
		terms = append(terms, service+":")
	}
	if id != "" {
		terms = append(terms, ":"+id)
	}
	if level != "" {
		terms = append(terms, "::"+string(level))
	}
	return terms
}
