package httpapi

import (
	"reflect"
	"strings"
)

// jsonField is a field of a struct as JSON knows it.
type jsonField struct {
	name     string
	index    int
	typ      reflect.Type
	optional bool // left out when empty
	embedded bool // its fields belong to the outer object
}

// fieldsOf lists a struct's JSON fields in order.
func fieldsOf(t reflect.Type) []jsonField {
	var out []jsonField
	for i := range t.NumField() {
		f := t.Field(i)
		tag, hasTag := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && !hasTag:
			out = append(out, jsonField{index: i, typ: f.Type, embedded: true})
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		out = append(out, jsonField{name: name, index: i, typ: f.Type, optional: strings.Contains(options, "omit")})
	}
	return out
}

func namesOf(fields []jsonField) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// closest returns the known word that is at most two edits away from what was written,
// one for a short word; "" when there is none.
func closest(word string, known []string) string {
	best, near := "", 3
	if len(word) < 5 {
		near = 2
	}
	if len(word) > 100 {
		return ""
	}
	for _, k := range known {
		if d := distance(word, k); d < near {
			best, near = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
