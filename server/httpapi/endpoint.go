package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// handler is what an endpoint does, with the types that it takes and gives: the OpenAPI
// document reads them, so that it can't say anything else than the code does.
type handler struct {
	req, resp    reflect.Type // nil: none
	fields       []jsonField  // of req
	media        string       // of the answer; "" for JSON
	takes        string       // media type of the body of an endpoint that reads it by itself
	dry          bool         // changes nothing, whatever the method
	status       int          // of success; 0 for 200, or 204 when there is no resp
	bodyOptional bool
	run          func(*Server, *call) (any, error)
}

// none is the answer of an endpoint that has nothing to say.
type none struct{}

func respType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[none]() {
		return t
	}
	return nil
}

// answerOf boxes what a method returned; a nil pointer is nothing to say.
func answerOf[Resp any](resp Resp, err error) (any, error) {
	if v := reflect.ValueOf(resp); err != nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return none{}, err
	}
	return resp, nil
}

// read makes a handler of a method that takes no body.
func read[Resp any](h func(*Server, *call) (Resp, error)) handler {
	return handler{resp: respType[Resp](), run: func(s *Server, c *call) (any, error) { return answerOf(h(s, c)) }}
}

// write makes a handler of a method that takes a body.
func write[Req, Resp any](h func(*Server, *call, *Req) (Resp, error)) handler {
	return handler{
		req: reflect.TypeFor[Req](), resp: respType[Resp](), fields: fieldsOf(reflect.TypeFor[Req]()),
		run: func(s *Server, c *call) (any, error) { return answerOf(h(s, c, c.body.(*Req))) },
	}
}

// raw makes a handler of a method that answers by itself.
func raw(media string, h func(*Server, *call) error) handler {
	return handler{media: media, run: func(s *Server, c *call) (any, error) { return none{}, h(s, c) }}
}

// stream makes a handler of a method that sends server-sent events, each of type T.
func stream[T any](h func(*Server, *call) error) handler {
	e := raw(mediaSSE, h)
	e.resp = reflect.TypeFor[T]()
	return e
}

func optional(h handler) handler { h.bodyOptional = true; return h }
func created(h handler) handler  { h.status = http.StatusCreated; return h }
func accepted(h handler) handler { h.status = http.StatusAccepted; return h }
func dry(h handler) handler      { h.dry = true; return h }

func taking(media string, h handler) handler { h.takes = media; return h }

// call is one request on its way through its endpoint.
type call struct {
	ctx       context.Context
	principal auth.Principal
	begun     time.Time
	view      View     // the state that the answer is made from
	ref       api.Ref  // {instance} or {fleet}
	name      string   // {name}, {node} or {id}; of several parameters the last
	path      []string // all parameters, in their order
	args      args
	body      any
	object    string // what it is about, for the audit log

	w *echo.Response
	r *http.Request
}

// serve takes a request through the steps that every endpoint shares.
func (s *Server) serve(e *endpoint, ec echo.Context) (err error) {
	c := &call{ctx: ec.Request().Context(), w: ec.Response(), r: ec.Request(), begun: s.cfg.Now(), view: s.cfg.Cluster.View()}
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(v, c)
		}
		if e.mutates() {
			s.audit(e, c, err)
		}
	}()
	pathErr := c.parsePath(ec)
	if e.access != auth.AccessPublic {
		if c.principal, err = s.auth.Authenticate(c.r); err != nil {
			return err
		}
	}
	if err := auth.Allow(c.principal, e.access, c.ref.ID); err != nil {
		return err
	}
	if pathErr != nil {
		return pathErr
	}
	if c.args, err = parseArgs(c.r, e.params); err != nil {
		return err
	}
	if e.blocks() {
		if err := s.settleView(c); err != nil {
			return err
		}
	}
	s.setIndex(c)
	if e.req != nil {
		c.body = reflect.New(e.req).Interface()
		if err := readBody(c.w, c.r, c.body, e.fields, e.bodyOptional); err != nil {
			return err
		}
	}
	if e.method != http.MethodGet {
		c.ctx = auth.WithPrincipal(c.ctx, c.principal)
	}
	answer, err := e.run(s, c)
	if e.mutates() {
		c.view = s.cfg.Cluster.View()
	}
	if !c.w.Committed {
		s.setIndex(c)
	}
	if err != nil {
		return s.leaderless(err)
	}
	if e.media != "" {
		return nil
	}
	return writeAnswer(c.w, e.status, answer)
}

// parsePath reads the path's parameters.
func (c *call) parsePath(ec echo.Context) error {
	c.object = c.r.URL.Path
	for i, kind := range ec.ParamNames() {
		value := ec.ParamValues()[i]
		if c.r.URL.RawPath != "" { // the router matched the escaped path
			var err error
			if value, err = url.PathUnescape(value); err != nil {
				return &api.FieldError{Field: kind, Got: value, Want: "a well-formed path"}
			}
		}
		c.object = value
		c.path = append(c.path, value)
		switch kind {
		case "instance", "fleet":
			ref, err := api.ParseRef(value)
			if err != nil {
				if kind == "fleet" {
					return &api.FieldError{Field: kind, Got: clip(value), Want: "service:name"}
				}
				return err
			}
			c.ref = ref
		case "name":
			if !api.ValidName(value) {
				return &api.FieldError{Field: kind, Got: value, Want: wantName}
			}
			c.name = value
		default:
			c.name = value
		}
	}
	return nil
}

func (s *Server) setIndex(c *call) {
	c.w.Header().Set(api.HeaderIndex, uintText(c.view.Index()))
}

const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

// settleView takes the view that the answer is made from: one that the leader has
// confirmed with ?consistent, a later one than ?index.
func (s *Server) settleView(c *call) (err error) {
	if c.args.flag("consistent") {
		if c.view, err = s.cfg.Consistent(c.ctx); err != nil {
			return s.leaderless(err)
		}
	}
	if err := s.waitIndex(c); err != nil {
		return err
	}
	if s.cfg.Stale() {
		c.w.Header().Set(api.HeaderStale, "true")
	}
	return nil
}

// leaderless adds to an error that is for want of a leader what still works, and what to do.
func (s *Server) leaderless(err error) error {
	if api.CodeOf(err) != api.CodeUnavailable || !s.cfg.Stale() {
		return err
	}
	e := api.Errorf(api.CodeUnavailable, "%w; instances run on and what this node knows can be read without ?consistent, "+
		"but nothing can be changed: 'ten nodes' shows which servers are missing", err)
	e.RetryAfter = api.Seconds(1)
	if cause, ok := errors.AsType[*api.Error](err); ok && cause.RetryAfter > 0 {
		e.RetryAfter = cause.RetryAfter
	}
	return e
}

// waitIndex answers a blocking query: it returns once the state's index is greater than
// ?index, ?wait has passed, or the server shuts down.
func (s *Server) waitIndex(c *call) error {
	wait := defaultWait
	if c.args.has("wait") {
		wait = c.args.duration("wait")
		switch {
		case !c.args.has("index"):
			return &api.FieldError{Field: "wait", Got: c.args.text("wait"), Want: "index beside it"}
		case wait < 0 || wait > maxWait:
			return &api.FieldError{Field: "wait", Got: c.args.text("wait"), Want: "a duration from 0s to 10m"}
		}
	}
	index := c.args.uint("index")
	if !c.args.has("index") || c.view.Index() > index {
		return nil
	}
	release, err := s.openStream()
	if err != nil {
		return err
	}
	defer release()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for waiting := true; waiting && c.view.Index() <= index; {
		select {
		case <-c.view.Changed():
		case <-timer.C:
			waiting = false
		case <-s.closing.Done():
			waiting = false
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
		c.view = s.cfg.Cluster.View()
	}
	return s.stillValid(c)
}

// stillValid refuses a call whose token was revoked while it waited.
func (s *Server) stillValid(c *call) error {
	if !s.auth.Valid(c.principal) {
		return api.Errorf(api.CodeUnauthenticated, "token was revoked or has expired")
	}
	return nil
}

// openStream takes one of the places for requests that stay.
func (s *Server) openStream() (release func(), err error) {
	if n := s.streams.Add(1); n > int64(s.cfg.MaxStreams) {
		s.streams.Add(-1)
		e := api.Errorf(api.CodeUnavailable, "too many open streams and blocking queries: %d", s.cfg.MaxStreams)
		e.RetryAfter = api.Seconds(5)
		return nil, e
	}
	return func() { s.streams.Add(-1) }, nil
}

// audit records a mutation, whatever came of it.
func (s *Server) audit(e *endpoint, c *call, err error) {
	result := "ok"
	if err != nil {
		result = string(toError(err).Code)
	}
	s.cfg.Logger.LogAttrs(context.WithoutCancel(c.ctx), levelOf(err), "audit",
		attr("actor", c.principal.Actor()), attr("token", c.principal.TokenID), attr("remote", c.principal.Remote),
		attr("action", e.name), attr("object", c.object), attr("result", result), attr("index", c.view.Index()))
}

// echoPath turns /a/{b} into echo's /a/:b.
func echoPath(p string) string { return strings.NewReplacer("{", ":", "}", "").Replace(p) }
