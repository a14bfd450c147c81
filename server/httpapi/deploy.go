package httpapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tenement-fleet/tenement/api"
)

const (
	// waitMargin is what a wait gets beyond the time-outs of the service, which end it
	// with a better reason.
	waitMargin = 5 * time.Second
	// failureLines is how much of what a failed program printed its error quotes.
	failureLines = 10
	// logLag is how long what a program printed may take to show in its log.
	logLag = 300 * time.Millisecond
)

// spawn creates an instance or sets it to running, and waits until it accepts connections.
func (s *Server) spawn(c *call, req *api.SpawnRequest) (*api.Instance, error) {
	if err := allOf(named("process", req.Process), named("id", req.ID)); err != nil {
		return nil, err
	}
	ref := api.Ref{Service: req.Process, ID: req.ID}
	c.object = ref.String()
	svc, err := serviceIn(c.view, req.Process)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, svc.StartupTimeout.Std()+waitMargin)
	defer cancel()
	i, err := s.start(ctx, ref, api.DefaultWeight)
	return i, s.explain(c, ref, err)
}

// deploy runs a version of a service, waits until it is healthy, and gives it its weight
// only then, so that a version that fails never meets weighted traffic.
func (s *Server) deploy(c *call, req *api.DeployRequest) (*api.Instance, error) {
	if err := allOf(named("process", req.Process), named("version", req.Version)); err != nil {
		return nil, err
	}
	if err := checkWeight(req.Weight); err != nil {
		return nil, err
	}
	if req.Timeout < 0 || req.Timeout.Std() > maxWait {
		return nil, &api.FieldError{Field: "timeout", Got: req.Timeout.String(), Want: "a duration up to 10m"}
	}
	ref := api.Ref{Service: req.Process, ID: req.Version}
	c.object = ref.String()
	svc, err := serviceIn(c.view, req.Process)
	if err != nil {
		return nil, err
	}
	timeout := req.Timeout.Std()
	if timeout == 0 {
		timeout = svc.StartupTimeout.Std() + waitMargin
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	weight := weightAfter(c.view, ref, req.Weight)
	if _, err = s.start(ctx, ref, 0); err == nil {
		_, err = s.await(ctx, ref, healthy)
	}
	if err != nil {
		return nil, s.explain(c, ref, err)
	}
	i, err := s.modify(c.ctx, ref, nil, func(i *api.Instance) { i.Weight = &weight })
	return s.freshOf(i, err)
}

// weightAfter is the weight that a deployed version ends up with: what was asked for,
// else what it has, else everything for the service's first instance and nothing for any
// other, whose traffic is moved with /api/route.
func weightAfter(view View, ref api.Ref, asked *int) int {
	if asked != nil {
		return *asked
	}
	if cur, ok := view.Instance(ref); ok {
		return cur.EffectiveWeight()
	}
	for range view.Instances(ref.Service) {
		return 0
	}
	return api.MaxWeight
}

// route moves weighted traffic: first the new version gets all, then the old one none, so
// that there is always one that takes it.
func (s *Server) route(c *call, req *api.RouteRequest) (*api.RouteResult, error) {
	if err := allOf(named("process", req.Process), named("from", req.From), named("to", req.To)); err != nil {
		return nil, err
	}
	from, to := api.Ref{Service: req.Process, ID: req.From}, api.Ref{Service: req.Process, ID: req.To}
	c.object = from.String() + " to " + to.String()
	if from == to {
		return nil, &api.FieldError{Field: "to", Got: req.To, Want: "another instance than from"}
	}
	if _, err := serviceIn(c.view, req.Process); err != nil {
		return nil, err
	}
	if _, err := instanceIn(c.view, from); err != nil {
		return nil, err
	}
	target, err := instanceIn(c.view, to)
	if err != nil {
		return nil, err
	}
	if target.Desired != api.DesiredRunning {
		return nil, api.Errorf(api.CodeConflict, "%s takes no weighted traffic: its desired state is %s; spawn it first", to, target.Desired)
	}
	all, nothing := api.MaxWeight, 0
	var out api.RouteResult
	if out.To, err = s.freshOf(s.modify(c.ctx, to, nil, func(i *api.Instance) { i.Weight = &all })); err != nil {
		return nil, fmt.Errorf("set the weight of %s to 100: %w", to, err)
	}
	if out.From, err = s.freshOf(s.modify(c.ctx, from, nil, func(i *api.Instance) { i.Weight = &nothing })); err != nil {
		return nil, fmt.Errorf("%s has weight 100 now; set the weight of %s to 0: %w", to, from, err)
	}
	return &out, nil
}

func (s *Server) restartInstance(c *call) (*api.Instance, error) {
	i, err := instanceIn(c.view, c.ref)
	if err != nil {
		return nil, err
	}
	if i.Desired == api.DesiredStopped {
		return nil, api.Errorf(api.CodeConflict, "%s is held down: spawn it instead", c.ref)
	}
	svc, err := serviceIn(c.view, c.ref.Service)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, svc.StopTimeout.Std()+svc.StartupTimeout.Std()+waitMargin)
	defer cancel()
	if err := s.untilClosing(ctx, func(ctx context.Context) error { return s.cfg.Runtime.Restart(ctx, c.ref) }); err != nil {
		return nil, s.explain(c, c.ref, err)
	}
	c.view = s.cfg.Cluster.View()
	return s.getInstance(c)
}

// start makes an instance run, creating it with the given weight when there is none, and
// returns it once it accepts connections.
func (s *Server) start(ctx context.Context, ref api.Ref, weight int) (*api.Instance, error) {
	before, err := s.wantRunning(ctx, ref, weight)
	if err != nil {
		return nil, err
	}
	placed, err := s.await(ctx, ref, func(i *api.Instance) bool { return i.Node != "" })
	if err != nil {
		return nil, err
	}
	// A wake joins the start that is under way, or makes one; it leaves alone what gave up.
	kick := s.cfg.Runtime.Wake
	if before == api.StateFailed || before == api.StateStopped {
		kick = s.cfg.Runtime.Restart
	}
	err = s.untilClosing(ctx, func(ctx context.Context) error { return kick(ctx, ref) })
	if err != nil && !s.passing(err, placed) {
		return nil, err
	}
	return s.await(ctx, ref, accepts)
}

// passing reports whether the error of a start is no reason to give up: the node has not
// heard of the instance yet, or it is on another one that can't be reached: that starts it
// all the same, or the leader moves it.
func (s *Server) passing(err error, i *api.Instance) bool {
	switch api.CodeOf(err) {
	case api.CodeNotFound:
		return true
	case api.CodeUnavailable, api.CodeMisdirected:
		return i.Node != s.cfg.NodeID && s.closing.Err() == nil
	default:
		return false
	}
}

// wantRunning declares that an instance is to run, and returns the state that it was in;
// "" for one that did not exist and now has the given weight.
func (s *Server) wantRunning(ctx context.Context, ref api.Ref, weight int) (before api.State, err error) {
	for {
		if cur, exists := s.cfg.Cluster.View().Instance(ref); exists {
			if before = s.fresh(cur).State(); cur.Desired == api.DesiredRunning {
				return before, nil
			}
			_, err = s.modify(ctx, ref, nil, func(i *api.Instance) { i.Desired = api.DesiredRunning })
			return before, err
		}
		var absent uint64
		i := &api.Instance{Service: ref.Service, ID: ref.ID, Weight: &weight}
		i.SetDefaults()
		_, err := s.cfg.Cluster.PutInstance(ctx, i, &absent)
		if !isStale(err) { // stale: somebody else created it first
			return "", err
		}
	}
}

// accepts reports whether an instance accepts connections, healthy or not.
func accepts(i *api.Instance) bool {
	return i.State().Serving() || i.State() == api.StateUnhealthy
}

// healthy reports whether an instance accepts connections and passed its last check.
func healthy(i *api.Instance) bool { return accepts(i) && i.Observed.Healthy }

// await watches the state until the instance is as wanted. One that is gone or has given
// up is an error, and so is the end of ctx.
func (s *Server) await(ctx context.Context, ref api.Ref, done func(*api.Instance) bool) (*api.Instance, error) {
	for {
		view := s.cfg.Cluster.View()
		i, err := instanceIn(view, ref)
		if err != nil {
			return nil, api.Errorf(api.CodeConflict, "%s was removed meanwhile", ref)
		}
		i = s.fresh(i)
		if done(i) {
			return i, nil
		}
		// A failure that was observed before the user's last change is not the answer to it.
		if i.State() == api.StateFailed && (i.Observed.Desired == "" || i.Observed.Desired == i.Desired) {
			return nil, api.Errorf(api.CodeFailed, "%s", i.Observed.Reason)
		}
		select {
		case <-view.Changed():
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.closing.Done():
			return nil, errClosing
		}
	}
}

var errClosing = &api.Error{Code: api.CodeUnavailable, Message: "the server is shutting down; the instance goes on by itself"}

// untilClosing runs f under a context that ends when the server closes.
func (s *Server) untilClosing(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })() //nolint:contextcheck // joins the two on purpose
	err := f(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errClosing) {
		return errClosing
	}
	return err
}

// explain adds to the error of a start what its user needs: the instance's state and
// reason, and the last lines that it printed since the request began.
func (s *Server) explain(c *call, ref api.Ref, err error) error {
	if err == nil {
		return nil
	}
	timedOut := errors.Is(err, context.DeadlineExceeded) || api.CodeOf(err) == api.CodeTimeout
	if c.ctx.Err() != nil || !timedOut && api.CodeOf(err) != api.CodeFailed {
		return err
	}
	var text strings.Builder
	code, state, unplaced := api.CodeFailed, api.StateFailed, false
	if i, ok := s.cfg.Cluster.View().Instance(ref); ok {
		state, unplaced = s.fresh(i).State(), i.Node == ""
	}
	if timedOut {
		code = api.CodeTimeout
		fmt.Fprintf(&text, "%s is not ready in time: its state is %s", ref, state)
		if unplaced {
			fmt.Fprintf(&text, ", no node takes it: 'ten plan %s' says why", ref)
		}
		if e, ok := errors.AsType[*api.Error](err); ok {
			fmt.Fprintf(&text, " (%s)", e)
		}
	} else {
		fmt.Fprintf(&text, "%s failed: %s", ref, err)
	}
	for i, e := range s.lastLines(c, ref, !timedOut) {
		if i == 0 {
			text.WriteString("\nit printed last:")
		}
		text.WriteString("\n  " + printable(clipTo(e.Message, 500)))
	}
	return &api.Error{Code: code, Message: text.String()}
}

// lastLines returns what an instance has printed last since the request began. What a
// program prints just before it ends shows in the log a moment later: with ended, that
// moment is waited for.
func (s *Server) lastLines(c *call, ref api.Ref, ended bool) []api.LogEntry {
	q := api.LogQuery{Service: ref.Service, Instance: ref.ID, Limit: failureLines}
	entries := s.linesSince(c, q)
	if len(entries) > 0 || !ended {
		return entries
	}
	ctx, cancel := context.WithTimeout(c.ctx, logLag)
	defer cancel()
	next := q
	next.Limit = 0 // what comes from now on
	for _, err := range s.cfg.Logs.Follow(ctx, next) {
		if err == nil {
			break
		}
	}
	return s.linesSince(c, q)
}

func (s *Server) linesSince(c *call, q api.LogQuery) []api.LogEntry {
	entries, err := s.cfg.Logs.Query(c.ctx, q)
	if err != nil {
		s.cfg.Logger.WarnContext(c.ctx, "query log of failed instance", "service", q.Service, "id", q.Instance, "error", err)
	}
	return slices.DeleteFunc(entries, func(e api.LogEntry) bool { return e.Time.Before(c.begun) })
}

// printable escapes the control and format characters of what a program printed: it goes to
// somebody's terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\t' {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func intText(n int) string { return strconv.Itoa(n) }
