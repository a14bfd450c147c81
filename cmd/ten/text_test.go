package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü 日本 👍":      "plain äöü 日本 👍",
		"\x1b[31mred\x1b[0m":  `\x1b[31mred\x1b[0m`,
		"a\rb\nc\td":          `a\rb\nc\td`,
		"\u009b31m":           `\u009b31m`,
		"\x9b31m":             `\x9b31m`,
		"abc\u202edef":        `abc\u202edef`,
		"\u2066x\u2069\u200f": `\u2066x\u2069\u200f`,
		"lost \uFFFD":         "lost \uFFFD",
		"\x00\x7f":            `\x00\x7f`,
	} {
		if got := cleanText(in); got != want {
			t.Errorf("cleanText(%+q) = %+q, want %+q", in, got, want)
		}
	}
	if got := cleanLine("a\tb\x07"); got != "a\tb\\x07" {
		t.Errorf("cleanLine: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b]0;x\x07\u202e\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanText(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, hostile) {
			t.Fatalf("cleanText(%+q) = %+q", s, got)
		}
		for width := range 12 {
			if cut := fit(got, width); cells(cut) > width {
				t.Fatalf("fit(%+q, %d) = %+q", got, width, cut)
			}
		}
		if b, err := json.Marshal(s); err == nil {
			var before, after string
			clean := cleanJSON(b)
			if json.Unmarshal(b, &before) != nil || json.Unmarshal(clean, &after) != nil || before != after {
				t.Fatalf("cleanJSON(%s) = %s", b, clean)
			}
			if bytes.ContainsFunc(clean, hostile) {
				t.Fatalf("cleanJSON(%s) = %+q", b, clean)
			}
		}
	})
}

// TestTablesFit: whatever is in a table, and however narrow the terminal, no line wraps,
// and all columns that show stay aligned.
func TestTablesFit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tab table
		n := rapid.IntRange(1, 6).Draw(rt, "columns")
		for i := range n {
			tab.columns = append(tab.columns, column{
				title: strings.Repeat("T", rapid.IntRange(1, 9).Draw(rt, "title")),
				right: rapid.Bool().Draw(rt, "right"), optional: rapid.Bool().Draw(rt, "optional"),
				min: rapid.IntRange(0, 8).Draw(rt, "min"), drop: rapid.IntRange(0, i).Draw(rt, "drop"),
			})
		}
		for range rapid.IntRange(0, 4).Draw(rt, "rows") {
			row := make([]string, n)
			for i := range row {
				row[i] = rapid.StringN(0, 30, 60).Draw(rt, "cell")
			}
			tab.rows = append(tab.rows, row)
		}
		width := rapid.IntRange(3*n, 200).Draw(rt, "width")
		var out bytes.Buffer
		if err := tab.write(&out, width, false); err != nil {
			rt.Fatal(err)
		}
		all := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(all) != len(tab.rows)+1 {
			rt.Fatalf("%d lines for %d rows: %q", len(all), len(tab.rows), out.String())
		}
		for _, l := range all {
			if cells(l) > width {
				rt.Fatalf("line of %d cells in %d: %q", cells(l), width, l)
			}
		}
	})
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m",
		119 * time.Minute: "119m", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestNameFrom(t *testing.T) {
	for in, want := range map[string]string{
		"notes": "notes", "My App (2)": "my-app-2", "__x__": "x", "日本": "app", "": "app", "-": "app",
		strings.Repeat("a", 80): strings.Repeat("a", 63), strings.Repeat("a", 62) + ".b": strings.Repeat("a", 62),
	} {
		if got := nameFrom(in); got != want || !api.ValidName(got) {
			t.Errorf("nameFrom(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), exitError},
		{&usageError{err: errors.New("x")}, exitUsage},
		{api.Errorf(api.CodeInvalid, "x"), exitUsage},
		{&api.FieldError{}, exitUsage},
		{api.Errorf(api.CodeNotFound, "x"), exitNotFound},
		{api.Errorf(api.CodeTimeout, "x"), exitTimeout},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), exitTimeout},
		{api.Errorf(api.CodeUnauthenticated, "x"), exitDenied},
		{api.Errorf(api.CodeForbidden, "x"), exitDenied},
		{&client.UnreachableError{Err: errors.New("x")}, exitUnreachable},
		{api.Errorf(api.CodeUnavailable, "x"), exitUnreachable},
		{api.Errorf(api.CodeConflict, "x"), exitConflict},
		{api.Errorf(api.CodeStaleRevision, "x"), exitConflict},
		{api.Errorf(api.CodeFailed, "x"), exitFailed},
		{&toldError{api.Errorf(api.CodeFailed, "x")}, exitFailed},
		{api.Errorf(api.CodeInternal, "x"), exitError},
		{errUnwell, exitError},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%T %v: %d, want %d", tc.err, tc.err, got, tc.want)
		}
	}
}
