package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tenement-fleet/tenement/api"
)

const (
	maxBody     = 1 << 20
	bodyTimeout = 30 * time.Second
)

// readBody reads a request's JSON object into the struct that dst points to, which has
// the fields.
func readBody(w http.ResponseWriter, r *http.Request, dst any, fields []jsonField, optional bool) error {
	data, err := readAll(w, r)
	if err != nil {
		return err
	}
	if optional && len(data) == 0 {
		return nil
	}
	if contentType := r.Header.Get("Content-Type"); contentType != mediaJSON { // nearly always it is just that
		media, _, err := mime.ParseMediaType(contentType)
		if err != nil || media != mediaJSON {
			return &api.FieldError{Field: "Content-Type", Got: clip(contentType), Want: mediaJSON}
		}
	}
	return decodeStrict(data, dst, fields)
}

func readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := api.Errorf(api.CodeTooLarge, "body: more than 1 MiB")
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	// A body that trickles in must not hold the request for ever. The deadline is the
	// connection's, so it is the real clock's; a writer that has none keeps the server's.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge
		}
		return nil, &api.FieldError{Field: "body", Got: clip(err.Error()), Want: "a body that arrives whole within " + api.Duration(bodyTimeout).String()}
	}
	_ = rc.SetReadDeadline(time.Time{})
	return data, nil
}

// decodeStrict reads one JSON object, and nothing after it, into the struct that dst
// points to. Unlike encoding/json it reports every wrong field by its name, and refuses
// unknown fields, fields given twice and names that differ in case.
func decodeStrict(data []byte, dst any, fields []jsonField) error {
	if !json.Valid(data) {
		var whole json.RawMessage
		return syntaxError(data, json.Unmarshal(data, &whole))
	}
	if !utf8.Valid(data) {
		return &api.FieldError{Field: "body", Got: "bytes that are not UTF-8", Want: "JSON in UTF-8"}
	}
	object := bytes.TrimSpace(data)
	if object[0] != '{' {
		return &api.FieldError{Field: "body", Got: clip(string(object)), Want: "a JSON object"}
	}
	if wellNamed(object, fields) && json.Unmarshal(object, dst) == nil {
		return nil
	}
	return wrongFields(object, reflect.ValueOf(dst).Elem(), fields)
}

// wellNamed reports whether an object's names are those of fields, none of them twice.
func wellNamed(object []byte, fields []jsonField) bool {
	seen := make([]bool, len(fields))
	for name := range members(object) {
		i := slices.IndexFunc(fields, func(f jsonField) bool { return f.name == name })
		if i < 0 || seen[i] {
			return false
		}
		seen[i] = true
	}
	return true
}

// wrongFields returns an error for each member of an object that can't become a field of
// dst.
func wrongFields(object []byte, dst reflect.Value, fields []jsonField) error {
	var errs api.FieldErrors
	seen := map[string]bool{}
	for name, raw := range members(object) {
		i := slices.IndexFunc(fields, func(f jsonField) bool { return f.name == name })
		switch {
		case i < 0:
			errs = append(errs, unknown(clip(name), "field", namesOf(fields)))
		case seen[name]:
			errs = append(errs, api.FieldError{Field: name, Got: "given twice", Want: "once"})
		default:
			seen[name] = true
			f := dst.Field(fields[i].index)
			if err := json.Unmarshal(raw, f.Addr().Interface()); err != nil {
				errs = append(errs, fieldError(name, f.Type(), raw, err))
			}
		}
	}
	if len(errs) == 0 {
		return api.Errorf(api.CodeInternal, "decode body: no field is wrong, and yet it can't be read")
	}
	return errs
}

func syntaxError(data []byte, err error) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return &api.FieldError{Field: "body", Got: "", Want: "a JSON object"}
	}
	se, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return &api.FieldError{Field: "body", Got: clip(err.Error()), Want: "a JSON object"}
	}
	before := data[:min(max(se.Offset-1, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return &api.FieldError{
		Field: fmt.Sprintf("body line %d column %d", line, column), Got: clip(se.Error()),
		Want: "one JSON object and nothing after it",
	}
}

// fieldError names the field that a value was meant for. The values of an environment
// are secrets, and are not repeated.
func fieldError(name string, t reflect.Type, raw json.RawMessage, err error) api.FieldError {
	got, want := clip(string(raw)), wantOf(t)
	if fe, ok := errors.AsType[*api.FieldError](err); ok {
		want = fe.Want
	}
	if name == "env" {
		got = "(hidden)"
	}
	return api.FieldError{Field: name, Got: got, Want: want}
}

// wantOf says in words what JSON a type takes.
func wantOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return `a time such as "2006-01-02T15:04:05Z"`
	case reflect.TypeFor[[]byte]():
		return "text in base64"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return wantOf(t.Elem()) + ", or null"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Slice:
		return "a list, each " + wantOf(t.Elem())
	case reflect.Map:
		return "an object, each value " + wantOf(t.Elem())
	case reflect.Struct:
		return "an object"
	default:
		return "text"
	}
}

// unknown reports a name that is not among the known ones.
func unknown(name, what string, known []string) api.FieldError {
	want := "one of " + strings.Join(known, ", ")
	if len(known) == 0 {
		want = "no " + what + "s"
	}
	if near := closest(name, known); near != "" {
		want = fmt.Sprintf("%q, perhaps", near)
	}
	return api.FieldError{Field: name, Got: "an unknown " + what, Want: want}
}
