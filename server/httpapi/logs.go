package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/tenement-fleet/tenement/api"
)

const defaultLogLimit = 100

// logQuery makes a query of the request's parameters: a tenant's is about its own
// instances, whatever it asks for.
func (c *call) logQuery() (api.LogQuery, error) {
	q := api.LogQuery{
		Service: c.args.text("process"), Instance: c.args.text("id"),
		Level: api.Stream(c.args.text("level")), Search: c.args.text("search"),
		Limit: int(c.args.uint("limit")), After: c.args.uint("after"),
	}
	if q.Limit == 0 {
		q.Limit = defaultLogLimit
	}
	if c.principal.Role == api.RoleTenant {
		if q.Instance != "" && !c.principal.Sees(q.Instance) {
			return q, api.Errorf(api.CodeNotFound, "no such instance")
		}
		q.Instance = c.principal.Tenant
	}
	return q, nil
}

func (s *Server) listLogs(c *call) (list[api.LogEntry], error) {
	q, err := c.logQuery()
	if err != nil {
		return nil, err
	}
	entries, err := s.cfg.Logs.Query(c.ctx, q)
	return list[api.LogEntry](slices.Values(entries)), err
}

// streamLogs sends the entries after ?after, or from now on, each as listLogs would.
func (s *Server) streamLogs(c *call) error {
	q, err := c.logQuery()
	if err != nil {
		return err
	}
	q.Limit = 0
	if c.args.has("Last-Event-ID") {
		q.After = c.args.uint("Last-Event-ID")
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", mediaSSE)
		return nil
	}
	e, err := s.openSSE(c)
	if err != nil {
		return err
	}
	defer e.close()
	items, stop := s.follow(c.ctx, q)
	defer stop()
	for {
		item, ok, err := next(e, items)
		for more := true; ok && err == nil && more; {
			if err = e.sendItem(item); err != nil {
				break
			}
			select { // what is there already goes out in one write
			case item, ok = <-items:
			default:
				more = false
			}
		}
		if !ok || err != nil {
			return ended(err)
		}
	}
}

// logItem is an entry, or the error that ends the stream.
type logItem struct {
	entry api.LogEntry
	err   error
}

func (e *sse) sendItem(item logItem) error {
	if item.err != nil {
		problem := toError(item.err)
		return e.send("", "error", problem.Problem(titles[problem.Code]))
	}
	return e.send(uintText(item.entry.Seq), "", item.entry)
}

// follow turns the store's iterator into a channel, which is closed when it ends; stop
// ends it and waits until it has.
func (s *Server) follow(ctx context.Context, q api.LogQuery) (items <-chan logItem, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan logItem, 256)
	go func() {
		defer close(ch)
		for entry, err := range s.cfg.Logs.Follow(ctx, q) {
			if ctx.Err() != nil {
				return
			}
			select {
			case ch <- logItem{entry: entry, err: err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return ch, func() {
		cancel()
		for range ch { //nolint:revive // until the goroutine has left
		}
	}
}
