package api_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"":                        nil,
		" \t\n":                   nil,
		"a b":                     {"a", "b"},
		"  a\t b \r\n":            {"a", "b"},
		`''`:                      {""},
		`"" a`:                    {"", "a"},
		`a''b`:                    {"ab"},
		`'a b' "c d"`:             {"a b", "c d"},
		`'a\b'`:                   {`a\b`},
		`"a\b\"\\\$\` + "`" + `"`: {`a\b"\$` + "`"},
		`a\ b`:                    {"a b"},
		`\'`:                      {"'"},
		"a\\\nb":                  {"ab"},
		"a \\\n b":                {"a", "b"},
		"\"a\\\nb\"":              {"ab"},
		"'a\\\nb'":                {"a\\\nb"},
		"$HOME *.go #x":           {"$HOME", "*.go", "#x"},
		"\xff\xfe":                {"\xff\xfe"},
		"ä'ö ü'":                  {"äö ü"},
	} {
		got, err := api.SplitWords(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q splits into %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`'`, `"`, `a "b`, `a\`, `"a\"`, `'a\'b'`} {
		if got, err := api.SplitWords(in); !errors.Is(err, api.ErrUnbalanced) {
			t.Errorf("%q splits into %q, %v", in, got, err)
		}
	}
}

// shellTexts are split by a shell as well as by SplitWords.
var shellTexts = []string{
	`a b`, `'a b' "c d"`, `a\ b`, `"a\b\"\\"`, `'' "" x`, `a''b"c"'d'`, `\a\b`, `"\x"`, `'\x'`, `"'" '"'`,
	"a \\\n b", "\"a\\\nb\"", "a\\\nb", `\\`, `"\$x"`, `x="y z"`, "\"a\tb\"", `ä\ö`, `"a\ b"`,
}

func TestSplitWordsLikeAShell(t *testing.T) {
	sh := shell(t)
	for _, in := range shellTexts {
		likeShell(t, sh, in)
	}
}

func shell(t testing.TB) string {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell to compare with")
	}
	return sh
}

// expands reports whether a shell does more with the text than to split it.
func expands(s string) bool {
	if strings.ContainsFunc(s, func(r rune) bool { return r == 0 || r == '\r' || r >= 0x80 }) {
		return true // not text, not a blank to a shell, or up to its locale
	}
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote == '\'':
			if c == quote {
				quote = 0
			}
		case c == '\\':
			i++
		case c == '$' || c == '`':
			return true
		case quote == '"':
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte("\n|&;<>()*?[]#~%{}!", c) >= 0:
			return true
		}
	}
	return false
}

// likeShell compares SplitWords with the shell.
func likeShell(t *testing.T, sh, in string) {
	t.Helper()
	words, err := api.SplitWords(in)
	script := "for word in " + in + "\ndo printf '%s\\0' \"$word\"\ndone\n"
	out, shErr := exec.Command(sh, "-c", script).Output()
	if (err != nil) != (shErr != nil) {
		t.Errorf("%q: SplitWords says %v, the shell %v", in, err, shErr)
		return
	}
	var want []string
	if len(out) > 0 {
		want = strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	}
	if err == nil && !slices.Equal(words, want) {
		t.Errorf("%q splits into %q, for the shell into %q", in, words, want)
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, s := range shellTexts {
		f.Add(s)
	}
	f.Add(`'open`)
	sh := shell(f)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := api.SplitWords(s)
		if err != nil {
			if words != nil {
				t.Errorf("%q: words and an error", s)
			}
			return
		}
		// Quoting the words again and splitting those gives them back.
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := api.SplitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q splits into %q, quoted into %q, %v", s, words, again, err)
		}
		if !expands(s) {
			likeShell(t, sh, s)
		}
	})
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"web:alice", ":", "a:b:c", "A:b", "a:", strings.Repeat("a", 63) + ":b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := api.ParseRef(s)
		if err != nil {
			if r != (api.Ref{}) || api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("%q: %v, %v", s, r, err)
			}
			return
		}
		if r.String() != s || !api.ValidName(r.Service) || !api.ValidName(r.ID) {
			t.Errorf("%q reads as %v", s, r)
		}
	})
}
