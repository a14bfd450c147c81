package text

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCut(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	tests := []struct {
		name, in, line string
		n              int
		partial        bool
	}{
		{"empty", "", "", 0, false},
		{"no newline yet", "abc", "", 0, false},
		{"line", "abc\ndef", "abc", 4, false},
		{"empty line", "\nabc", "", 1, false},
		{"carriage return stays", "a\r\n", "a\r", 3, false},
		{"longest whole line", long + "\n", long, MaxLine + 1, false},
		{"longest, newline not yet there", long, "", 0, false},
		{"one too long", long + "y\n", long, MaxLine, true},
		{"rune across the cut", long[1:] + "é\n", long[1:], MaxLine - 1, true},
		{"half a rune at the cut", long[1:] + "\xe2\x82", long[1:], MaxLine - 1, true},
		{"not UTF-8 across the cut", long[1:] + "\xff\xff", long[1:] + "\xff", MaxLine, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			line, n, partial := Cut([]byte(tt.in))
			if string(line) != tt.line || n != tt.n || partial != tt.partial {
				t.Errorf("Cut = %d bytes, %d, %v; want %d bytes, %d, %v", len(line), n, partial, len(tt.line), tt.n, tt.partial)
			}
		})
	}
}

// Whatever the bytes and however they arrive, cutting neither loses nor adds any.
func FuzzCut(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), 3)
	f.Fuzz(func(t *testing.T, in []byte, grow int) {
		in = bytes.Repeat(in, 1+min(max(grow, 0), 40000))
		in = in[:min(len(in), 3*MaxLine)]
		var got []byte
		rest := in
		for {
			line, n, partial := Cut(rest)
			if n == 0 {
				break
			}
			got = append(got, line...)
			if !partial {
				got = append(got, '\n')
			}
			if len(line) > MaxLine {
				t.Fatalf("line of %d bytes", len(line))
			}
			rest = rest[n:]
		}
		if len(rest) > MaxLine || bytes.IndexByte(rest, '\n') >= 0 {
			t.Fatalf("stopped with %d bytes left", len(rest))
		}
		if got = append(got, rest...); !bytes.Equal(got, in) {
			t.Fatal("pieces do not add up to the input")
		}
	})
}

func terms(s string) (out []string) {
	Terms(Fold(nil, []byte(s)), func(b []byte) { out = append(out, string(b)) })
	return out
}

func TestTerms(t *testing.T) {
	tests := []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"-- !!", nil},
		{"GET /api/users?id=7", []string{"get", "api", "users", "id", "7"}},
		{"user_id", []string{"user", "id"}},
		{"Ünïcode ΣΑΣ", []string{"ünïcode", "σασ"}},
		{"“quoted”—dash", []string{"quoted", "dash"}},
		{"東京 tower", []string{"東", "京", "tower"}},
		{"a\x00b\x1b[31mc", []string{"a", "b", "31mc"}},
		{"a\xffb", []string{"a", "b"}},
		{strings.Repeat("a", 100), []string{strings.Repeat("a", 64)}},
		{strings.Repeat("a", 63) + "éa", []string{strings.Repeat("a", 63)}},
	}
	for _, tt := range tests {
		if got := terms(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("Terms(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		search, line string
		want         bool
	}{
		{"", "anything", true},
		{"error", "an ERROR here", true},
		{"err", "an error here", false},
		{"rror", "an error here", false},
		{"here error", "an error here", true},
		{"error there", "an error here", false},
		{"10.0.0.1", "from 10.0.0.1:80", true},
		{"10.0.0.1", "from 10.0.0.10", false},
		{"10.0.0.1", "from 10.0.1.0 1", false},
		{"a", "ba ca a", true},
		{"->", "a->b", true},
		{"=>", "a->b", false},
		{"京", "東京都", true},
		{"ÉTÉ", "un été", true},
		{`"NEAR(a b)"`, `x "near(a b)" y`, true}, // two words, "NEAR(a and b)"
		{`NEAR(a b)`, `a b`, false},
		{"x*", "x", false},
		{"x*", "x*", true},
		{"a", "a\xff", true},
	}
	for _, tt := range tests {
		if got := ParseWords(tt.search).Match(Fold(nil, []byte(tt.line))); got != tt.want {
			t.Errorf("%q in %q = %v, want %v", tt.search, tt.line, got, tt.want)
		}
	}
}

// A line that matches has all of the search's terms: else the index would hide it.
func matchImpliesTerms(t interface{ Fatalf(string, ...any) }, search, line string) {
	w := ParseWords(search)
	if !w.Match(Fold(nil, []byte(line))) {
		return
	}
	have := terms(line)
	for _, term := range w.Terms() {
		if !slices.Contains(have, term) {
			t.Fatalf("%q matches %q, whose terms %q lack %q", search, line, have, term)
		}
		if !utf8.ValidString(term) {
			t.Fatalf("term %q is not UTF-8", term)
		}
	}
}

func TestMatchImpliesTerms(t *testing.T) {
	word := rapid.StringOfN(rapid.RuneFrom([]rune("aBé京_-.\u0301\uFFFDİ")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		search := word.Draw(t, "search")
		matchImpliesTerms(t, search, word.Draw(t, "before")+search+word.Draw(t, "after"))
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("a b", "x", "y")
	f.Add("\xe4\xb8", "\xad", "z")
	f.Fuzz(func(t *testing.T, search, before, after string) {
		matchImpliesTerms(t, search, before+search+after)
	})
}

func BenchmarkTerms(b *testing.B) {
	line := []byte("2026-05-04T12:03:01.123Z INFO http: request handled user=48213 dur=12.3ms req=7f3a9c01")
	var folded []byte
	n := 0
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		folded = Fold(folded[:0], line)
		Terms(folded, func([]byte) { n++ })
	}
}
