// Package waiting waits until instances are as an apply wants them.
package waiting

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// Instance returns once an instance is what is wanted of it.
func Instance(ctx context.Context, c *client.Client, ref api.Ref, waitFor string) error {
	var last *api.Instance
	_, err := c.WaitInstance(ctx, ref, func(i *api.Instance) (bool, error) {
		last = i
		return Reached(i, waitFor)
	})
	switch {
	case err == nil:
		return nil
	case api.CodeOf(err) == api.CodeNotFound:
		return api.Errorf(api.CodeConflict, "%s was removed meanwhile", ref)
	case errors.Is(err, context.DeadlineExceeded) && last != nil:
		return api.Errorf(api.CodeTimeout, "the time-out ended while %s", describe(ctx, c, last))
	default:
		return err
	}
}

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

func why(ctx context.Context, c *client.Client, refs ...api.Ref) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	res, err := c.Plan(ctx, api.PlanRequest{})
	if err != nil {
		return ""
	}
	for _, ref := range refs {
		for n := range res.Changes {
			if d := &res.Changes[n]; d.Ref == ref && d.Node == "" {
				return " (" + remote.Nowhere(d) + ")"
			}
		}
	}
	return ""
}
