package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time whose text form is canonical: the largest units that
// divide it, zero parts left out ("5m", "1h30s", "250ms", "0s"). Input may also be a
// bare number of seconds, as tenement.toml has always allowed.
type Duration time.Duration

// Seconds returns a Duration of n whole seconds.
func Seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the canonical text form.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return strings.Replace(s, "h0m", "h", 1)
}

// ParseDuration reads Go's duration syntax or a bare number of seconds ("300", "0.5").
// Anything else, and what does not fit in 64 bits of nanoseconds, is a *FieldError.
func ParseDuration(s string) (Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return Duration(d), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > float64(math.MaxInt64)/float64(time.Second)/2 {
		return 0, &FieldError{Field: "duration", Got: s, Want: `a duration such as "90s", "5m" or "1h30m", or a number of seconds`}
	}
	return Duration(math.Round(f * float64(time.Second))), nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see [ParseDuration].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// UnmarshalJSON accepts the text form as a string, or a number of seconds; null changes
// nothing.
func (d *Duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s, err := scalar(b)
	if err != nil {
		return &FieldError{Field: "duration", Got: string(b), Want: `a string such as "5m", or a number of seconds`}
	}
	return d.UnmarshalText([]byte(s))
}

// Size is a number of bytes whose text form is canonical: the largest binary unit that
// divides it exactly ("512MiB", "1536KiB", "0B").
type Size int64

// Byte counts of the units that [Size] prints.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var sizeUnits = []struct {
	name string
	size Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// String returns the canonical text form.
func (n Size) String() string {
	for _, u := range sizeUnits {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(int64(n/u.size), 10) + u.name
		}
	}
	return "0B"
}

// ParseSize reads a whole, non-negative number of bytes with an optional unit B, KiB,
// MiB, GiB or TiB (K, M, G, T and KB, MB, GB, TB mean the same binary units).
func ParseSize(s string) (Size, error) {
	bad := &FieldError{Field: "size", Got: s, Want: `a size such as "512MiB" or "2GiB", or a number of bytes`}
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	if err != nil {
		return 0, bad
	}
	unit := Size(1)
	switch strings.ToLower(strings.TrimSpace(s[i:])) {
	case "", "b":
	case "k", "kb", "kib":
		unit = KiB
	case "m", "mb", "mib":
		unit = MiB
	case "g", "gb", "gib":
		unit = GiB
	case "t", "tb", "tib":
		unit = TiB
	default:
		return 0, bad
	}
	if n > math.MaxInt64/int64(unit) {
		return 0, bad
	}
	return Size(n) * unit, nil
}

// MarshalText implements encoding.TextMarshaler.
func (n Size) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see [ParseSize].
func (n *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}

// UnmarshalJSON accepts the text form as a string, or a number of bytes; null changes
// nothing.
func (n *Size) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s, err := scalar(b)
	if err != nil {
		return &FieldError{Field: "size", Got: string(b), Want: `a string such as "512MiB", or a number of bytes`}
	}
	return n.UnmarshalText([]byte(s))
}

// scalar returns the text of a JSON string or number.
func scalar(b []byte) (string, error) {
	if s, ok := plainString(b); ok {
		return s, nil
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return "", fmt.Errorf("parse scalar: %w", err)
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case float64:
		return string(b), nil
	default:
		return "", fmt.Errorf("parse scalar: got %T", v)
	}
}

// plainString returns the text of a JSON string of printable ASCII without escapes, as
// every canonical form is; the state machine reads eight of them with each service.
func plainString(b []byte) (string, bool) {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return "", false
	}
	b = b[1 : len(b)-1]
	for _, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(b), true
}
