package chunk

import (
	"bytes"
	"hash/maphash"
)

// termSet is a set of terms that keeps them as one text and allocates nothing once it
// has grown to the size of a usual chunk.
type termSet struct {
	text  []byte // the terms, each followed by a blank
	slots []termSlot
	used  int
	gen   uint32 // slots of other generations are free: reset costs nothing
	seed  maphash.Seed
}

type termSlot struct {
	gen      uint32
	off, len uint32 // in text
}

func (s *termSet) add(term []byte) {
	if s.used*2 >= len(s.slots) {
		s.grow()
	}
	slot := s.find(term)
	if slot.gen == s.gen {
		return
	}
	*slot = termSlot{s.gen, uint32(len(s.text)), uint32(len(term))}
	s.text = append(append(s.text, term...), ' ')
	s.used++
}

// find returns the slot that holds term, or the free one where it belongs.
func (s *termSet) find(term []byte) *termSlot {
	mask := uint64(len(s.slots) - 1)
	for i := maphash.Bytes(s.seed, term) & mask; ; i = (i + 1) & mask {
		slot := &s.slots[i]
		if slot.gen != s.gen || bytes.Equal(s.text[slot.off:slot.off+slot.len], term) {
			return slot
		}
	}
}

func (s *termSet) grow() {
	old := s.slots
	if old == nil {
		s.seed, s.gen = maphash.MakeSeed(), 1
	}
	s.slots = make([]termSlot, max(1024, 2*len(old)))
	for _, slot := range old {
		if slot.gen == s.gen {
			*s.find(s.text[slot.off : slot.off+slot.len]) = slot
		}
	}
}

func (s *termSet) reset() {
	s.text, s.used = s.text[:0], 0
	s.gen++
	if s.gen == 0 { // after 4 billion chunks the generations come round again
		clear(s.slots)
		s.gen = 1
	}
}
