package state

import (
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestSealed(t *testing.T) {
	d := drive(t)
	put := func(value, secret string, match *uint64) Command {
		return Command{PutSealed: &PutSealed{Name: "key", Value: []byte(value), SecretID: secret, IfMatch: match}}
	}
	if _, ok := d.View().Sealed("key"); ok {
		t.Error("a value from nowhere")
	}
	d.fails(Command{PutSealed: &PutSealed{Name: "key", Value: []byte("x")}}, api.CodeInvalid)
	d.fails(Command{PutSealed: &PutSealed{SecretID: "aa", Value: []byte("x")}}, api.CodeInvalid)
	d.must(put("first", "aa", ptr(uint64(0))))
	d.fails(put("second", "aa", ptr(uint64(0))), api.CodeStaleRevision) // the first writer wins
	before := d.View()
	if d.must(put("first", "aa", nil)); d.View() != before {
		t.Error("the same again changed something")
	}
	if s, ok := d.View().Sealed("key"); !ok || string(s.Value) != "first" || s.SecretID != "aa" || s.Revision != 1 || !s.UpdatedAt.Equal(at(2)) {
		t.Errorf("got %+v", s)
	}
}

// However a rotation of the secret and a put of a value meet, what is sealed anew between the
// last two steps is all that there is.
func TestSealedOutlivesRotation(t *testing.T) {
	d := drive(t)
	put := func(name, secret string) Command {
		return Command{PutSealed: &PutSealed{Name: name, Value: []byte(name + secret), SecretID: secret}}
	}
	step := func(p api.SecretPhase, ids ...string) Command {
		return Command{PutSecret: &PutSecret{Phase: p, Sealed: []byte("x"), IDs: ids}}
	}
	d.must(put("a", "old"))
	d.must(step(api.SecretInstall, "old", "new"))
	d.must(put("b", "old"))
	d.fails(put("c", "new"), api.CodeConflict) // other nodes don't have it yet
	d.must(step(api.SecretUse, "new", "old"))
	msg := d.fails(put("b", "old"), api.CodeConflict) // by a node that does not use the new one yet
	if want := "put sealed value b: it is sealed with the secret old, the one to use is new"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(put("a", "new"))
	d.must(put("b", "new"))
	d.must(step(api.SecretRemove, "new"))
	d.fails(put("a", "old"), api.CodeConflict)
	again := New()
	if err := again.Restore(strings.NewReader(string(snapshotOf(t, d.View())))); err != nil {
		t.Fatal(err)
	}
	names := ""
	for s := range again.View().AllSealed() {
		names += s.Name + s.SecretID + " "
	}
	if names != "anew bnew " || again.View().Hash() != d.View().Hash() {
		t.Errorf("restored: %s", names)
	}
}
