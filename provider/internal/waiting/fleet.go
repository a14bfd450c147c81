package waiting

import (
	"context"
	"errors"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// Fleet returns once all members of a fleet are what is wanted of them.
func Fleet(ctx context.Context, c *client.Client, f *api.Fleet, waitFor string) error {
	w := members{fleet: f, waitFor: waitFor}
	err := c.Follow(ctx, func(ref api.Ref) bool { return ref.Service == f.Service },
		func(ctx context.Context) (bool, error) {
			all, err := c.Instances(ctx, client.InstanceQuery{Service: f.Service})
			if err != nil {
				return false, err
			}
			return w.all(all)
		},
		func(e api.Event) (bool, error) {
			if e.Instance == nil {
				w.forget(e.Key)
				return w.done(), nil
			}
			err := w.one(e.Instance)
			return w.done(), err
		})
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := ""
	for _, i := range w.waits {
		text = "; " + describe(ctx, c, i)
		break // any will do
	}
	return api.Errorf(api.CodeTimeout, "the time-out ended with %d of %d instances ready%s", len(w.ready), f.Replicas, text)
}

// members is what is known of those of a fleet.
type members struct {
	fleet   *api.Fleet
	waitFor string
	ready   map[string]bool          // by id
	waits   map[string]*api.Instance // those that are not ready
}

// all starts over with the instances that there are.
func (w *members) all(all []*api.Instance) (bool, error) {
	w.ready, w.waits = map[string]bool{}, map[string]*api.Instance{}
	for _, i := range all {
		if err := w.one(i); err != nil {
			return false, err
		}
	}
	return w.done(), nil
}

func (w *members) one(i *api.Instance) error {
	if i.Fleet != w.fleet.Name {
		return nil
	}
	ok, err := Reached(i, w.waitFor)
	if ok {
		w.ready[i.ID] = true
		delete(w.waits, i.ID)
	} else {
		delete(w.ready, i.ID)
		w.waits[i.ID] = i
	}
	return err
}

// forget drops the instance with a name service:id.
func (w *members) forget(key string) {
	if ref, err := api.ParseRef(key); err == nil {
		delete(w.ready, ref.ID)
		delete(w.waits, ref.ID)
	}
}

func (w *members) done() bool { return len(w.waits) == 0 && len(w.ready) == w.fleet.Replicas }
