package source

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestParse(t *testing.T) {
	want := Source{Ref: api.Ref{Service: "a-b", ID: "c_d"}, Level: api.Stderr}
	if got, ok := Parse(want.String()); !ok || got != want {
		t.Errorf("Parse(%q) = %v, %v", want, got, ok)
	}
	for _, bad := range []string{"", ".", "a:b", "a:b.", "a:b.stdin", "a.stdout", "A:b.stdout", "a:b.stdout.1", "../a:b.stdout"} {
		if got, ok := Parse(bad); ok {
			t.Errorf("Parse(%q) = %v", bad, got)
		}
	}
}
