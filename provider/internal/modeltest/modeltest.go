// Package modeltest holds a Terraform model against the object of the API that it stands
// for, field by field, those that do not exist yet included. Only tests import it.
package modeltest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
)

// RoundTrip fails if a field of O, but for those that users do not write, is not an
// attribute of the same name, or does not survive the way into the model and back. Blank
// is the model of an import. Valid makes an object of which every field has a value that
// is neither zero nor the default; different seeds differ in every field.
func RoundTrip[M, O any, P managed.Model[M, O]](t *testing.T, s schema.Schema, blank func() *M, valid func(seed int) *O, notWritten ...string) {
	t.Helper()
	for f := range reflect.TypeFor[O]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		_, has := s.Attributes[name]
		if written := !slices.Contains(notWritten, f.Name); written && !has {
			t.Errorf("%s has no attribute %q for the field %s", reflect.TypeFor[M](), name, f.Name)
		}
	}
	ctx := context.Background()
	for f := range reflect.TypeFor[O]().Fields() {
		if slices.Contains(notWritten, f.Name) {
			continue
		}
		o := valid(1)
		of := func(o *O) reflect.Value { return reflect.ValueOf(o).Elem().FieldByName(f.Name) }
		of(o).Set(of(valid(2))) // one field alone
		m := blank()
		if diags := P(m).Flatten(ctx, o); diags.HasError() {
			t.Fatalf("%s: flatten: %v", f.Name, diags)
		}
		back, diags := P(m).Expand(ctx)
		if diags.HasError() {
			t.Fatalf("%s: expand: %v", f.Name, diags)
		}
		if got, want := of(back).Interface(), of(o).Interface(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s went in as %v and came out as %v", f.Name, want, got)
		}
	}
	for seed := range 2 { // and all of them together
		o, m := valid(seed+1), blank()
		P(m).Flatten(ctx, o)
		back, _ := P(m).Expand(ctx)
		for f := range reflect.TypeFor[O]().Fields() {
			if slices.Contains(notWritten, f.Name) {
				continue
			}
			got, want := reflect.ValueOf(back).Elem().FieldByName(f.Name).Interface(), reflect.ValueOf(o).Elem().FieldByName(f.Name).Interface()
			if !reflect.DeepEqual(got, want) {
				t.Errorf("together: %s went in as %v and came out as %v", f.Name, want, got)
			}
		}
		again := *m
		P(m).Flatten(ctx, back)
		if !reflect.DeepEqual(*m, again) {
			t.Errorf("the model changes when it is read again:\n%+v\n%+v", again, *m)
		}
	}
}

// Fill gives every exported field below v a value of its own, from the seed on.
func Fill(v reflect.Value, name string, seed int) {
	switch x := v.Addr().Interface().(type) {
	case *api.Duration:
		*x = api.Seconds(90 + seed)
		return
	case *api.Size:
		*x = api.Size(512+seed) * api.MiB
		return
	case *api.Constraint:
		*x = api.Constraint(fmt.Sprint("zone = z", seed))
		return
	case *time.Time:
		*x = time.Unix(int64(1_700_000_000+seed), 0)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint(strings.ToLower(name), seed))
	case reflect.Bool:
		v.SetBool(seed%2 == 1)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(10 + seed))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(20 + seed))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		Fill(v.Elem(), name, seed)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		Fill(v.Index(0), name, seed)
		Fill(v.Index(1), name, seed+2)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		Fill(key, name, seed)
		Fill(value, name, seed)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				Fill(v.Field(i), f.Name, seed)
			}
		}
	default:
		panic("fill: teach me " + v.Type().String())
	}
}

// Filled returns a T whose every field has a value of its own.
func Filled[T any](seed int) *T {
	t := new(T)
	Fill(reflect.ValueOf(t).Elem(), "", seed)
	return t
}
