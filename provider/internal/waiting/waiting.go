// Package waiting waits until instances are as an apply wants them.
package waiting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// grace bounds finding out why a wait took too long.
const grace = 5 * time.Second

// Instance returns once an instance is what is wanted of it.
func Instance(ctx context.Context, c *client.Client, i *api.Instance, waitFor string) error {
	last, ref := i, i.Ref()
	judge := func(i *api.Instance) (bool, error) {
		last = i
		return Reached(i, waitFor)
	}
	err := c.Follow(ctx, func(other api.Ref) bool { return other == ref },
		func(ctx context.Context) (bool, error) {
			now, err := c.Instance(ctx, ref)
			if managed.IsCode(err, api.CodeNotFound) {
				return false, gone(ref)
			}
			if err != nil {
				return false, err
			}
			return judge(now)
		},
		func(e api.Event) (bool, error) {
			if e.Instance == nil {
				return false, gone(ref)
			}
			return judge(e.Instance)
		})
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.CodeTimeout, "the time-out ended while %s", describe(ctx, c, last))
	}
	return err
}

func gone(ref api.Ref) error { return api.Errorf(api.CodeConflict, "%s was removed meanwhile", ref) }

// Reached reports whether an instance is what is wanted of it. One that won't be is an error.
func Reached(i *api.Instance, waitFor string) (bool, error) {
	if i.Node == "" {
		return false, nil
	}
	o := i.Observed
	if waitFor == managed.WaitPlaced || i.Desired == api.DesiredAsleep {
		return true, nil
	}
	if o == nil || o.Generation != i.Generation || o.Desired != "" && o.Desired != i.Desired {
		return false, nil // nothing is known of it as it should be now
	}
	switch {
	case i.Desired == api.DesiredStopped:
		return !o.State.Live(), nil
	case o.State == api.StateFailed:
		return false, api.Errorf(api.CodeFailed, "%s has failed: %s. `ten logs %s` has what it said", i.Ref(), o.Reason, i.Ref())
	case o.State == api.StateAsleep:
		return true, nil // nobody needs it at the moment; a request wakes it
	default:
		return o.State.Serving() && o.Healthy, nil
	}
}

// describe says how an instance does, and why it has no node.
func describe(ctx context.Context, c *client.Client, i *api.Instance) string {
	if i.Node == "" {
		return "no node has " + i.Ref().String() + why(ctx, c, i.Ref())
	}
	text := fmt.Sprintf("%s is %s", i.Ref(), i.State())
	if o := i.Observed; o != nil && o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

// why says why no node has an instance, as far as that can be found out quickly.
func why(ctx context.Context, c *client.Client, ref api.Ref) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	res, err := c.Plan(ctx, api.PlanRequest{})
	if err != nil {
		return ""
	}
	for n := range res.Changes {
		if d := &res.Changes[n]; d.Ref == ref && d.Node == "" {
			return " (" + remote.Nowhere(d) + ")"
		}
	}
	return ""
}
