package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What tenants print, and names that come from a server, must not steer the terminal
// that shows them: control characters, and those that reorder or hide text, are escaped.

// hostile reports whether a rune may change more of a terminal than the cell it stands in.
func hostile(r rune) bool {
	switch {
	case r < ' ' || 0x7f <= r && r <= 0x9f: // C0, DEL, C1 (U+009B starts a sequence too)
		return true
	case 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c: // order
		return true
	case r == 0x2028, r == 0x2029, r == 0xfeff: // line ends, invisible
		return true
	default:
		return false
	}
}

// cleanText returns s with hostile runes and bytes that are no UTF-8 escaped as Go would
// (\x1b, \u202e).
func cleanText(s string) string { return escape(s, false) }

// cleanLine is cleanText for a line of output, which may hold tabs.
func cleanLine(s string) string { return escape(s, true) }

func escape(s string, tabs bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return hostile(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\t' && tabs:
			b.WriteByte('\t')
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			} else {
				b.WriteRune(r)
			}
		case hostile(r) && r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cleanJSON escapes, the JSON way, what encoding/json leaves in strings and a terminal
// may act on. The document stays the same. b is indented or compact JSON, where
// characters beyond ASCII stand in strings only.
func cleanJSON(b []byte) []byte {
	bad := func(r rune) bool { return r >= 0x7f && hostile(r) }
	if !bytes.ContainsFunc(b, bad) {
		return b
	}
	var out bytes.Buffer
	for _, r := range string(b) {
		if bad(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.Bytes()
}

// cells returns how many columns of a terminal s takes.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += runeCells(r)
	}
	return n
}

func runeCells(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case 0x1100 <= r && r <= 0x115f, 0x2e80 <= r && r <= 0xa4cf, 0xac00 <= r && r <= 0xd7a3,
		0xf900 <= r && r <= 0xfaff, 0xfe30 <= r && r <= 0xfe6f, 0xff00 <= r && r <= 0xff60,
		0xffe0 <= r && r <= 0xffe6, 0x1f300 <= r && r <= 0x1faff, 0x20000 <= r && r <= 0x3fffd:
		return 2
	default:
		return 1
	}
}

// fit returns s cut to at most width cells, with an ellipsis where it was cut.
func fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if cells(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n+runeCells(r) > width-1 {
			return s[:i] + "…"
		}
		n += runeCells(r)
	}
	return s
}

// wrap breaks text between words so that no line takes more than width cells (0: any),
// and indents the first line and those that follow.
func wrap(text string, width int, first, next string) string {
	var b strings.Builder
	b.WriteString(first)
	at, begin := cells(first), true
	for word := range strings.FieldsSeq(text) {
		n := cells(word)
		if !begin && width > 0 && at+1+n > width {
			b.WriteString("\n" + next)
			at, begin = cells(next), true
		}
		if !begin {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at, begin = at+n, false
	}
	return b.String()
}

// ago tells a length of time as roughly as people want to know it: "12s", "5m", "3h", "20d".
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
