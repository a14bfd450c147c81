package state

import (
	"encoding"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// leaf is one field that a command can have: how JSON names it, and how to reach it.
type leaf struct {
	path  string
	index []int
}

// leaves returns every field below a type, those with fields of their own included.
func leaves(typ reflect.Type, path string, index []int) []leaf {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	isText := reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextMarshaler]())
	if typ.Kind() != reflect.Struct || isText || typ == reflect.TypeFor[time.Time]() {
		return nil
	}
	var all []leaf
	for n := range typ.NumField() {
		f := typ.Field(n)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		l := leaf{path + "." + name, append(slices.Clone(index), n)}
		all = append(append(all, l), leaves(f.Type, l.path, l.index)...)
	}
	return all
}

// fill sets the field at index, and what is on the way to it, to something not zero.
func (l leaf) fill(v reflect.Value) {
	for _, n := range l.index {
		v = into(v).Field(n)
	}
	notZero(into(v))
}

// into follows pointers and slices to what they hold, and makes them hold something.
func into(v reflect.Value) reflect.Value {
	for {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = v.Index(0)
		default:
			return v
		}
	}
}

func notZero(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = epoch
		return
	case *api.Ref:
		*x = ref("a", "b")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("v"))
	}
}

// fieldsOf returns testdata/versionN.fields: every field that version N of the state knew.
func fieldsOf(t *testing.T, version int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("testdata/version%d.fields", version))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// A command with any field that a version did not know makes a node of that version stop,
// so it must not say that it needs no more. Whoever adds a field adds it to needs, under
// a new version if this one is released.
func TestNeedsKnowsEveryNewField(t *testing.T) {
	for version := 1; version < StateVersion; version++ {
		known := fieldsOf(t, version)
		all := leaves(reflect.TypeFor[Command](), "", nil)
		if len(all) <= len(known) {
			t.Fatalf("found %d fields, fewer than in version %d", len(all), version)
		}
		var old []string
		for _, l := range all {
			if slices.Contains(known, l.path) {
				old = append(old, l.path)
				continue
			}
			var c Command
			l.fill(reflect.ValueOf(&c).Elem())
			if c.operation() == nil {
				t.Errorf("%s: no operation", l.path)
			} else if c.Needs() <= version {
				t.Errorf("%s: a command that has it needs version %d", l.path, c.Needs())
			}
		}
		for _, path := range known {
			if !slices.Contains(old, path) {
				t.Errorf("%s is gone: logs that have it can't be read", path)
			}
		}
	}
}

// What a version can read is not kept from it.
func TestNeedsNoMore(t *testing.T) {
	for version, operations := range map[int]int{1: 11, 2: 25} {
		known := fieldsOf(t, version)
		full := map[int]*Command{} // by operation, with every field of the version
		for _, l := range leaves(reflect.TypeFor[Command](), "", nil) {
			if op := l.index[0]; op > 0 && slices.Contains(known, l.path) {
				if full[op] == nil {
					full[op] = new(Command)
				}
				l.fill(reflect.ValueOf(full[op]).Elem())
			}
		}
		if len(full) != operations {
			t.Fatalf("version %d: got %d operations", version, len(full))
		}
		for _, c := range full {
			if c.Needs() > version {
				t.Errorf("%s needs version %d, and version %d knows all of it", encode(t, *c), c.Needs(), version)
			}
		}
	}
}

func TestAllows(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	d.must(Command{PutNode: &PutNode{Node: testNode("n1")}})
	d.must(Command{PutNode: &PutNode{Node: testNode("n2")}})
	old, fleet := putService(testService("b")), putFleet("app", "f", 1)
	if got := d.View().MinStateVersion(); got != 1 {
		t.Errorf("got least version %d, want 1", got)
	}
	allows := func(c Command, want string) {
		t.Helper()
		err := d.View().Allows(&c)
		if want == "" && err != nil || want != "" && (api.CodeOf(err) != api.CodeConflict || err.Error() != want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	tooOld := func(id string) string {
		return "propose command: it needs version 2 of the state, node node-" + id + " (" + id +
			") understands version 1: run a newer ten there, or remove it"
	}
	allows(old, "")
	allows(fleet, tooOld("n1"))
	allows(describe("n1"), tooOld("n2"))
	allows(Command{}, "")

	d = drive(t) // a cluster of one, upgraded
	d.must(putService(testService("app")))
	d.must(Command{PutNode: &PutNode{Node: testNode("n1")}})
	allows(describe("n2"), tooOld("n1"))
	allows(describe("n1"), "")
	if got := d.View().StateVersion(); got != 1 {
		t.Errorf("got version %d in use, want 1", got)
	}
	d.must(describe("n1"))
	allows(fleet, "")
	if v := d.View(); v.StateVersion() != 2 || v.MinStateVersion() != StateVersion {
		t.Errorf("got version %d in use, %d the least", v.StateVersion(), v.MinStateVersion())
	}
	d.must(fleet)
	msg := d.fails(describe("n2", func(n *api.Node) { n.StateVersion = 1 }), api.CodeConflict)
	if want := "describe node n2: it understands version 1 of the state, the cluster uses version 2: run a newer ten there"; msg != want {
		t.Errorf("got %q, want %q", msg, want)
	}
	d.fails(Command{PutNode: &PutNode{Node: testNode("n2")}}, api.CodeConflict)
}

// A service has no secret variables while a node would stop at them.
func TestAllowsSecretEnv(t *testing.T) {
	d := drive(t)
	old := func(n *api.Node) { n.StateVersion = 2 }
	d.must(describe("n1"))
	d.must(describe("n2", old))
	secret := testService("app", func(s *api.Service) { s.Env, s.SecretEnv = map[string]string{"KEY": "sesame"}, []string{"KEY"} })
	const want = "propose command: it needs version 3 of the state, node node-n2 (n2) understands version 2: run a newer ten there, or remove it"
	for _, c := range []Command{putService(secret), {SyncFile: &SyncFile{Node: "n1", Services: []api.Service{secret}}}} {
		if err := d.View().Allows(&c); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	d.must(describe("n2"))
	c := putService(secret)
	if err := d.View().Allows(&c); err != nil {
		t.Error(err)
	}
	d.must(c)
	d.fails(describe("n3", old), api.CodeConflict)
	if s := string(snapshotOf(t, d.View())); !strings.Contains(s, `"state_version":3}`) {
		t.Errorf("the header does not say that it takes version 3:\n%s", s)
	}
}

// A build of version 1 refuses a snapshot that it would misread, and reads all others:
// its reader is strict, and the header says what it does not know.
func TestSnapshotNeedsItsVersion(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app")))
	if s := string(snapshotOf(t, d.View())); strings.Contains(s, "state_version") {
		t.Errorf("a snapshot that version 1 could read says otherwise:\n%s", s)
	}
	d.must(putFleet("app", "f", 1))
	good := string(snapshotOf(t, d.View()))
	if !strings.Contains(good, `"state_version":2}`) {
		t.Errorf("the header does not say that it takes version 2:\n%s", good)
	}
	newer := strings.Replace(good, `"state_version":2`, fmt.Sprintf(`"state_version":%d`, StateVersion+1), 1)
	if err := New().Restore(strings.NewReader(newer)); err == nil {
		t.Error("a snapshot of the next version was restored")
	}
}
