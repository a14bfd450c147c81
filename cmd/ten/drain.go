package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) nodeDrainCommand() *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Move all instances of a node to others",
		Long: `Moves the instances of a node to others, one at a time, and gives it no new ones. One
without storage starts elsewhere before it is stopped here; one with storage moves with
its data. Returns once nothing is left on the node that could be elsewhere; Ctrl-C stops
the waiting, not the draining: 'ten node uncordon' stops that.`,
		Example:           "  ten node drain n2\n  ten plan --drain n2   # what would go where",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			n, err := a.setEligibility(ctx, args[0], api.EligibilityDraining)
			if err != nil {
				return err
			}
			name := cleanText(n.Name)
			if !noWait {
				if err := a.awaitDrained(ctx, n); err != nil {
					if ctx.Err() != nil {
						a.note("%s goes on draining; 'ten node uncordon %s' stops that", name, name)
					}
					return err
				}
			}
			switch {
			case a.json:
				return a.printJSON(n)
			case noWait:
				return a.printf("%s is draining\n", name)
			default:
				return a.printf("%s is empty\n", name)
			}
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	return cmd
}

// awaitDrained waits until nothing is left on the node, or nothing but what no other node
// takes.
func (a *app) awaitDrained(ctx context.Context, n *api.Node) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	p := a.startProgress("draining " + n.Name)
	a.waiting.Store(p)
	defer func() { a.waiting.Store(nil); p.end() }()
	for left, err := range c.WatchInstances(ctx, client.InstanceQuery{Node: n.ID}) {
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		p.say(fmt.Sprintf("%d left, next %s", len(left), left[0].Ref()))
		stuck, err := stuckOn(ctx, c, n.ID, left)
		if err != nil {
			return err
		}
		if len(stuck) == len(left) {
			return stuckError(n, stuck)
		}
	}
	return ctx.Err()
}

// stuckOn returns why those of the instances stay that no other node takes. It asks only
// when none of them moves.
func stuckOn(ctx context.Context, c *client.Client, node string, left []*api.Instance) ([]api.Decision, error) {
	for _, in := range left {
		if in.Node != node { // on its way
			return nil, nil
		}
	}
	plan, err := c.Plan(ctx, api.PlanRequest{Drain: []string{node}})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(plan.Changes, func(d api.Decision) bool {
		return d.From != node || d.Node != "" && d.Node != node || !slices.ContainsFunc(left, func(in *api.Instance) bool { return in.Ref() == d.Ref })
	}), nil
}

// stuckError says which instances can't leave a node.
func stuckError(n *api.Node, stuck []api.Decision) error {
	const shown = 5
	text := fmt.Sprintf("node %s is drained, but for %d instances that no other node takes:", n.Name, len(stuck))
	if len(stuck) == 1 {
		text = fmt.Sprintf("node %s is drained, but for an instance that no other node takes:", n.Name)
	}
	for i := range stuck {
		if i == shown {
			text += fmt.Sprintf("\n  and %d more", len(stuck)-shown)
			break
		}
		text += fmt.Sprintf("\n  %s: %s", stuck[i].Ref, reasonOf(&stuck[i]))
	}
	return &hintError{
		err:  &api.Error{Code: api.CodeConflict, Message: text},
		hint: "they move as soon as a node takes them; 'ten plan --drain " + n.Name + "' shows all",
	}
}
