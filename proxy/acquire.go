package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/route"
)

// retryHeld is what a client is told when the instance is not available for now.
const retryHeld = 5 * time.Second

// The pauses between looks at a gate that the agent says is open and that is not.
const (
	minPause = time.Millisecond
	maxPause = 50 * time.Millisecond
)

// acquire claims a backend, waking and waiting as needed. The caller releases the claim.
func (c *call) acquire() (*route.Target, *route.Backend, error) {
	failures := 0
	var target *route.Target // stays while it may still come up: its turn is its turn
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		var err error
		if target == nil || !target.Declared() {
			if target, err = c.choose(); err != nil {
				return nil, nil, err
			}
		}
		if c.peer && !target.Here() {
			return nil, nil, errMovedOn
		}
		if backend, ok := target.Claim(); ok {
			if c.peer && backend.Peer != nil {
				target.Release(c.p.now())
				continue
			}
			if backend != c.failed {
				return target, backend, nil
			}
			target.Release(c.p.now())
			if err := c.settle(backend); err != nil {
				return nil, nil, err
			}
			continue
		}
		if c.target == nil && failures < maxCrashes && target.State() == route.Down {
			failures++ // went down just now, or all are: choose tells
			c.avoid, target = target, nil
			continue
		}
		err = c.await(target)
		switch {
		case err == nil && target.State() != route.Open:
			// Closed again already, or not told yet.
			if err := c.sleep(pause); err != nil {
				return nil, nil, err
			}
		case err != nil && c.target == nil && failures < maxCrashes && api.CodeOf(err) == api.CodeFailed:
			failures++ // weighted traffic goes elsewhere; this one is down now
			c.avoid, target = target, nil
		case err != nil:
			return nil, nil, err
		}
	}
}

// choose returns the instance to try next.
func (c *call) choose() (*route.Target, error) {
	if c.target == nil {
		if target := c.pick(); target != nil {
			return target, nil
		}
		return nil, c.noBackend()
	}
	if !c.target.Declared() { // deleted while this waited; perhaps made anew
		target, ok := c.service.Target(c.target.Ref().ID)
		if !ok {
			return nil, &failure{status: http.StatusNotFound, text: textNoInstance}
		}
		c.target = target
	}
	return c.target, nil
}

// await holds the request until the instance is up.
func (c *call) await(target *route.Target) error {
	if target.State() == route.Held {
		if !target.Declared() {
			return nil // choose looks again
		}
		return &failure{
			status: http.StatusServiceUnavailable, text: textHeld, retryAfter: retryHeld,
			cause: fmt.Errorf("instance %s is desired to be stopped", target.Ref()),
		}
	}
	c.woken = true
	err := c.p.wakes.Wait(c.r.Context(), target.Ref(), time.Until(c.holdLimit()))
	switch {
	case err == nil:
		return nil
	case c.gone():
		return errClientGone
	default:
		return held(err)
	}
}

// held turns the outcome of a wait into what the client is told.
func held(err error) error {
	f := &failure{cause: err}
	switch api.CodeOf(err) {
	case api.CodeTimeout:
		f.status, f.text = http.StatusGatewayTimeout, textTimeout
	case api.CodeNotFound:
		f.status, f.text = http.StatusNotFound, textNoInstance
	case api.CodeUnavailable, api.CodeDiskFull, api.CodeConflict, api.CodeTooManyRequests:
		f.status, f.text, f.retryAfter = http.StatusServiceUnavailable, textUnavailable, retryHeld
		if e, ok := errors.AsType[*api.Error](err); ok && e.RetryAfter > 0 {
			f.text, f.retryAfter = textBusy, e.RetryAfter.Std()
		}
	default:
		f.status, f.text = http.StatusBadGateway, textNotStarted
	}
	return f
}

// holdLimit returns when holding this request ends, counted from the first hold.
func (c *call) holdLimit() time.Time {
	if c.holdEnd.IsZero() {
		c.holdEnd = time.Now().Add(c.spec.StartupTimeout.Std() + c.p.allowance)
	}
	return c.holdEnd
}

// settle gives the agent time to notice that a backend is dead, before it is tried again.
func (c *call) settle(backend *route.Backend) error {
	c.failed = nil
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-backend.Retired():
		return nil
	case <-timer.C:
		return nil
	case <-c.r.Context().Done():
		return errClientGone
	}
}

// sleep waits a moment of the time left for holding.
func (c *call) sleep(d time.Duration) error {
	if time.Now().After(c.holdLimit()) {
		return &failure{
			status: http.StatusGatewayTimeout, text: textTimeout,
			cause: fmt.Errorf("instance said to be up, but its gate stayed closed for %s", c.p.allowance),
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.r.Context().Done():
		return errClientGone
	}
}
