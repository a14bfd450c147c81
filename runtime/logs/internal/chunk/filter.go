package chunk

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
)

// ErrCorrupt is returned for a body that no [Builder] made.
var ErrCorrupt = errors.New("read log chunk: malformed")

// Filter selects entries. Zero fields don't restrict.
type Filter struct {
	Service, ID string
	Level       api.Stream
	Words       text.Words
	After       uint64 // only entries with a greater number
}

// Terms are the index terms that a chunk with a matching line has for sure.
func (f *Filter) Terms() []string {
	return append(sourceTerms(f.Service, f.ID, f.Level), f.Words.Terms()...)
}

// Count returns how many entries body holds.
func Count(body []byte) (int, error) {
	n := 0
	for len(body) > 0 {
		g, rest, err := readGroup(body)
		if err != nil {
			return 0, err
		}
		n += g.lines
		body = rest
	}
	return n, nil
}

// Entries appends the selected entries of a chunk to dst, in order.
func (f *Filter) Entries(dst []api.LogEntry, first uint64, body []byte) ([]api.LogEntry, error) {
	var folded []byte
	seq := first
	for len(body) > 0 {
		g, rest, err := readGroup(body)
		if err != nil {
			return dst, err
		}
		body = rest
		end := seq + uint64(g.lines)
		if !f.wants(&g) || end <= f.After+1 {
			seq = end
			continue
		}
		for ; seq < end; seq++ {
			line, partial, err := g.next()
			if err != nil {
				return dst, err
			}
			if seq <= f.After {
				continue
			}
			if !f.Words.Empty() {
				folded = text.Fold(folded[:0], line)
				if !f.Words.Match(folded) {
					continue
				}
			}
			dst = append(dst, g.entry(seq, line, partial))
		}
	}
	return dst, nil
}

func (f *Filter) wants(g *group) bool {
	return (f.Service == "" || f.Service == string(g.service)) &&
		(f.ID == "" || f.ID == string(g.id)) &&
		(f.Level == "" || f.Level == g.level)
}

type group struct {
	lines       int
	level       api.Stream
	service, id []byte
	at          int64
	rest        []byte // the lines not read yet

	// The strings of the entries, made for the first one.
	serviceText, idText string
}

func readGroup(b []byte) (g group, rest []byte, err error) {
	lines, b, ok := uvarint(b)
	if !ok || len(b) == 0 || lines > uint64(len(b)) { // every line takes a byte at least
		return g, nil, ErrCorrupt
	}
	g.lines = int(lines)
	g.level = api.Stdout
	if b[0] == levelByte(api.Stderr) {
		g.level = api.Stderr
	}
	name, b, ok := sized(b[1:])
	if !ok || len(b) < 8 {
		return g, nil, ErrCorrupt
	}
	g.at = int64(binary.LittleEndian.Uint64(b))
	if g.rest, rest, ok = sized(b[8:]); !ok {
		return g, nil, ErrCorrupt
	}
	for i, c := range name {
		if c == ':' {
			g.service, g.id = name[:i], name[i+1:]
			return g, rest, nil
		}
	}
	return g, nil, ErrCorrupt
}

func (g *group) next() (line []byte, partial bool, err error) {
	head, b, ok := uvarint(g.rest)
	if !ok || head>>1 > uint64(len(b)) {
		return nil, false, ErrCorrupt
	}
	n := int(head >> 1)
	g.rest = b[n:]
	return b[:n], head&1 != 0, nil
}

func (g *group) entry(seq uint64, line []byte, partial bool) api.LogEntry {
	if g.serviceText == "" {
		g.serviceText, g.idText = string(g.service), string(g.id)
	}
	return api.LogEntry{
		Seq: seq, Time: time.Unix(0, g.at).UTC(), Service: g.serviceText, Instance: g.idText, Level: g.level,
		Message: strings.ToValidUTF8(string(line), "\uFFFD"), Partial: partial,
	}
}

func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

func sized(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := uvarint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
