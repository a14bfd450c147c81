package config

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// key is one key of a table in tenement.toml, and the place of its value in a T.
type key[T any] struct {
	name string // below the table, dotted
	doc  string // what it means, in a line
	want string // what is allowed, in words
	// set stores a decoded TOML value and reports whether it is one that is allowed.
	set func(*T, any) bool
	// get returns what set would take; nil when there is nothing to say.
	get func(*T) any
	// field is the name that api's checks give the place.
	field string
}

func (k key[T]) in(field string) key[T] { k.field = field; return k }

func (k key[T]) wants(want string) key[T] { k.want = want; return k }

func names[T any](keys []key[T]) []string {
	out := make([]string, len(keys))
	for i := range keys {
		out[i] = keys[i].name
	}
	return out
}

// text is a string that may be empty.
func text[T any, S ~string](name, doc string, at func(*T) *S) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: "text in quotes",
		set: func(t *T, v any) bool { s, ok := v.(string); *at(t) = S(s); return ok },
		get: func(t *T) any {
			if s := *at(t); s != "" {
				return string(s)
			}
			return nil
		},
	}
}

// word is a string that may not be empty.
func word[T any, S ~string](name, doc string, at func(*T) *S) key[T] {
	k := text(name, doc, at)
	set := k.set
	k.set = func(t *T, v any) bool { return v != "" && set(t, v) }
	return k
}

func truth[T any](name, doc string, at func(*T) *bool) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: "true or false",
		set: func(t *T, v any) bool { b, ok := v.(bool); *at(t) = b; return ok },
		get: func(t *T) any { return *at(t) },
	}
}

// count is a whole number from least to most.
func count[T any](name, doc string, least, most int, at func(*T) *int) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: fmt.Sprintf("a whole number from %d to %d", least, most),
		set: func(t *T, v any) bool {
			n, ok := v.(int64)
			if !ok || n < int64(least) || n > int64(most) {
				return false
			}
			*at(t) = int(n)
			return true
		},
		get: func(t *T) any { return *at(t) },
	}
}

// duration is a number of units or text such as "5m", at least least.
func duration[T any](name, doc string, unit, least time.Duration, at func(*T) *api.Duration) key[T] {
	units := map[time.Duration]string{time.Second: "seconds", time.Millisecond: "milliseconds"}[unit]
	return key[T]{
		name: name, field: name, doc: doc,
		want: fmt.Sprintf(`a number of %s or text such as "90s" or "5m", %s or more`, units, api.Duration(least)),
		set: func(t *T, v any) bool {
			d, ok := toDuration(v, unit)
			*at(t) = d
			return ok && d >= api.Duration(least)
		},
		get: func(t *T) any {
			if d := at(t).Std(); d%unit == 0 {
				return int64(d / unit)
			}
			return at(t).String()
		},
	}
}

func toDuration(v any, unit time.Duration) (api.Duration, bool) {
	switch v := v.(type) {
	case int64:
		if v > int64(math.MaxInt64/unit) || v < int64(math.MinInt64/unit) {
			return 0, false
		}
		return api.Duration(time.Duration(v) * unit), true
	case float64:
		f := math.Round(v * float64(unit))
		return api.Duration(f), math.Abs(f) < 1<<62 // false for NaN, too
	case string:
		// A bare number in text has the unit of the key, not seconds.
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return toDuration(f, unit)
		}
		d, err := api.ParseDuration(v)
		return d, err == nil
	default:
		return 0, false
	}
}

// mebibytes is a number of MiB.
func mebibytes[T any](name, doc string, at func(*T) *api.Size) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: "a number of MiB, 0 or more",
		set: func(t *T, v any) bool {
			switch v := v.(type) {
			case int64:
				*at(t) = api.Size(v) * api.MiB
				return v >= 0 && v <= math.MaxInt64/int64(api.MiB)
			case float64:
				*at(t) = api.Size(v * float64(api.MiB))
				return v >= 0 && v < 1<<42
			default:
				return false
			}
		},
		get: func(t *T) any {
			if n := *at(t); n%api.MiB != 0 {
				return float64(n) / float64(api.MiB)
			}
			return int64(*at(t) / api.MiB)
		},
	}
}

// size is a number of bytes or text such as "512MiB", at least least.
func size[T any](name, doc string, least api.Size, at func(*T) *api.Size) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: `text such as "512MiB" or "2GiB", or a number of bytes, ` + least.String() + ` or more`,
		set: func(t *T, v any) bool {
			switch v := v.(type) {
			case int64:
				*at(t) = api.Size(v)
				return api.Size(v) >= least
			case string:
				n, err := api.ParseSize(v)
				*at(t) = n
				return err == nil && n >= least
			default:
				return false
			}
		},
		get: func(t *T) any { return at(t).String() },
	}
}

// list is an array of strings.
func list[T any](name, doc string, at func(*T) *[]string) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: "a list of texts in quotes",
		set: func(t *T, v any) bool {
			items, ok := v.([]any)
			out := make([]string, len(items))
			for i, item := range items {
				s, isText := item.(string)
				ok = ok && isText
				out[i] = s
			}
			*at(t) = out
			return ok
		},
		get: func(t *T) any { return *at(t) },
	}
}

// table is a table of strings.
func table[T any](name, doc string, at func(*T) *map[string]string) key[T] {
	return key[T]{
		name: name, field: name, doc: doc, want: "a table of texts in quotes",
		set: func(t *T, v any) bool {
			entries, ok := v.(map[string]any)
			out := make(map[string]string, len(entries))
			for name, entry := range entries {
				s, isText := entry.(string)
				ok = ok && isText
				out[name] = s
			}
			*at(t) = out
			return ok
		},
		get: func(t *T) any {
			if m := *at(t); len(m) > 0 {
				return m
			}
			return nil
		},
	}
}

// shown writes a decoded value as a message shows it: scalars as they are, the rest by kind.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return quoted(v)
	case int64, bool:
		return fmt.Sprint(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return fmt.Sprintf("the date or time %v", v)
	}
}

// kindOf says what a decoded value is, and not which.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a text"
	case int64, float64:
		return "a number"
	case bool:
		return "a truth value"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// quoted is strconv.Quote, shortened.
func quoted(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
