package httpapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// place is where a parameter is.
type place int

const (
	inQuery place = iota
	inHeader
)

// kind is what a parameter holds.
type kind int

const (
	kindText kind = iota
	kindName
	kindBool
	kindUint
	kindDuration
	kindEnum
	kindETag
)

// param is a query parameter or header of an endpoint.
type param struct {
	name  string
	in    place
	kind  kind
	enum  []string // for kindEnum
	max   uint64   // for kindUint; 0: none
	about string
}

const (
	wantName = "1 to 63 of a-z 0-9 _ -, the first a letter or digit"
	maxText  = 1000
)

// check returns what is allowed when the value isn't.
func (p *param) check(value string) (want string, ok bool) {
	switch p.kind {
	case kindName:
		return wantName, api.ValidName(value)
	case kindBool:
		_, ok := parseFlag(value)
		return "true or false", ok
	case kindUint:
		n, err := strconv.ParseUint(value, 10, 64)
		if p.max > 0 {
			return "a number from 0 to " + uintText(p.max), err == nil && n <= p.max
		}
		return "a number", err == nil
	case kindDuration:
		_, err := api.ParseDuration(value)
		return `a duration such as "30s" or "5m"`, err == nil
	case kindEnum:
		return "one of " + strings.Join(p.enum, ", "), slices.Contains(p.enum, value)
	case kindETag:
		_, _, ok := parseETag(value)
		return `one revision as "N", or *`, ok
	default:
		return "at most 1000 bytes of text", len(value) <= maxText
	}
}

// args are the parameters that a request gave, checked.
type args map[string]string

// parseArgs reads and checks a request's parameters. Those that the endpoint doesn't know
// are refused: a misspelt filter that filters nothing is worse than an error.
func parseArgs(r *http.Request, params []param) (args, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &api.FieldError{Field: "query", Got: clip(r.URL.RawQuery), Want: "a well-formed query string"}
	}
	var errs api.FieldErrors
	out := args{}
	var known []string
	for i := range params {
		p := &params[i]
		values := query[p.name]
		if p.in == inHeader {
			values = r.Header.Values(p.name)
		} else {
			known = append(known, p.name)
		}
		delete(query, p.name)
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			errs = append(errs, api.FieldError{Field: p.name, Got: strconv.Itoa(len(values)) + " values", Want: "one"})
			continue
		}
		if want, ok := p.check(values[0]); !ok {
			errs = append(errs, api.FieldError{Field: p.name, Got: clip(values[0]), Want: want})
			continue
		}
		out[p.name] = values[0]
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		errs = append(errs, unknown(clip(name), "parameter", known))
	}
	if r.Header.Get("If-Match") != "" && !out.has("If-Match") && len(errs) == 0 {
		errs = append(errs, api.FieldError{Field: "If-Match", Got: clip(r.Header.Get("If-Match")), Want: "no such header: this endpoint has no revision to compare"})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return out, nil
}

func (a args) has(name string) bool    { _, ok := a[name]; return ok }
func (a args) text(name string) string { return a[name] }

func (a args) flag(name string) bool {
	if !a.has(name) {
		return false
	}
	v, _ := parseFlag(a[name]) // checked
	return v
}

func (a args) uint(name string) uint64 {
	n, _ := strconv.ParseUint(a[name], 10, 64) // checked
	return n
}

func (a args) duration(name string) time.Duration {
	d, _ := api.ParseDuration(a[name]) // checked
	return d.Std()
}

// parseFlag reads a boolean; "?hold" alone is true.
func parseFlag(s string) (v, ok bool) {
	switch s {
	case "", "true", "1":
		return true, true
	case "false", "0":
		return false, true
	default:
		return false, false
	}
}

// parseETag reads the value of If-Match. A bare number is taken too; weak tags and lists
// are not.
func parseETag(s string) (revision uint64, wildcard, ok bool) {
	if s == "*" {
		return 0, true, true
	}
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	revision, err := strconv.ParseUint(s, 10, 64)
	return revision, false, err == nil
}

// ifMatch returns the revision that If-Match asks for, nil without one; current is the
// object's, 0 for one that does not exist yet.
func (a args) ifMatch(current uint64, exists bool) (*uint64, error) {
	if !a.has("If-Match") {
		return nil, nil
	}
	revision, wildcard, _ := parseETag(a["If-Match"]) // checked
	if wildcard {
		revision = current
	}
	if !exists && (wildcard || revision != 0) {
		return nil, api.Errorf(api.CodeStaleRevision, "If-Match: there is no such object, so it has no revision %s", a["If-Match"])
	}
	if revision != current {
		return nil, api.Errorf(api.CodeStaleRevision, "If-Match: the current revision is %d, not %s", current, a["If-Match"])
	}
	return &revision, nil
}

func uintText(n uint64) string { return strconv.FormatUint(n, 10) }

// clip shortens what came for an error message.
func clip(s string) string { return clipTo(s, 80) }

func clipTo(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xC0 == 0x80 { // not within a character
		most--
	}
	return s[:most] + "…"
}
