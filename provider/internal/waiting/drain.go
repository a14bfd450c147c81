package waiting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/remote"
)

// Drained returns once no instance is left on a node that is draining, named by id or
// name. What no other node takes is an error as soon as nothing else is left. Say is told
// how far it is.
func Drained(ctx context.Context, c *client.Client, node string, say func(string)) error {
	n, err := c.Member(ctx, node)
	if err != nil {
		return err
	}
	last := 0
	for left, err := range c.WatchInstances(ctx, client.InstanceQuery{Node: n.ID}) {
		if errors.Is(err, context.DeadlineExceeded) {
			return api.Errorf(api.CodeTimeout, "the time-out ended with %d instances left on node %s, which goes on draining", last, n.Name)
		}
		if err != nil {
			return err
		}
		last = len(left)
		if last == 0 {
			return nil
		}
		say(fmt.Sprintf("%d left on node %s, next %s", last, n.Name, left[0].Ref()))
		if slices.ContainsFunc(left, func(i *api.Instance) bool { return i.Node != n.ID }) {
			continue // one is on its way
		}
		res, err := c.Plan(ctx, api.PlanRequest{Drain: []string{n.ID}})
		if err != nil {
			return err
		}
		if stuck := Stuck(res, n.ID, left); len(stuck) == last {
			return api.Errorf(api.CodeConflict, "%s", StuckText(n.Name, stuck))
		}
	}
	return ctx.Err()
}

// Stuck returns what stays on a node that is drained, since no other takes it; of those
// that are left only, unless that is nil.
func Stuck(res *api.PlanResult, node string, left []*api.Instance) []api.Decision {
	var out []api.Decision
	if res == nil {
		return nil
	}
	for _, d := range res.Changes {
		asked := left == nil || slices.ContainsFunc(left, func(i *api.Instance) bool { return i.Ref() == d.Ref })
		if asked && d.From == node && (d.Node == "" || d.Node == node) {
			out = append(out, d)
		}
	}
	return out
}

// StuckText says which instances can't leave a node, and why.
func StuckText(node string, stuck []api.Decision) string {
	const few = 5
	lines := []string{fmt.Sprintf("No other node takes %d of the instances on node %s. They move as soon as one does.", len(stuck), node)}
	for i := range stuck {
		if i == few {
			lines = append(lines, fmt.Sprintf("And %d more.", len(stuck)-few))
			break
		}
		lines = append(lines, remote.Nowhere(&stuck[i]))
	}
	return strings.Join(lines, "\n")
}
