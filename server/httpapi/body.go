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

// readBody reads a request's JSON object into the struct that dst points to.
func readBody(w http.ResponseWriter, r *http.Request, dst any, optional bool) error {
	data, err := readAll(w, r)
	if err != nil {
		return err
	}
	if optional && len(data) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return &api.FieldError{Field: "Content-Type", Got: clip(r.Header.Get("Content-Type")), Want: "application/json"}
	}
	return decodeStrict(data, dst)
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
func decodeStrict(data []byte, dst any) error {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return syntaxError(data, err)
	}
	if !utf8.Valid(data) {
		return &api.FieldError{Field: "body", Got: "bytes that are not UTF-8", Want: "JSON in UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return &api.FieldError{Field: "body", Got: clip(string(bytes.TrimSpace(data))), Want: "a JSON object"}
	}
	v := reflect.ValueOf(dst).Elem()
	fields := fieldsOf(v.Type())
	var errs api.FieldErrors
	seen := map[string]bool{}
	for dec.More() {
		var raw json.RawMessage
		key, err := dec.Token()
		if err == nil {
			err = dec.Decode(&raw)
		}
		if err != nil {
			return syntaxError(data, err)
		}
		name := key.(string) // an object's keys are strings
		i := slices.IndexFunc(fields, func(f jsonField) bool { return f.name == name })
		switch {
		case i < 0:
			errs = append(errs, unknown(clip(name), "field", namesOf(fields)))
		case seen[name]:
			errs = append(errs, api.FieldError{Field: name, Got: "given twice", Want: "once"})
		default:
			seen[name] = true
			f := v.Field(fields[i].index)
			if err := json.Unmarshal(raw, f.Addr().Interface()); err != nil {
				errs = append(errs, fieldError(name, f.Type(), raw, err))
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
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
