package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	File string `json:"file,omitempty"` // empty: a variable or a flag
	Line int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Key  string `json:"key,omitempty"`  // dotted key, variable or flag
	Got  string `json:"got"`            // what came, as it would be written there
	Want string `json:"want"`           // what is allowed
	Hint string `json:"hint,omitempty"` // what to do about it

	setting string // the setting it is about, however that was given
}

// Error implements error: `FILE:LINE: KEY: got GOT, want WANT (HINT)`. A hint at what was
// probably meant comes before what else is allowed, which may be a long list.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString("got " + p.Got)
	if strings.HasPrefix(p.Hint, didYou) {
		b.WriteString(" (" + p.Hint + ")")
	}
	b.WriteString(", want " + p.Want)
	if p.Hint != "" && !strings.HasPrefix(p.Hint, didYou) {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems is every [Problem] of one configuration, in the order of the file, those of
// variables and flags last.
type Problems []Problem

// Error implements error: one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i := range ps {
		lines[i] = ps[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap exposes each problem to errors.As.
func (ps Problems) Unwrap() []error {
	out := make([]error, len(ps))
	for i := range ps {
		out[i] = &ps[i]
	}
	return out
}

func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.File == "") != (b.File == "") {
			return strings.Compare(b.File, a.File)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Key, b.Key))
	})
	return ps
}

// add reports a problem with the key at path.
func (l *loader) add(path []string, got, want, hint string) {
	l.problems = append(l.problems, Problem{
		File: l.cfg.File, Line: l.doc.line(path), Key: dotted(path), Got: got, Want: want, Hint: hint,
	})
}

// unknown reports the key at path, which is none of the known ones.
func (l *loader) unknown(path, known []string) {
	last := path[len(path)-1]
	known = slices.Sorted(slices.Values(known))
	l.add(path, "an unknown key", "one of "+strings.Join(known, ", "), didYouMean(last, known))
}

const didYou = "did you mean "

// didYouMean returns a hint at the name that got was probably meant to be; "" when none
// is near.
func didYouMean(got string, known []string) string {
	best, least := "", max(1, len(got)/3)+1
	for _, name := range known {
		if d := distance(got, name); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return didYou + strconv.Quote(best) + "?"
}

// distance is the number of characters to insert, delete, replace or swap with the next
// to get from a to b.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a) // no key is that long: not worth a look
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := row[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			next[j] = min(row[j]+1, next[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
