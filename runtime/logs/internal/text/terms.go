package text

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxTerm bounds a term in bytes: of anything longer (base64, hex dumps) only the
// beginning is indexed.
const maxTerm = 64

type class uint8

const (
	separator class = iota // ends a term
	inTerm                 // letters, digits and what combines with them
	ideograph              // scripts without spaces: every character is a term
)

func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' {
			return inTerm
		}
		return separator
	case r == utf8.RuneError:
		return separator
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
		return ideograph
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
		return inTerm
	default:
		return separator
	}
}

// Fold appends b in lower case to dst. Bytes that are not UTF-8 stay as they are.
func Fold(dst, b []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, len(b))
	out := dst[start : start+len(b)]
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return foldRunes(dst[:start+i], b[i:])
		}
		out[i] = asciiLower[c]
	}
	return dst[:start+len(b)]
}

func foldRunes(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, b[i])
		} else {
			dst = utf8.AppendRune(dst, unicode.ToLower(r))
		}
		i += size
	}
	return dst
}

// Terms calls yield for every term of the folded text b, in order, repeats included.
// A term is a run of letters and digits, or one ideograph, and at most 64 bytes long.
func Terms(b []byte, yield func(term []byte)) {
	start := -1
	flush := func(end int) {
		if start >= 0 {
			yield(cutTerm(b[start:end]))
			start = -1
		}
	}
	for i := 0; i < len(b); {
		if c := b[i]; c < utf8.RuneSelf { // as below, for almost all bytes there are
			if asciiClass[c] == separator {
				flush(i)
			} else if start < 0 {
				start = i
			}
			i++
			continue
		}
		c, size := classAt(b, i)
		switch c {
		case inTerm:
			if start < 0 {
				start = i
			}
		case ideograph:
			flush(i)
			yield(b[i : i+size])
		default:
			flush(i)
		}
		i += size
	}
	flush(len(b))
}

// asciiClass and asciiLower spare the common bytes the ways of the others.
var asciiClass, asciiLower = func() (classes [utf8.RuneSelf]class, lower [utf8.RuneSelf]byte) {
	for i := range classes {
		classes[i] = classOf(rune(i))
		lower[i] = byte(unicode.ToLower(rune(i)))
	}
	return classes, lower
}()

func classAt(b []byte, i int) (class, int) {
	if b[i] < utf8.RuneSelf {
		return asciiClass[b[i]], 1
	}
	r, size := utf8.DecodeRune(b[i:])
	if size == 1 {
		return separator, 1
	}
	return classOf(r), size
}

func cutTerm(term []byte) []byte {
	if len(term) <= maxTerm {
		return term
	}
	return term[:runeBoundary(term, maxTerm)]
}
