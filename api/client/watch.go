package client

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// longPoll is how long one blocking query waits on the server; well below the idle
// time-outs of what may stand in between.
const longPoll = 30 * time.Second

// pollPause is the least time between two blocking queries of which the first brought
// nothing: a server that shuts down answers them at once.
const pollPause = 200 * time.Millisecond

// WatchInstances yields the selected instances as they are and again after every change
// of the cluster's state, until the context ends. Its last yield is the error that ended
// it; once it has begun it outlasts a server's absence.
func (c *Client) WatchInstances(ctx context.Context, q InstanceQuery) iter.Seq2[[]*api.Instance, error] {
	return watch[[]*api.Instance](ctx, c, q.request())
}

// WatchInstance is [Client.WatchInstances] for one instance.
func (c *Client) WatchInstance(ctx context.Context, ref api.Ref) iter.Seq2[*api.Instance, error] {
	return watch[*api.Instance](ctx, c, request{method: http.MethodGet, path: instancePath(ref, ""), again: true})
}

// WaitInstance waits until done says so of an instance, which it returns.
func (c *Client) WaitInstance(ctx context.Context, ref api.Ref, done func(*api.Instance) (bool, error)) (*api.Instance, error) {
	for in, err := range c.WatchInstance(ctx, ref) {
		if err != nil {
			return nil, fmt.Errorf("wait for %s: %w", ref, err)
		}
		ok, err := done(in)
		if ok || err != nil {
			return in, err
		}
	}
	return nil, ctx.Err()
}

// watch repeats a blocking query, yielding each answer that is newer than the last.
func watch[T any](ctx context.Context, c *Client, r request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last uint64
		for {
			var out T
			index, err := c.do(ctx, r, &out)
			if err == nil && index == 0 {
				err = fmt.Errorf("watch %s: the answer carries no %s", r.path, api.HeaderIndex)
			}
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			// After fail-over the index may be lower: the new node has yet to catch up.
			switch {
			case index == last && c.sleep(ctx, pollPause) != nil:
				var zero T
				yield(zero, ctx.Err())
				return
			case index != last && !yield(out, nil):
				return
			}
			last = index
			query := maps.Clone(r.query)
			if query == nil {
				query = make(map[string][]string)
			}
			query.Set("index", strconv.FormatUint(index, 10))
			query.Set("wait", api.Duration(longPoll).String())
			r.query, r.patient = query, true
		}
	}
}
