// Package text holds what the log store knows about text: where a line ends, which
// terms of it are indexed, and whether it contains the words somebody searches for.
package text

import (
	"bytes"
	"unicode/utf8"
)

// MaxLine is the longest line, in bytes, that stays in one piece.
const MaxLine = 64 << 10

// Cut takes the first line off buf. n is how many bytes it took, its newline included;
// 0 means that buf holds no whole line yet. A line over [MaxLine] comes in pieces, which
// are partial but for the last; no piece ends inside a UTF-8 sequence.
func Cut(buf []byte) (line []byte, n int, partial bool) {
	head := buf[:min(len(buf), MaxLine+1)]
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		return buf[:i], i + 1, false
	}
	if len(buf) <= MaxLine {
		return nil, 0, false
	}
	end := runeBoundary(buf, MaxLine)
	return buf[:end], end, true
}

// runeBoundary moves end back to the start of the UTF-8 sequence that it splits.
func runeBoundary(buf []byte, end int) int {
	for i := end; i > end-utf8.UTFMax && i > 0; i-- {
		if !utf8.RuneStart(buf[i]) {
			continue
		}
		if _, size := utf8.DecodeRune(buf[i:]); i+size > end || !utf8.FullRune(buf[i:]) {
			return i
		}
		break
	}
	return end
}
