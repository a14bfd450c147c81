package api

import (
	"fmt"
	"strings"
)

// MaxNameLen is the longest service name or instance id, in bytes: one DNS label.
const MaxNameLen = 63

// NamePattern is the regular expression that service names and instance ids match.
const NamePattern = `^[a-z0-9][a-z0-9_-]{0,62}$`

// ValidName reports whether s matches [NamePattern].
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxNameLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case (c == '_' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}

// ReservedName reports whether no service may have the name, because a file of ten's own
// has it in the data directory, where each service has a directory.
func ReservedName(s string) bool { return s == "api_token" }

// checkName returns a *FieldError for the named field unless s is a valid name.
func checkName(field, s string) error {
	if ValidName(s) {
		return nil
	}
	return &FieldError{Field: field, Got: s, Want: "1 to 63 of a-z 0-9 _ -, the first a letter or digit"}
}

// Ref names one instance: the service it is a copy of, and its id within that service.
// Its text form is "service:id".
type Ref struct {
	Service string
	ID      string
}

// ParseRef reads the text form "service:id". A malformed ref is a *FieldError.
func ParseRef(s string) (Ref, error) {
	service, id, ok := strings.Cut(s, ":")
	if !ok {
		return Ref{}, &FieldError{Field: "instance", Got: s, Want: "service:id"}
	}
	r := Ref{Service: service, ID: id}
	if err := r.Validate(); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// Validate checks both parts against [NamePattern].
func (r Ref) Validate() error {
	if err := checkName("service", r.Service); err != nil {
		return err
	}
	return checkName("id", r.ID)
}

// String returns "service:id".
func (r Ref) String() string { return r.Service + ":" + r.ID }

// MarshalText implements encoding.TextMarshaler.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see [ParseRef].
func (r *Ref) UnmarshalText(b []byte) error {
	p, err := ParseRef(string(b))
	if err != nil {
		return fmt.Errorf("parse instance: %w", err)
	}
	*r = p
	return nil
}
