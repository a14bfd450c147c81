package api

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the machine-readable kind of an [Error]. The set only grows.
type Code string

// The error codes. Each maps to one HTTP status; see [Code.Status].
const (
	CodeInvalid         Code = "invalid"           // 400: the input breaks a rule; Fields says which
	CodeUnauthenticated Code = "unauthenticated"   // 401: no token, or not a valid one
	CodeForbidden       Code = "forbidden"         // 403: the token may not do this
	CodeNotFound        Code = "not_found"         // 404: no such object, or not yours to see
	CodeNotAllowed      Code = "not_allowed"       // 405: the path exists, the method does not
	CodeConflict        Code = "conflict"          // 409: the object's state forbids the operation
	CodeStaleRevision   Code = "stale_revision"    // 412: If-Match does not name the current revision
	CodeTooLarge        Code = "too_large"         // 413: the body exceeds the limit
	CodeMisdirected     Code = "misdirected"       // 421: another node has the object; the asker's view is stale
	CodeTooManyRequests Code = "too_many_requests" // 429: rate limited; see RetryAfter
	CodeInternal        Code = "internal"          // 500: a bug or a broken disk
	CodeUnavailable     Code = "unavailable"       // 503: not now: no leader, starting, shutting down, queue full
	CodeDiskFull        Code = "disk_full"         // 503: the data directory is below its low-water mark
	CodeFailed          Code = "failed"            // 502: the instance could not be started
	CodeTimeout         Code = "timeout"           // 504: a bounded wait ran out
)

// Status returns the HTTP status that the code maps to; 500 for an unknown code.
func (c Code) Status() int {
	switch c {
	case CodeInvalid:
		return 400
	case CodeUnauthenticated:
		return 401
	case CodeForbidden:
		return 403
	case CodeNotFound:
		return 404
	case CodeNotAllowed:
		return 405
	case CodeConflict:
		return 409
	case CodeStaleRevision:
		return 412
	case CodeTooLarge:
		return 413
	case CodeMisdirected:
		return 421
	case CodeTooManyRequests:
		return 429
	case CodeFailed:
		return 502
	case CodeUnavailable, CodeDiskFull:
		return 503
	case CodeTimeout:
		return 504
	default:
		return 500
	}
}

// Error is an error with a [Code], as the HTTP API reports it (RFC 9457 problem+json).
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Fields names what was wrong with the input, for CodeInvalid.
	Fields []FieldError `json:"fields,omitempty"`
	// RetryAfter is how long a client should wait before it tries again; zero says nothing.
	RetryAfter Duration `json:"retry_after,omitempty"`

	cause error
}

// Errorf returns an *Error whose message follows fmt.Errorf, %w included.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the wrapped cause, if any.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same code and, if target has a
// message, the same message; so errors.Is(err, &api.Error{Code: api.CodeNotFound}) tests the kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Message == "" || t.Message == e.Message)
}

// CodeOf returns the code of the first *Error in err's tree, CodeInvalid for a
// [FieldError] or [FieldErrors], CodeInternal for any other error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[FieldErrors](err); ok {
		return CodeInvalid
	}
	if _, ok := errors.AsType[*FieldError](err); ok {
		return CodeInvalid
	}
	return CodeInternal
}

// FieldError says that one field of some input is wrong, what came and what is allowed.
type FieldError struct {
	Field string `json:"field"`
	Got   string `json:"got"`
	Want  string `json:"want"`
}

// Error implements error: `field: got "x", want y`.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: got %q, want %s", e.Field, e.Got, e.Want)
}

// FieldErrors is every [FieldError] of one input, in field order of the checked struct.
type FieldErrors []FieldError

// Error implements error: the messages joined by "; ".
func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i := range e {
		parts[i] = e[i].Error()
	}
	return strings.Join(parts, "; ")
}

// Unwrap exposes each field's error to errors.As.
func (e FieldErrors) Unwrap() []error {
	out := make([]error, len(e))
	for i := range e {
		out[i] = &e[i]
	}
	return out
}

// fieldChecks collects the errors of one Validate.
type fieldChecks struct{ errs FieldErrors }

// check notes an error unless ok. Got and want are turned into text, and into the
// interfaces that fmt takes, only then: every write is validated, and nearly all are in
// order.
func check[Got, Want any](c *fieldChecks, ok bool, field string, got Got, want Want) {
	if !ok {
		c.errs = append(c.errs, FieldError{Field: field, Got: fmt.Sprint(got), Want: fmt.Sprint(want)})
	}
}

func (c *fieldChecks) name(field, s string) { c.wrap(checkName(field, s)) }

func (c *fieldChecks) wrap(err error) {
	if fe, ok := errors.AsType[*FieldError](err); ok {
		c.errs = append(c.errs, *fe)
	}
}

func (c *fieldChecks) err() error {
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs
}
