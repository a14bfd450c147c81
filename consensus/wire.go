package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// Actor is on whose behalf a command is proposed, for the leader to authorise again.
type Actor struct {
	TokenID string   `json:"token_id,omitempty"`
	Role    api.Role `json:"role,omitempty"`
	Tenant  string   `json:"tenant,omitempty"`
	// Node is the id of the node that acts by itself, or through whose local socket a
	// person does. It must be the node that forwards.
	Node string `json:"node,omitempty"`
}

// Forwarded is a command on its way to the leader.
type Forwarded struct {
	Command json.RawMessage `json:"command"`
	Actor   Actor           `json:"actor,omitzero"`
}

// ForwardResult is what became of a [Forwarded].
type ForwardResult struct {
	Index uint64 `json:"index,omitempty"`
	// Object is the object that resulted; Kind says of what kind it is.
	Kind   string          `json:"kind,omitempty"`
	Object json.RawMessage `json:"object,omitempty"`
	Error  *ForwardError   `json:"error,omitempty"`
}

// ForwardError is an error on its way back.
type ForwardError struct {
	Code       api.Code         `json:"code"`
	Message    string           `json:"message"`
	Fields     []api.FieldError `json:"fields,omitempty"`
	RetryAfter api.Duration     `json:"retry_after,omitempty"`
	// Bare is set when it was [api.FieldErrors] and no [api.Error].
	Bare bool `json:"bare,omitempty"`
	// Again is set when the command certainly had no effect and may have one at the next
	// leader.
	Again bool `json:"again,omitempty"`
}

// decodeCommand reads a command as strictly as the state does.
func decodeCommand(b []byte) (*state.Command, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var c state.Command
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("decode command: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode command: something follows its end")
	}
	if !c.Valid() {
		return nil, errors.New("decode command: want exactly one operation")
	}
	return &c, nil
}

// The kinds of a result's object.
const (
	kindService   = "service"
	kindInstance  = "instance"
	kindFleet     = "fleet"
	kindRoute     = "route"
	kindNode      = "node"
	kindToken     = "token"
	kindJoinToken = "join_token"
	kindSecret    = "secret"
	kindCount     = "count"
	kindText      = "text"
)

func encodeResult(res state.Result, err error) ForwardResult {
	if err != nil {
		return ForwardResult{Index: res.Index, Error: encodeError(err)}
	}
	out := ForwardResult{Index: res.Index}
	switch res.Object.(type) {
	case *api.Service:
		out.Kind = kindService
	case *api.Instance:
		out.Kind = kindInstance
	case *api.Fleet:
		out.Kind = kindFleet
	case *api.Route:
		out.Kind = kindRoute
	case *api.Node:
		out.Kind = kindNode
	case *api.Token:
		out.Kind = kindToken
	case *api.JoinToken:
		out.Kind = kindJoinToken
	case *state.Secret:
		out.Kind = kindSecret
	case int:
		out.Kind = kindCount
	case string:
		out.Kind = kindText
	default:
		return out
	}
	b, err := json.Marshal(res.Object)
	if err != nil {
		return ForwardResult{Index: res.Index, Error: encodeError(fmt.Errorf("encode result: %w", err))}
	}
	out.Object = b
	return out
}

func encodeError(err error) *ForwardError {
	out := &ForwardError{Code: api.CodeOf(err), Message: err.Error(), Again: neverHappened(err)}
	if e, ok := errors.AsType[*api.Error](err); ok {
		out.Fields, out.RetryAfter = e.Fields, e.RetryAfter
	} else if e, ok := errors.AsType[api.FieldErrors](err); ok {
		out.Fields, out.Bare = e, true
	}
	return out
}

// decode returns what the leader's answer means.
func (r *ForwardResult) decode() (state.Result, error) {
	res := state.Result{Index: r.Index}
	if r.Error != nil {
		return res, r.Error.decode()
	}
	var err error
	switch r.Kind {
	case kindService:
		res.Object, err = decodePointer[api.Service](r.Object)
	case kindInstance:
		res.Object, err = decodePointer[api.Instance](r.Object)
	case kindFleet:
		res.Object, err = decodePointer[api.Fleet](r.Object)
	case kindRoute:
		res.Object, err = decodePointer[api.Route](r.Object)
	case kindNode:
		res.Object, err = decodePointer[api.Node](r.Object)
	case kindToken:
		res.Object, err = decodePointer[api.Token](r.Object)
	case kindJoinToken:
		res.Object, err = decodePointer[api.JoinToken](r.Object)
	case kindSecret:
		res.Object, err = decodePointer[state.Secret](r.Object)
	case kindCount:
		res.Object, err = decodeObject[int](r.Object)
	case kindText:
		res.Object, err = decodeObject[string](r.Object)
	case "":
	default: // from a newer leader, for a command of which this node wants no object
	}
	if err != nil {
		return res, api.Errorf(api.CodeInternal, "read the leader's answer: %w", err)
	}
	return res, nil
}

func decodePointer[T any](b []byte) (*T, error) {
	v, err := decodeObject[T](b)
	return &v, err
}

func decodeObject[T any](b []byte) (T, error) {
	var v *T
	if err := json.Unmarshal(b, &v); err != nil {
		return *new(T), err
	}
	if v == nil {
		return *new(T), errors.New("it has no object")
	}
	return *v, nil
}

func (e *ForwardError) decode() error {
	if e.Bare && len(e.Fields) > 0 {
		return api.FieldErrors(e.Fields)
	}
	out := &api.Error{Code: e.Code, Message: e.Message, Fields: e.Fields, RetryAfter: e.RetryAfter}
	if e.Again {
		return &againError{out}
	}
	return out
}

// againError is an error of another node that [neverHappened] recognises.
type againError struct{ err *api.Error }

// Error implements error.
func (e *againError) Error() string { return e.err.Message }

// Unwrap exposes both to errors.Is and errors.As.
func (e *againError) Unwrap() []error { return []error{e.err, ErrNotLeader} }
