package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/proxy/upstream"
)

// The bounds of trying again.
const (
	maxDials   = 3 // further connections when none could be made: nothing was sent
	maxCrashes = 1 // further sendings of a request that is safe to send twice
	// settleTime is how long a failed backend is given to be noticed as dead before the
	// next attempt goes to it all the same.
	settleTime = 500 * time.Millisecond
)

// call is one request on its way to an instance and back.
type call struct {
	p       *Proxy
	w       http.ResponseWriter
	r       *http.Request
	route   *route.Route   // that is stored; nil when the host says it
	service *route.Service // nil while a route has not chosen
	spec    *api.Service   // likewise
	metrics *serviceMetrics
	id      string // of the request, for people
	began   time.Time

	target *route.Target // the one instance that the host names; nil for weighted traffic

	peer   bool // another node passes it on to us
	passOn bool // the present attempt passes it on to another node
	// passedTo is the instance there.
	passedTo api.Ref

	upgrade    bool // asks for WebSocket
	grpc       bool // the backend is spoken to in HTTP/2
	hasBody    bool
	expects    bool // the client sends its body when told to
	replayable bool // may be sent twice

	holdEnd time.Time // when holding ends; zero until first held
	woken   bool
	failed  *route.Backend // what the last attempt failed on
	avoid   *route.Target  // whom it belonged to
	status  int            // of the response, once its head is written
	sent    bool           // part of the body was taken from the client: never send again
	// writeEnd is the deadline set for writing to the client; zero until a body needs one.
	writeEnd time.Time
	cut      *bool // reading from the client was broken off by us; whether it was gone by then
}

// forward forwards a request that belongs to a service; one from a peer goes no further
// than to an instance of this node.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, m route.Match, peer bool) {
	c := call{
		p: p, w: w, r: r, route: m.Route, service: m.Service, target: m.Target, peer: peer,
		metrics: p.passedOn, id: requestID(r.Header), began: p.now(),
	}
	switch {
	case m.Route != nil:
		c.metrics = p.unknown // until it has chosen
	case !peer:
		c.metrics = m.Service.Attached(p.metrics.open).(*serviceMetrics)
	}
	if m.Service != nil {
		if c.spec = m.Service.Spec(); c.spec == nil { // deleted since it was matched
			p.refuse(w, r, &failure{status: http.StatusNotFound, text: textUnknownHost})
			return
		}
	}
	c.classify()
	c.metrics.inFlight.Inc()
	defer func() { c.metrics.inFlight.Dec() }()
	err := c.prepare(m)
	if err == nil {
		err = c.run()
	}
	c.finish(err)
}

// classify finds out what kind of exchange the request wants.
func (c *call) classify() {
	r := c.r
	c.hasBody = r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
	c.upgrade = len(r.Header["Upgrade"]) > 0 && nominatesUpgrade(r.Header)
	c.grpc = isGRPC(r.Header) || r.ProtoMajor == 2 && wantsTrailers(r.Header)
	c.expects = c.hasBody && hasToken(r.Header.Get("Expect"), "100-continue")
	if c.peer {
		c.expects = c.expects && r.Header.Get(headerExpects) != ""
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		c.replayable = !c.hasBody
	}
}

func nominatesUpgrade(h http.Header) bool {
	for _, v := range h["Connection"] {
		if hasToken(v, "upgrade") {
			return true
		}
	}
	return false
}

// prepare refuses what can't be forwarded and creates the instance when that is asked for.
func (c *call) prepare(m route.Match) error {
	switch {
	case c.upgrade && (c.hasBody || c.r.Method != http.MethodGet):
		return &failure{status: http.StatusBadRequest, text: textBadRequest}
	case m.Kind == route.Direct && m.Target == nil:
		return c.create(api.Ref{Service: m.Service.Name(), ID: m.ID})
	}
	return nil
}

// create declares the instance that the host names, if its service wants that.
func (c *call) create(ref api.Ref) error {
	if !c.spec.SpawnOnRequest || c.p.creates == nil {
		return &failure{status: http.StatusNotFound, text: textNoInstance}
	}
	ctx, cancel := context.WithDeadline(c.r.Context(), c.holdLimit())
	defer cancel()
	err := c.p.creates.Wait(ctx, ref, time.Until(c.holdLimit()))
	if err == nil {
		c.target, err = c.p.router.Await(ctx, ref)
	}
	switch {
	case err == nil:
		return nil
	case c.gone():
		return errClientGone
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{status: http.StatusGatewayTimeout, text: textTimeout, cause: err}
	default:
		return held(err)
	}
}

// run finds a backend and exchanges the request with it, again while that is safe.
func (c *call) run() error {
	dials, crashes := 0, 0
	for {
		target, backend, err := c.acquire()
		if err != nil {
			return err
		}
		err = c.attempt(target, backend)
		switch {
		case err == nil, c.status != 0, c.sent, c.gone():
			return err
		case c.unreached(backend, err):
		case errors.Is(err, upstream.ErrNotSent) && dials < maxDials && !isTimeout(err):
			dials++
		case errors.Is(err, upstream.ErrNoResponse) && c.replayable && crashes < maxCrashes:
			crashes++
		default:
			return err
		}
		c.p.metrics.retries.Inc()
		if c.avoid = target; backend.Peer == nil {
			c.failed = backend
		}
	}
}

// attempt exchanges the request with one claimed backend.
func (c *call) attempt(target *route.Target, backend *route.Backend) error {
	defer func() { target.Release(c.p.now()) }()
	pool := backend.Attached(c.p.openPool).(*upstream.Pool)
	var deadline time.Time
	if c.passOn = backend.Peer != nil; c.passOn {
		deadline, c.passedTo = c.peerDeadline(), target.Ref()
	} else {
		deadline = time.Now().Add(c.spec.RequestTimeout.Std())
	}
	if c.grpc {
		return c.exchangeHTTP2(pool)
	}
	conn, err := pool.Get(c.r.Context(), deadline, !c.replayable)
	if err != nil {
		return err
	}
	pooled := conn.Reused()
	err = c.exchange(conn, deadline)
	stale := errors.Is(err, upstream.ErrNotSent) || errors.Is(err, upstream.ErrNoResponse) && c.replayable
	if !pooled || !stale || c.sent || c.gone() {
		return err
	}
	// The backend had closed the pooled connection. That is no failure of anybody: the
	// request goes over a new one.
	if conn, err = pool.Dial(c.r.Context(), deadline); err != nil {
		return err
	}
	return c.exchange(conn, deadline)
}

// finish counts the request and answers it if nobody did yet.
func (c *call) finish(err error) {
	if err == nil {
		c.metrics.count(c.status)
		return
	}
	if errors.Is(err, errClientGone) || c.gone() {
		c.metrics.count(statusClientGone)
		// Nobody reads an answer; an aborted handler spares net/http from making one up.
		panic(http.ErrAbortHandler)
	}
	f := c.judge(err)
	c.log(f)
	if c.status != 0 {
		// Half an answer is out. Breaking off is the only way to say that it is not whole.
		c.metrics.count(c.status)
		panic(http.ErrAbortHandler)
	}
	c.metrics.count(f.status)
	if errors.Is(err, errMovedOn) {
		c.w.Header().Set(headerMoved, "1")
	}
	c.dismissBody()
	writePage(c.w, c.r, f, c.id)
}

// gone reports whether the client has left. net/http takes a read that we broke off for
// a client that left, and cancels the request's context.
func (c *call) gone() bool {
	if c.cut != nil {
		return *c.cut
	}
	return c.r.Context().Err() != nil
}

// judge turns any error into a failure.
func (c *call) judge(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if isTimeout(err) {
		return &failure{status: http.StatusGatewayTimeout, text: textTimeout, cause: err}
	}
	return &failure{status: http.StatusBadGateway, text: textBadGateway, cause: err}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// log tells the operator why a request failed; the client is not told.
func (c *call) log(f *failure) {
	level := slog.LevelDebug
	switch f.status {
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		level = slog.LevelWarn
	case http.StatusServiceUnavailable:
		level = slog.LevelInfo
	}
	if !c.p.logLimit.Allow() {
		c.p.metrics.unlogged.Inc()
		return
	}
	service, instance := "", ""
	if c.service != nil {
		service = c.service.Name()
	}
	if c.target != nil {
		instance = c.target.Ref().ID
	}
	c.p.log.LogAttrs(c.r.Context(), level, "request failed",
		slog.Int("status", f.status), slog.String("service", service), slog.String("instance", instance),
		slog.String("method", c.r.Method), slog.String("request_id", c.id), slog.String("reason", f.Error()))
}

// drainTime is how long the rest of a body nobody wants is still read, so that the
// client gets to see the answer before the connection closes.
const drainTime = time.Second

// dismissBody prepares for answering without having read the request's body: the
// connection ends with the answer, soon.
func (c *call) dismissBody() {
	if !c.hasBody || c.r.ProtoMajor != 1 {
		return
	}
	c.w.Header().Set("Connection", "close")
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(drainTime)) // a writer without deadlines has no slow client
}
