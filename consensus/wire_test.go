package consensus

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

func TestResultsOverTheWire(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, object := range []any{
		&api.Service{Name: "app", Revision: 3, CreatedAt: at}, &api.Instance{Service: "app", ID: "a"},
		&api.Fleet{Service: "app", Name: "f"}, &api.Route{Name: "r"}, &api.Node{ID: "n"}, &api.Token{ID: "t", SHA256: []byte{1}},
		&api.JoinToken{ID: "j"}, &state.Secret{Phase: api.SecretUse, Sealed: []byte{2}}, 7, "text", nil,
	} {
		r := overWire(t, encodeResult(state.Result{Object: object, Index: 9}, nil))
		got, err := r.decode()
		if err != nil || got.Index != 9 || !reflect.DeepEqual(got.Object, object) {
			t.Errorf("%#v became %#v %v", object, got.Object, err)
		}
	}
}

func TestErrorsOverTheWire(t *testing.T) {
	retry := api.Errorf(api.CodeUnavailable, "later: %w", ErrNotLeader)
	retry.RetryAfter = api.Seconds(1)
	for _, want := range []error{
		&api.Error{Code: api.CodeInvalid, Message: "bad", Fields: []api.FieldError{{Field: "f", Got: "g", Want: "w"}}},
		api.FieldErrors{{Field: "f", Got: "g", Want: "w"}, {Field: "h"}},
		api.Errorf(api.CodeDiskFull, "full"), errors.New("some bug"), retry, errNoLeader,
	} {
		r := overWire(t, encodeResult(state.Result{}, want))
		_, got := r.decode()
		if got.Error() != want.Error() || api.CodeOf(got) != api.CodeOf(want) || neverHappened(got) != neverHappened(want) {
			t.Errorf("%v (%s) became %v (%s)", want, api.CodeOf(want), got, api.CodeOf(got))
		}
		a, _ := errors.AsType[api.FieldErrors](want)
		b, _ := errors.AsType[api.FieldErrors](got)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("the fields %v became %v", a, b)
		}
	}
	if r := (ForwardResult{Kind: "from the future", Index: 1, Object: json.RawMessage(`{}`)}); func() error { _, err := r.decode(); return err }() != nil {
		t.Error("an unknown kind is an error")
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"delete_service":{"name":"a"}}`, `{"delete_service":{"name":"a"}} {}`, `{"report":{},"place":{}}`, `{"x":1}`, `[`,
		`{"time":"2026-01-02T03:04:05Z","put_service":{"service":{"name":"a"}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCommand(b)
		if (c == nil) != (err != nil) {
			t.Fatalf("got %v %v", c, err)
		}
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeCommand(again); err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
	})
}

func FuzzForwardResult(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"index":1,"kind":"service","object":{"name":"a"}}`, `{"kind":"count","object":3}`, `{"kind":"node","object":"no"}`,
		`{"error":{"code":"invalid","message":"m","fields":[{}],"bare":true}}`, `{"error":{"again":true}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r ForwardResult
		if json.Unmarshal(b, &r) != nil {
			return
		}
		if _, err := r.decode(); r.Error != nil && err == nil {
			t.Fatal("an error became none")
		}
	})
}
