package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/route"
)

// DefaultPauseLimit is how long a request may be held by a route that pauses.
const DefaultPauseLimit = 30 * time.Second

// retryMaintenance is what a client is told while a route is being maintained.
const retryMaintenance = time.Minute

// settled returns where a request goes once no route holds it, or why it goes nowhere.
func (p *Proxy) settled(r *http.Request, m route.Match) (route.Match, error) {
	var until time.Time
	for m.Kind == route.Routed {
		spec := m.Route.Spec()
		switch spec.Mode {
		case api.RouteMaintenance:
			f := &failure{status: http.StatusServiceUnavailable, text: textMaintenance, retryAfter: retryMaintenance}
			if spec.Message != "" {
				f.text = spec.Message
			}
			return m, f
		case api.RoutePause:
			if until.IsZero() {
				until = time.Now().Add(p.pauseLimit)
			}
			if err := p.pause(r.Context(), spec.Name, time.Until(until)); err != nil {
				return m, err
			}
			m = p.router.Match(r.Host, r.URL.Path)
		default:
			return m, nil
		}
	}
	return m, nil
}

// pause holds a request until the route no longer pauses.
func (p *Proxy) pause(ctx context.Context, name string, limit time.Duration) error {
	err := p.pauses.Wait(ctx, api.Ref{Service: name}, limit)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errClientGone
	}
	f := &failure{status: http.StatusServiceUnavailable, text: textPaused, retryAfter: retryHeld, cause: err}
	if e, ok := errors.AsType[*api.Error](err); ok && e.RetryAfter > 0 {
		f.text, f.retryAfter = textBusy, e.RetryAfter.Std()
	}
	return f
}

// resumed returns when a route does not pause, or not any more. It is the one start that
// all requests held by the route wait for.
func resumed(router *route.Router) func(context.Context, api.Ref) error {
	return func(ctx context.Context, ref api.Ref) error {
		for {
			rt, ok := router.Route(ref.Service)
			if !ok || rt.Spec().Mode != api.RoutePause {
				return nil
			}
			select {
			case <-rt.Replaced():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// unsettled ends a request that its route did not let through.
func (p *Proxy) unsettled(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok { // the client has gone
		p.unknown.count(statusClientGone)
		panic(http.ErrAbortHandler)
	}
	p.refuse(w, r, f)
}

// pick returns the instance to try next for a request that names none.
func (c *call) pick() *route.Target {
	if c.route == nil {
		return c.service.Pick(c.avoid)
	}
	for range 1 + maxCrashes {
		target := c.route.Pick(c.avoid)
		if target == nil || c.follow(target.Service()) {
			return target
		}
		c.avoid = target
	}
	return nil
}

// follow makes the request one of a service that its route leads to; false when that was
// deleted meanwhile.
func (c *call) follow(s *route.Service) bool {
	spec := s.Spec()
	if spec == nil {
		return false
	}
	if c.service != s {
		c.metrics.inFlight.Dec()
		c.metrics = s.Attached(c.p.metrics.open).(*serviceMetrics)
		c.metrics.inFlight.Inc()
	}
	c.service, c.spec = s, spec
	return true
}

// noBackend says why no instance can take the request.
func (c *call) noBackend() *failure {
	f := &failure{status: http.StatusServiceUnavailable, text: textNoBackend, retryAfter: retryHeld}
	switch {
	case c.route == nil:
		f.cause = fmt.Errorf("service %s has no instance in weighted traffic", c.service.Name())
	case c.route.Weightless():
		f.text, f.cause = textNoWeight, fmt.Errorf("route %s: all its backends have the weight 0", c.route.Spec().Name)
	default:
		f.text, f.cause = textNoRoute, fmt.Errorf("route %s: none of its backends has an instance in weighted traffic", c.route.Spec().Name)
	}
	return f
}
