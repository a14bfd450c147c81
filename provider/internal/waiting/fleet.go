package waiting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// grace bounds finding out why a wait took too long.
const grace = 5 * time.Second

// Fleet returns once all members of a fleet are what is wanted of them.
func Fleet(ctx context.Context, c *client.Client, f *api.Fleet, waitFor string) error {
	var last *api.Instance // one that was not there yet
	done := 0
	for all, err := range c.WatchInstances(ctx, client.InstanceQuery{Service: f.Service}) {
		if err != nil {
			return late(ctx, c, f, done, last, err)
		}
		members := 0
		done, last = 0, nil
		for _, i := range all {
			if i.Fleet != f.Name {
				continue
			}
			members++
			ok, err := Reached(i, waitFor)
			switch {
			case err != nil:
				return err
			case ok:
				done++
			case last == nil:
				last = i
			}
		}
		if members == f.Replicas && done == members {
			return nil
		}
	}
	return ctx.Err()
}

func late(ctx context.Context, c *client.Client, f *api.Fleet, done int, last *api.Instance, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := ""
	if last != nil {
		text = fmt.Sprintf("; %s", describe(ctx, c, last))
	}
	return api.Errorf(api.CodeTimeout, "the time-out ended with %d of %d instances ready%s", done, f.Replicas, text)
}
