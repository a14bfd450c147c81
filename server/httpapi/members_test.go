package httpapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzMembers holds members against encoding/json's own tokens.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":[1,{"b":"}"}],"c":"\"]"}`, "{\n\t\"a\" :\r\n null , \"b\\u0041\\\\\":-1.5e+3\n}", `{"":{"":{}}}`,
	} {
		f.Add([]byte(s))
	}
	type member struct{ name, value string }
	f.Fuzz(func(t *testing.T, data []byte) {
		object := bytes.TrimSpace(data)
		if !json.Valid(data) || !utf8.Valid(data) || object[0] != '{' {
			return
		}
		var want, got []member
		dec := json.NewDecoder(bytes.NewReader(data))
		for _, err := dec.Token(); dec.More(); {
			var raw json.RawMessage
			key, keyErr := dec.Token()
			if valueErr := dec.Decode(&raw); err != nil || keyErr != nil || valueErr != nil {
				t.Fatal(err, keyErr, valueErr)
			}
			want = append(want, member{key.(string), string(raw)})
		}
		for name, value := range members(object) {
			got = append(got, member{name, string(value)})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
