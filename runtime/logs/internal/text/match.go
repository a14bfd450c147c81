package text

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Words is a parsed search: the words that a line must all contain. A word occurs where
// the line, in lower case, has it as a whole: "err" is not in "error", "10.0.0.1" is in
// "from 10.0.0.1:80".
type Words struct {
	words []word
	terms []string
}

type word struct {
	folded []byte
	// whole says for either end whether a term may not go on beyond it.
	wholeStart, wholeEnd bool
}

// ParseWords splits a search at white space. The zero Words matches every line.
func ParseWords(search string) Words {
	var w Words
	seen := map[string]bool{}
	for _, f := range strings.Fields(strings.ToValidUTF8(search, "\uFFFD")) {
		folded := Fold(nil, []byte(f))
		first, _ := classAt(folded, 0)
		last := classBefore(folded, len(folded))
		w.words = append(w.words, word{folded, first == inTerm, last == inTerm})
		Terms(folded, func(t []byte) {
			if !seen[string(t)] {
				seen[string(t)] = true
				w.terms = append(w.terms, string(t))
			}
		})
	}
	return w
}

// Terms are the index terms that every matching line has; none when the search holds
// punctuation only.
func (w Words) Terms() []string { return w.terms }

// Empty reports whether every line matches.
func (w Words) Empty() bool { return len(w.words) == 0 }

// Match reports whether the folded line contains all the words.
func (w Words) Match(folded []byte) bool {
	for i := range w.words {
		if !w.words[i].in(folded) {
			return false
		}
	}
	return true
}

func (w *word) in(line []byte) bool {
	for from := 0; ; {
		i := bytes.Index(line[from:], w.folded)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(w.folded)
		startOK := !w.wholeStart || classBefore(line, i) != inTerm
		endOK := !w.wholeEnd || end == len(line) || firstClass(line[end:]) != inTerm
		if startOK && endOK {
			return true
		}
		from = i + 1
	}
}

func firstClass(b []byte) class {
	c, _ := classAt(b, 0)
	return c
}

// classBefore is the class of the character that ends at i; separator at the start.
func classBefore(b []byte, i int) class {
	if i == 0 {
		return separator
	}
	if b[i-1] < utf8.RuneSelf {
		return asciiClass[b[i-1]]
	}
	r, size := utf8.DecodeLastRune(b[:i])
	if size == 1 {
		return separator
	}
	return classOf(r)
}
