package api_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fill gives every exported field below v a value of its own that is not zero.
func fill(v reflect.Value, name string, seed int) {
	switch x := v.Addr().Interface().(type) {
	case *api.Duration:
		*x = api.Seconds(90 + seed)
		return
	case *api.Size:
		*x = api.Size(512+seed) * api.MiB
		return
	case *api.Ref:
		*x = api.Ref{Service: "web", ID: fmt.Sprint("alice", seed)}
		return
	case *time.Time:
		*x = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC).Add(time.Duration(seed) * time.Hour)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint(strings.ToLower(name), seed))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(10 + seed))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(20 + seed))
	case reflect.Float64:
		v.SetFloat(1.5 + float64(seed))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, seed)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), name, seed)
		fill(v.Index(1), name, seed+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, name, seed)
		fill(value, name, seed)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(v.Field(i), f.Name, seed)
			}
		}
	default:
		panic("fill: teach me " + v.Type().String())
	}
}

// filled returns a T without zero fields; seeds that differ differ in every field.
func filled[T any](seed int) *T {
	t := new(T)
	fill(reflect.ValueOf(t).Elem(), "", seed)
	return t
}

// set replaces the named field of t by that of other.
func set[T any](t, other *T, field string) {
	reflect.ValueOf(t).Elem().FieldByName(field).Set(reflect.ValueOf(other).Elem().FieldByName(field))
}

// object is what Equal and Clone belong to.
type object[T any] interface {
	*T
	Equal(*T) bool
	Clone() *T
}

// testObject holds Equal and Clone against every field of T, those that do not exist yet
// included: fields not named in written count for Equal as soon as they are there.
func testObject[T any, P object[T]](t *testing.T, notWritten ...string) {
	name := reflect.TypeFor[T]().Name()
	t.Run(name+"/Equal", func(t *testing.T) {
		for f := range reflect.TypeFor[T]().Fields() {
			a, b := filled[T](1), filled[T](1)
			if !P(a).Equal(b) {
				t.Fatal("equal values are not Equal")
			}
			other := filled[T](2)
			if f.Type.Kind() == reflect.Bool {
				other = new(T)
			}
			set(b, other, f.Name)
			if f.Type == reflect.TypeFor[*bool]() {
				no := false
				reflect.ValueOf(b).Elem().FieldByName(f.Name).Set(reflect.ValueOf(&no))
			}
			if got, want := P(a).Equal(b), slices.Contains(notWritten, f.Name); got != want {
				t.Errorf("with another %s: Equal is %v, want %v", f.Name, got, want)
			}
			if P(a).Equal(b) != P(b).Equal(a) {
				t.Errorf("with another %s: Equal is not symmetric", f.Name)
			}
		}
	})
	t.Run(name+"/Clone", func(t *testing.T) {
		for _, a := range []*T{filled[T](1), new(T)} {
			c := P(a).Clone()
			if !reflect.DeepEqual(a, c) {
				t.Errorf("the clone differs:\n%+v\n%+v", a, c)
			}
			shared(t, name, reflect.ValueOf(a).Elem(), reflect.ValueOf(c).Elem())
		}
	})
}

// shared reports pointers, slices and maps that two values have in common.
func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	if a.Type() == reflect.TypeFor[time.Time]() {
		return // its location is shared, and never changes
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if p := a.Pointer(); p != 0 && p == b.Pointer() && (a.Kind() != reflect.Slice || a.Cap() > 0) {
			t.Errorf("%s is shared with the clone", path)
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !a.IsNil() {
			shared(t, path, a.Elem(), b.Elem())
		}
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	}
}

func TestObjects(t *testing.T) {
	testObject[api.Service](t, "Revision", "CreatedAt", "UpdatedAt")
	testObject[api.Instance](t, "Revision", "CreatedAt", "Node", "Generation", "Previous", "DataNode", "Observed")
	testObject[api.Fleet](t, "Revision", "CreatedAt", "UpdatedAt")
	testObject[api.Route](t, "Revision", "CreatedAt", "UpdatedAt")
	testObject[api.Backend](t)
	testObject[api.PlacementRules](t)
	testObject[api.JoinToken](t, "Revision", "CreatedAt", "Uses")
	testObject[api.Node](t, "Revision", "JoinedAt", "Status", "StatusReason", "StatusSince", "Deadline")
	testObject[api.Token](t, "Revision", "CreatedAt", "LastUsedAt")
	var none *api.Observed
	if none.Clone() != nil {
		t.Error("the clone of no observation is one")
	}
}

// What means the same is Equal, however it is written.
func TestEqualIgnoresSpelling(t *testing.T) {
	yes, hundred := true, 100
	a := &api.Service{Name: "a", Args: []string{}, Env: map[string]string{}, StoragePersist: &yes}
	if b := (&api.Service{Name: "a"}); !a.Equal(b) || !b.Equal(a) {
		t.Error("services differ by empty and absent")
	}
	i := &api.Instance{Service: "a", ID: "x", Weight: &hundred}
	if !i.Equal(&api.Instance{Service: "a", ID: "x"}) {
		t.Error("instances differ by the default weight's being written")
	}
	now := time.Now()
	tok := &api.Token{ExpiresAt: now}
	if !tok.Equal(&api.Token{ExpiresAt: now.UTC().Round(0)}) {
		t.Error("tokens differ by the time zone of the same time")
	}
}

type defaulter[T any] interface {
	*T
	SetDefaults()
}

// testDefaults checks that SetDefaults is idempotent and keeps what is set, in a T with
// each field set alone.
func testDefaults[T any, P defaulter[T]](t *testing.T, start func() *T) {
	for f := range reflect.TypeFor[T]().Fields() {
		if !f.IsExported() {
			continue
		}
		v := start()
		set(v, filled[T](1), f.Name)
		want := reflect.ValueOf(filled[T](1)).Elem().FieldByName(f.Name).Interface()
		P(v).SetDefaults()
		if got := reflect.ValueOf(v).Elem().FieldByName(f.Name).Interface(); !reflect.DeepEqual(got, want) {
			t.Errorf("%T: SetDefaults turned %s from %v into %v", *v, f.Name, want, got)
		}
		once := asJSON(t, v)
		P(v).SetDefaults()
		if twice := asJSON(t, v); once != twice {
			t.Errorf("%T with %s: SetDefaults a second time made\n%s\nof\n%s", *v, f.Name, twice, once)
		}
	}
}

func TestSetDefaults(t *testing.T) {
	testDefaults(t, func() *api.Service { return new(api.Service) })
	testDefaults(t, func() *api.Service { return &api.Service{Command: `"my app" --port {port} 'a b'`} })
	testDefaults(t, func() *api.Service { return &api.Service{Command: `'open`} })
	testDefaults(t, func() *api.Instance { return new(api.Instance) })
	testDefaults(t, func() *api.Node { return new(api.Node) })
	testDefaults(t, func() *api.Fleet { return new(api.Fleet) })
	testDefaults(t, func() *api.Route { return new(api.Route) })
	testDefaults(t, func() *api.Token { return new(api.Token) })

	s := &api.Service{Command: `"my app" --port {port} ''`}
	s.SetDefaults()
	if s.Command != "my app" || !slices.Equal(s.Args, []string{"--port", "{port}", ""}) {
		t.Errorf("split into %q %q", s.Command, s.Args)
	}
	tenant := &api.Token{Tenant: "alice"}
	if tenant.SetDefaults(); tenant.Role != api.RoleTenant {
		t.Errorf("a token with a tenant became %q", tenant.Role)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}
