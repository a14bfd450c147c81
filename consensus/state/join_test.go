package state

import (
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func testJoinToken(id string, change ...func(*api.JoinToken)) api.JoinToken {
	k := api.JoinToken{ID: id, SHA256: make([]byte, 32)}
	for _, f := range change {
		f(&k)
	}
	return k
}

func putJoinToken(k api.JoinToken) Command {
	return Command{PutJoinToken: &PutJoinToken{Token: k}}
}

func TestJoinTokens(t *testing.T) {
	d := drive(t)
	limited := testJoinToken("0123456789ab", func(k *api.JoinToken) { k.MaxUses, k.ExpiresAt, k.Uses = 2, at(100), 77 })
	use := func(sec int) Command { return Command{UseJoinToken: &UseJoinToken{ID: limited.ID, At: at(sec)}} }
	d.fails(use(1), api.CodeNotFound)
	k := d.must(putJoinToken(limited)).(*api.JoinToken)
	if k.Uses != 0 || k.Revision != 1 || !k.CreatedAt.Equal(at(1)) {
		t.Errorf("got %+v", k)
	}
	before := d.View()
	if d.must(putJoinToken(limited)); d.View() != before {
		t.Error("the same again changed something")
	}
	msg := d.fails(use(100), api.CodeForbidden)
	if want := "use join token 0123456789ab: it expired at 2026-01-02T03:05:45Z"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(use(99))
	<-before.Changed()
	limited.Description = "changed"
	if k := d.must(putJoinToken(limited)).(*api.JoinToken); k.Uses != 1 || !k.CreatedAt.Equal(at(1)) {
		t.Errorf("changed: got %+v", k)
	}
	d.must(use(0))
	msg = d.fails(use(0), api.CodeForbidden)
	if want := "use join token 0123456789ab: it was used 2 times, as often as it may be"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	unlimited := testJoinToken("ba9876543210")
	d.must(putJoinToken(unlimited))
	for range 3 {
		d.must(Command{UseJoinToken: &UseJoinToken{ID: unlimited.ID, At: at(1 << 30)}})
	}
	ids := ""
	for k := range d.View().JoinTokens() {
		ids += k.ID + " "
	}
	if want := "0123456789ab ba9876543210 "; ids != want {
		t.Errorf("got %s, want %s", ids, want)
	}
	gone := Command{DeleteJoinToken: &DeleteJoinToken{ID: limited.ID}}
	d.must(gone)
	d.fails(gone, api.CodeNotFound)
	if _, ok := d.View().JoinToken(limited.ID); ok {
		t.Error("the token is still there")
	}
	d.fails(putJoinToken(api.JoinToken{}), api.CodeInvalid)
}

func TestSecretRotation(t *testing.T) {
	d := drive(t)
	if d.View().Secret() != nil {
		t.Error("a secret from nowhere")
	}
	put := func(p api.SecretPhase, match *uint64, ids ...string) Command {
		return Command{PutSecret: &PutSecret{Phase: p, Sealed: []byte("sealed"), IDs: ids, IfMatch: match}}
	}
	d.fails(put(api.SecretInstall, ptr(uint64(1)), "old", "new"), api.CodeStaleRevision)
	d.must(put(api.SecretInstall, ptr(uint64(0)), "old", "new"))
	before := d.View()
	if d.must(put(api.SecretInstall, nil, "old", "new")); d.View() != before {
		t.Error("the same again changed something")
	}
	d.must(put(api.SecretUse, ptr(uint64(1)), "new", "old"))
	s := d.View().Secret()
	if s.Phase != api.SecretUse || s.IDs[0] != "new" || string(s.Sealed) != "sealed" || s.Revision != 2 || !s.UpdatedAt.Equal(at(3)) {
		t.Errorf("got %+v", s)
	}
}

// What a node's file declared is that node's to take away.
func TestFilesOfSeveralNodes(t *testing.T) {
	d := drive(t)
	sync := func(node string, services []string, refs ...api.Ref) {
		t.Helper()
		c := &SyncFile{Node: node, Instances: refs}
		for _, s := range services {
			c.Services = append(c.Services, testService(s))
		}
		d.must(Command{SyncFile: c})
	}
	is := func(want string) {
		t.Helper()
		if got := refs(d.View()); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	sync("", []string{"old"}, ref("old", "a"))
	sync("n1", []string{"one", "both"}, ref("one", "a"), ref("both", "a"), ref("both", "b"))
	is("both:a both:b one:a") // and what came from a file of nobody is gone
	sync("n2", []string{"two", "both"}, ref("two", "a"), ref("both", "b"))
	is("both:a both:b one:a two:a")
	if s, _ := d.View().Service("both"); s.SourceNode != "n2" {
		t.Errorf("got %+v, want it taken over by n2", s)
	}
	sync("n1", []string{"one"})
	is("both:b two:a") // both:b is n2's now, and one:a was not listed
	sync("n2", nil)
	is("")
	if _, ok := d.View().Service("one"); !ok {
		t.Error("n2 took away what n1 declared")
	}
}
