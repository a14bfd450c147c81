package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestServiceLifeCycle(t *testing.T) {
	d := drive(t)
	s := d.must(putService(testService("app"))).(*api.Service)
	if s.Revision != 1 || !s.CreatedAt.Equal(at(0)) || !s.UpdatedAt.Equal(at(0)) {
		t.Errorf("created: got revision %d, created %s, updated %s", s.Revision, s.CreatedAt, s.UpdatedAt)
	}
	again := d.must(putService(testService("app"))).(*api.Service)
	if again != s || d.View().Index() != 1 {
		t.Errorf("equal put: got revision %d at index %d, want no change", again.Revision, d.View().Index())
	}
	d.must(putInstance(testInstance("app", "a")))
	changed := d.must(putService(testService("app", func(s *api.Service) { s.Health = "/up" }))).(*api.Service)
	if changed.Revision != 3 || !changed.CreatedAt.Equal(at(0)) || !changed.UpdatedAt.Equal(at(3)) {
		t.Errorf("changed: got %+v", changed)
	}
	if n := d.View().InstanceCount("app"); n != 1 {
		t.Errorf("got %d instances after the change, want 1", n)
	}
	d.must(Command{DeleteService: &DeleteService{Name: "app"}})
	if _, ok := d.View().Service("app"); ok || d.View().InstanceCount("") != 0 {
		t.Error("the service or its instance is still there")
	}
	d.fails(Command{DeleteService: &DeleteService{Name: "app"}}, api.CodeNotFound)
}

func TestIfMatch(t *testing.T) {
	d := drive(t)
	put := func(match uint64, health string) Command {
		s := testService("app", func(s *api.Service) { s.Health = health })
		return Command{PutService: &PutService{Service: s, IfMatch: &match}}
	}
	msg := d.fails(put(7, ""), api.CodeStaleRevision)
	if want := "change service app: it does not exist, so it has no revision 7"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(put(0, "")) // revision 1
	msg = d.fails(put(0, "/x"), api.CodeStaleRevision)
	if want := "change service app: its revision is 1, not 0"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(put(1, "/x"))                          // 2
	d.must(putInstance(testInstance("app", "a"))) // 3
	d.fails(Command{PutInstance: &PutInstance{Instance: testInstance("app", "a"), IfMatch: ptr(uint64(4))}}, api.CodeStaleRevision)
	d.fails(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "a"), IfMatch: ptr(uint64(4))}}, api.CodeStaleRevision)
	d.must(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "a"), IfMatch: ptr(uint64(3))}})
	d.fails(Command{DeleteService: &DeleteService{Name: "app", IfMatch: ptr(uint64(1))}}, api.CodeStaleRevision)
	d.must(Command{DeleteService: &DeleteService{Name: "app", IfMatch: ptr(uint64(2))}})
	tok := testToken("0123456789ab")
	d.must(Command{PutToken: &PutToken{Token: tok, IfMatch: ptr(uint64(0))}})
	tok.Description = "another"
	d.fails(Command{PutToken: &PutToken{Token: tok, IfMatch: ptr(uint64(0))}}, api.CodeStaleRevision)
}

func TestPutInstanceKeepsWhatOthersWrite(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(Command{PutNode: &PutNode{Node: testNode("n1")}})
	d.must(putInstance(testInstance("app", "a", func(i *api.Instance) {
		i.Node, i.Generation, i.Observed = "n1", 9, &api.Observed{State: api.StateRunning}
	})))
	i, _ := d.View().Instance(ref("app", "a"))
	if i.Node != "" || i.Generation != 0 || i.Observed != nil {
		t.Fatalf("a user wrote what is not theirs: %+v", i)
	}
	place := func(node string, gen uint64) Command {
		return Command{Place: &Place{Placements: []Placement{{Ref: ref("app", "a"), Node: node, Generation: gen}}}}
	}
	for _, stale := range []Command{place("n1", 0), place("n1", 2), place("nowhere", 1)} {
		if got := d.must(stale); got != 0 {
			t.Errorf("%+v took effect", stale.Place)
		}
	}
	d.must(place("n1", 1))
	report := func(node string, gen uint64, state api.State) Command {
		r := api.Report{Ref: ref("app", "a"), Observed: api.Observed{State: state, Generation: gen, Since: epoch}}
		return Command{Report: &Report{Node: node, Reports: []api.Report{r}}}
	}
	for _, stale := range []Command{report("n2", 1, api.StateRunning), report("n1", 2, api.StateRunning), report("", 1, api.StateRunning)} {
		if got := d.must(stale); got != 0 {
			t.Errorf("%+v took effect", stale.Report)
		}
	}
	d.must(report("n1", 1, api.StateRunning))
	before := d.View()
	if got := d.must(report("n1", 1, api.StateRunning)); got != 1 || d.View() != before {
		t.Error("a repeated report changed something")
	}
	put := d.must(putInstance(testInstance("app", "a", func(i *api.Instance) { i.Weight = ptr(7) }))).(*api.Instance)
	if put.Node != "n1" || put.Generation != 1 || put.Observed.State != api.StateRunning || put.EffectiveWeight() != 7 {
		t.Errorf("got %+v", put)
	}
	if put.Revision != d.View().Index() {
		t.Errorf("got revision %d, want %d", put.Revision, d.View().Index())
	}
}

func TestInstanceNeedsItsService(t *testing.T) {
	d := drive(t)
	d.fails(putInstance(testInstance("app", "a")), api.CodeNotFound)
	d.fails(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "a")}}, api.CodeNotFound)
}

func TestMaxInstances(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 2 })))
	d.must(putInstance(testInstance("app", "a")))
	d.must(putInstance(testInstance("app", "b")))
	msg := d.fails(putInstance(testInstance("app", "c")), api.CodeConflict)
	if want := "create instance app:c: service app has 2 instances, its max_instances is 2"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.must(putInstance(testInstance("app", "b", func(i *api.Instance) { i.Weight = ptr(1) })))
	d.must(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "a")}})
	d.must(putInstance(testInstance("app", "c")))
}

func TestTokensAndNodes(t *testing.T) {
	d := drive(t)
	tok := d.must(Command{PutToken: &PutToken{Token: testToken("0123456789ab")}}).(*api.Token)
	if again := d.must(Command{PutToken: &PutToken{Token: testToken("0123456789ab")}}); again != tok {
		t.Error("an equal token was stored again")
	}
	d.must(Command{DeleteToken: &DeleteToken{ID: tok.ID}})
	d.fails(Command{DeleteToken: &DeleteToken{ID: tok.ID}}, api.CodeNotFound)

	n := d.must(Command{PutNode: &PutNode{Node: testNode("n1")}}).(*api.Node)
	cordoned := testNode("n1")
	cordoned.Eligibility = api.EligibilityCordoned
	n2 := d.must(Command{PutNode: &PutNode{Node: cordoned}}).(*api.Node)
	if !n2.JoinedAt.Equal(n.JoinedAt) || n2.Revision == n.Revision || n.Eligibility != api.EligibilityEligible {
		t.Errorf("got %+v after %+v", n2, n)
	}
}

func TestClusterIsNamedOnce(t *testing.T) {
	d := drive(t)
	d.must(Command{InitCluster: &InitCluster{ClusterID: "one"}})
	d.must(Command{InitCluster: &InitCluster{ClusterID: "one"}})
	d.fails(Command{InitCluster: &InitCluster{ClusterID: "two"}}, api.CodeConflict)
	if got := d.View().ClusterID(); got != "one" {
		t.Errorf("got cluster %q", got)
	}
}

func TestSyncFile(t *testing.T) {
	d := drive(t)
	sync := func(services []api.Service, refs ...api.Ref) Command {
		return Command{SyncFile: &SyncFile{Services: services, Instances: refs}}
	}
	d.must(putService(testService("api-made")))
	d.must(putInstance(testInstance("api-made", "x")))
	d.must(putService(testService("web")))
	d.must(putInstance(testInstance("web", "kept", func(i *api.Instance) { i.Desired, i.Weight = api.DesiredStopped, ptr(5) })))
	d.must(putInstance(testInstance("web", "own")))

	first := sync([]api.Service{testService("web"), testService("db")}, ref("web", "kept"), ref("web", "new"), ref("db", "main"), ref("db", "main"))
	d.must(first)
	want := "api-made:x db:main web:kept web:new web:own"
	if got := refs(d.View()); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	web, _ := d.View().Service("web")
	kept, _ := d.View().Instance(ref("web", "kept"))
	created, _ := d.View().Instance(ref("web", "new"))
	if web.Source != api.SourceFile || kept.Source != api.SourceFile || kept.Desired != api.DesiredStopped || kept.EffectiveWeight() != 5 {
		t.Errorf("taken over: got %+v, %+v", web, kept)
	}
	if created.Desired != api.DesiredRunning || created.EffectiveWeight() != 100 {
		t.Errorf("created: got %+v", created)
	}
	before := d.View()
	if d.must(first); d.View() != before {
		t.Error("the same file again changed something")
	}
	d.must(sync([]api.Service{testService("web")}, ref("web", "new"), ref("api-made", "y")))
	if got, want := refs(d.View()), "api-made:x api-made:y web:new web:own"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, ok := d.View().Service("db"); ok {
		t.Error("a service that left the file is still there")
	}
	d.fails(sync([]api.Service{testService("new")}, ref("gone", "a")), api.CodeNotFound)
	one := testService("web", func(s *api.Service) { s.MaxInstances = 1 })
	d.fails(sync([]api.Service{one}, ref("web", "p"), ref("web", "q")), api.CodeConflict)
	d.fails(sync([]api.Service{{}}), api.CodeInvalid)
}

func refs(v *View) string {
	var out []string
	for i := range v.Instances("") {
		out = append(out, i.Ref().String())
	}
	return strings.Join(out, " ")
}

func TestInstancesOfAServiceOnly(t *testing.T) {
	d := drive(t)
	for _, s := range []string{"a", "a-b", "ab", "b"} {
		d.must(putService(testService(s)))
		d.must(putInstance(testInstance(s, "1")))
		d.must(putInstance(testInstance(s, "2")))
	}
	var got []string
	for i := range d.View().Instances("a") {
		got = append(got, i.Ref().String())
	}
	if want := []string{"a:1", "a:2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	d.must(Command{DeleteService: &DeleteService{Name: "a"}})
	if got, want := refs(d.View()), "a-b:1 a-b:2 ab:1 ab:2 b:1 b:2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUnplaced(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(Command{PutNode: &PutNode{Node: testNode("n1")}})
	d.must(putInstance(testInstance("app", "a")))
	d.must(putInstance(testInstance("app", "b")))
	d.must(Command{Place: &Place{Placements: []Placement{{Ref: ref("app", "a"), Node: "n1", Generation: 1}}}})
	var got []string
	for i := range d.View().Unplaced() {
		got = append(got, i.ID)
	}
	if !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %v, want b", got)
	}
	d.must(Command{DeleteInstance: &DeleteInstance{Ref: ref("app", "b")}})
	for i := range d.View().Unplaced() {
		t.Errorf("%s is deleted and unplaced", i.Ref())
	}
}

func TestUnreadableEntries(t *testing.T) {
	first := encode(t, Command{InitCluster: &InitCluster{ClusterID: "c"}})
	good := encode(t, putService(testService("app")))
	for name, entry := range map[string][]byte{
		"empty":          {},
		"newer format":   append([]byte{Version + 1}, Entry(first, good)[1:]...),
		"not JSON":       Entry(first, []byte("nonsense"), good),
		"cut short":      Entry(first, good[:len(good)-3]),
		"no operation":   Entry(first, []byte(`{"time":"2026-01-02T03:04:05Z"}`), good),
		"two operations": Entry(first, []byte(`{"init_cluster":{"cluster_id":"a"},"delete_token":{"id":"b"}}`), good),
		"unknown op":     Entry(first, []byte(`{"fly":{}}`), good),
		"unknown field":  Entry(first, []byte(`{"init_cluster":{"cluster_id":"a","colour":"red"}}`), good),
	} {
		s := New()
		res, err := s.Apply(entry, Entry(good))
		if !errors.Is(err, ErrUnreadable) || len(res) != 2 || res[1] != nil {
			t.Errorf("%s: got %v %v, want ErrUnreadable and nothing after it", name, res, err)
		}
		if _, ok := s.View().Service("app"); ok {
			t.Errorf("%s: what follows was applied", name)
		}
	}
	if _, err := (&Command{}).Encode(); err == nil {
		t.Error("a command without operation was encoded")
	}
}

func TestEntryOfSeveralCommands(t *testing.T) {
	s := New()
	res, err := s.Apply(
		Entry(encode(t, putService(testService("a"))), encode(t, putInstance(testInstance("none", "x"))), encode(t, putService(testService("b")))),
		Entry(),
		Entry(encode(t, putService(testService("a"))), encode(t, putService(testService("c")))),
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range res {
		for _, r := range entry {
			got = append(got, fmt.Sprintf("%d %s", r.Index, api.CodeOf(r.Err)))
		}
		got = append(got, "/")
	}
	if want := "1 0 not_found 2 / / 2 3 /"; strings.Join(strings.Fields(strings.Join(got, " ")), " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestKeysMustNotBeEmpty(t *testing.T) {
	d := drive(t)
	d.fails(putService(api.Service{}), api.CodeInvalid)
	d.fails(putInstance(api.Instance{}), api.CodeInvalid)
	d.fails(Command{PutNode: &PutNode{}}, api.CodeInvalid)
	d.fails(Command{PutToken: &PutToken{}}, api.CodeInvalid)
}

func TestPreview(t *testing.T) {
	d := drive(t)
	c := putService(testService("app"))
	if _, changes := d.Preview(&c); !changes || d.View().Index() != 0 {
		t.Error("preview of a create: want a change that is not made")
	}
	d.must(c)
	res, changes := d.Preview(&c)
	if s, ok := res.Object.(*api.Service); changes || !ok || s.Revision != 1 {
		t.Errorf("preview of an equal put: got %+v, changes %v", res, changes)
	}
	res, changes = d.Preview(&Command{DeleteToken: &DeleteToken{ID: "none"}})
	if changes || api.CodeOf(res.Err) != api.CodeNotFound {
		t.Errorf("preview of a failure: got %+v, changes %v", res, changes)
	}
}
