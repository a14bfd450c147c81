// Package source names what log lines come from: one output stream of one instance.
package source

import (
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// Source is one output stream of one instance.
type Source struct {
	Ref   api.Ref
	Level api.Stream
}

// String returns the name that files and stored offsets carry: "service:id.stdout".
// Names hold no dot, so that more can be appended behind another one.
func (s Source) String() string { return s.Ref.String() + "." + string(s.Level) }

// Parse reads what [Source.String] returned.
func Parse(name string) (Source, bool) {
	refText, level, ok := strings.Cut(name, ".")
	if !ok || (level != string(api.Stdout) && level != string(api.Stderr)) {
		return Source{}, false
	}
	ref, err := api.ParseRef(refText)
	if err != nil {
		return Source{}, false
	}
	return Source{Ref: ref, Level: api.Stream(level)}, true
}
