package remote

import "testing"

func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"no such thing":            "No such thing.",
		"read ca: it is empty.":    "Read ca: it is empty.",
		"web: unknown":             "Web: unknown.",
		"web:blue-0 has failed":    "web:blue-0 has failed.",
		"web:blue-0: no node":      "web:blue-0: no node.",
		"http://a:1 does not help": "http://a:1 does not help.",
	} {
		if got := Sentence(in); got != want {
			t.Errorf("Sentence(%q) = %q, want %q", in, got, want)
		}
	}
}
