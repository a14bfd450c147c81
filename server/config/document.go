package config

import (
	"errors"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file: its values, and the line of each.
type document struct {
	root map[string]any
	at   *position
}

// position is where a key stands and what is below it.
type position struct {
	line  int
	keys  map[string]*position
	items []int // lines of an array's elements
}

func (p *position) key(name string, line int) *position {
	if p.keys == nil {
		p.keys = make(map[string]*position)
	}
	k := p.keys[name]
	if k == nil {
		k = &position{line: line}
		p.keys[name] = k
	}
	return k
}

func emptyDocument() *document { return &document{at: &position{}} }

// parseDocument reads TOML. A file that is none has one problem: what follows the first
// can't be understood.
func parseDocument(data []byte) (*document, *Problem) {
	doc := emptyDocument()
	if err := toml.Unmarshal(data, &doc.root); err != nil {
		p := &Problem{Got: strings.TrimPrefix(err.Error(), "toml: "), Want: "a TOML file"}
		if de, ok := errors.AsType[*toml.DecodeError](err); ok {
			p.Line, _ = de.Position()
			p.Key = dotted(keyAt(data, p.Line))
		}
		return nil, p
	}
	eachExpression(data, func(x *indexer, table []string, e *unstable.Node) {
		at := doc.at
		for _, name := range table {
			at = at.key(name, 0) // its line was noted with its header
		}
		if e.Kind == unstable.KeyValue {
			x.keyValue(at, e, 0)
		} else {
			x.descend(doc.at, e.Key(), 0)
		}
	})
	return doc, nil
}

// keyAt returns the key that is given at the line; nil when there is none.
func keyAt(data []byte, line int) []string {
	var at []string
	eachExpression(data, func(x *indexer, table []string, e *unstable.Node) {
		if _, l := x.descend(&position{}, e.Key(), 0); l == line {
			at = slices.Concat(table, parts(e.Key()))
		}
	})
	return at
}

// eachExpression calls f for every header (table nil) and every assignment below a table,
// up to the first that can't be understood.
func eachExpression(data []byte, f func(x *indexer, table []string, e *unstable.Node)) {
	newlines := newlinesOf(data)
	x := &indexer{lineOf: func(offset uint32) int { return 1 + sort.SearchInts(newlines, int(offset)) }}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			f(x, nil, e)
			table = parts(e.Key())
		case unstable.KeyValue:
			f(x, table, e)
		default: // nothing else stands at the top
		}
	}
}

func parts(key unstable.Iterator) []string {
	var out []string
	for key.Next() {
		out = append(out, string(key.Node().Data))
	}
	return out
}

func newlinesOf(data []byte) []int {
	var at []int
	for i, c := range data {
		if c == '\n' {
			at = append(at, i)
		}
	}
	return at
}

// indexer notes the line of every key.
type indexer struct{ lineOf func(offset uint32) int }

// descend notes a dotted key below p and returns the position and line of its last part.
func (x *indexer) descend(p *position, key unstable.Iterator, line int) (*position, int) {
	for key.Next() {
		n := key.Node()
		if n.Raw.Length > 0 {
			line = x.lineOf(n.Raw.Offset)
		}
		p = p.key(string(n.Data), line)
	}
	return p, line
}

func (x *indexer) keyValue(table *position, n *unstable.Node, line int) {
	p, line := x.descend(table, n.Key(), line)
	x.value(p, n.Value(), line)
}

func (x *indexer) value(p *position, v *unstable.Node, line int) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			x.keyValue(p, it.Node(), line)
		}
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			if raw := it.Node().Raw; raw.Length > 0 {
				line = x.lineOf(raw.Offset)
			}
			p.items = append(p.items, line)
		}
	default:
	}
}

// line returns the line of the key at path, or of the nearest one above it; 0 when the
// file says nothing of it. A last part "[n]" is an array's element.
func (d *document) line(path []string) int {
	p := d.at
	for _, name := range path {
		if i, ok := element(name); ok && i < len(p.items) {
			return p.items[i]
		}
		below := p.keys[name]
		if below == nil {
			break
		}
		p = below
	}
	return p.line
}

// index is the part of a path that stands for an array's nth element.
func index(n int) string { return "[" + strconv.Itoa(n) + "]" }

func element(part string) (int, bool) {
	if !strings.HasPrefix(part, "[") || !strings.HasSuffix(part, "]") {
		return 0, false
	}
	n, err := strconv.Atoi(part[1 : len(part)-1])
	return n, err == nil && n >= 0
}

// dotted writes a path as it would be written in the file.
func dotted(path []string) string {
	var b strings.Builder
	for i, part := range path {
		if _, ok := element(part); ok {
			b.WriteString(part)
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		if bareKey(part) {
			b.WriteString(part)
		} else {
			b.WriteString(strconv.Quote(part))
		}
	}
	return b.String()
}

func bareKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
