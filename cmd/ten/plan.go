package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) planCommand() *cobra.Command {
	var drain []string
	cmd := &cobra.Command{
		Use: "plan [SERVICE|SERVICE:ID]", Short: "Tell where instances would go, and why",
		Long: `Tells what the leader would do with the instances of the cluster as it is, or with
those of a service, with one instance or with a fleet: which node each would be on and
why, or what keeps it from every node. An instance that does not exist is planned as if
it did. Changes nothing. Exits with 1 if an instance has no place.`,
		Example:           "  ten plan\n  ten plan notes:alice\n  ten plan --drain n2",
		Args:              between(0, 1),
		ValidArgsFunction: a.completeLogs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var result *api.PlanResult
			var names map[string]string
			err := a.call(cmd.Context(), "planning", answerTime, func(ctx context.Context, c *client.Client) error {
				req := api.PlanRequest{Drain: drain}
				if len(args) > 0 {
					if err := planFor(ctx, c, &req, args[0]); err != nil {
						return err
					}
				}
				var err error
				if result, err = c.Plan(ctx, req); err != nil {
					if len(args) == 0 { // only a node can be missing
						err = lookUp(err, seeNodes)
					}
					return err
				}
				names, err = nodeNames(ctx, c)
				return err
			})
			if err != nil {
				return err
			}
			if len(args) > 0 {
				result.Changes = only(result.Changes, args[0])
			}
			if err := a.printPlan(result, names); err != nil {
				return err
			}
			for i := range result.Changes {
				if result.Changes[i].Node == "" {
					return errNoPlace
				}
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&drain, "drain", nil, "as if this `node` were drained")
	must(cmd.RegisterFlagCompletionFunc("drain", a.completeNodeFlag))
	return cmd
}

// planFor makes the request one about a service, an instance or a fleet.
func planFor(ctx context.Context, c *client.Client, req *api.PlanRequest, name string) error {
	if !strings.Contains(name, ":") {
		s, err := c.Service(ctx, name)
		req.Service = s
		return err
	}
	ref, err := api.ParseRef(name)
	if err != nil {
		return err
	}
	in, err := c.Instance(ctx, ref)
	if api.CodeOf(err) == api.CodeNotFound {
		fleet, fleetErr := c.Fleet(ctx, ref)
		switch {
		case fleetErr == nil:
			req.Fleet = fleet
			return nil
		case api.CodeOf(fleetErr) != api.CodeNotFound:
			return fleetErr
		}
		in, err = &api.Instance{Service: ref.Service, ID: ref.ID, Source: api.SourceAPI}, nil
		in.SetDefaults()
	}
	if err != nil {
		return err
	}
	req.Instances = []*api.Instance{in}
	return nil
}

// only keeps the decisions about what was asked for.
func only(all []api.Decision, name string) []api.Decision {
	out := []api.Decision{}
	for _, d := range all {
		ref := d.Ref.String()
		if ref == name || d.Ref.Service == name || memberOf(ref, name) {
			out = append(out, d)
		}
	}
	return out
}

// memberOf reports whether an instance has the name of a fleet's member.
func memberOf(ref, fleet string) bool {
	number, ok := strings.CutPrefix(ref, fleet+"-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// nodeNames returns the names of the nodes by id.
func nodeNames(ctx context.Context, c *client.Client) (map[string]string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	return names, nil
}

func (a *app) printPlan(p *api.PlanResult, names map[string]string) error {
	if a.json {
		return a.printJSON(p)
	}
	if len(p.Changes) == 0 {
		a.note("nothing would change")
		return nil
	}
	name := func(id string) string {
		if n, ok := names[id]; ok {
			return n
		}
		return id
	}
	t := &table{columns: []column{
		{title: "INSTANCE", min: 12},
		{title: "FROM", min: 6, optional: true, drop: 1},
		{title: "TO", min: 7, color: placeStyle},
		{title: "WHY", min: 30},
	}}
	for i := range p.Changes {
		d := &p.Changes[i]
		from, to := name(d.From), name(d.Node)
		switch d.Node {
		case "":
			to = nowhere
		case d.From:
			to = "stays"
		}
		t.rows = append(t.rows, []string{d.Ref.String(), from, to, d.Reason})
	}
	if err := t.write(a.stdout, a.tableWidth(), a.colors()); err != nil {
		return err
	}
	return a.printExclusions(p.Changes)
}

// printExclusions tells in full what keeps instances from every node, once for all that
// have it in common: it is what the command is asked for.
func (a *app) printExclusions(changes []api.Decision) error {
	groups := map[string][]string{} // instances, by what excludes them
	var order []string
	for i := range changes {
		d := &changes[i]
		if d.Node != "" || len(d.Excluded) == 0 {
			continue
		}
		why := exclusions(d)
		if groups[why] == nil {
			order = append(order, why)
		}
		groups[why] = append(groups[why], d.Ref.String())
	}
	for _, why := range order {
		who := groups[why][0]
		if n := len(groups[why]) - 1; n > 0 {
			who += fmt.Sprintf(" and %d more", n)
		}
		text := wrap(cleanText(who+": excluded by "+why), a.tableWidth(), "", "  ")
		if err := a.printf("\n%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

const nowhere = "nowhere"

func placeStyle(place string) string {
	if place == nowhere {
		return styleRed
	}
	return ""
}

// reasonOf is a decision's reason, with what excluded how many nodes.
func reasonOf(d *api.Decision) string { return join("; excluded by ", d.Reason, exclusions(d)) }

// exclusions tells what excluded how many nodes.
func exclusions(d *api.Decision) string {
	var parts []string
	for _, e := range d.Excluded {
		nodes := "nodes"
		if e.Nodes == 1 {
			nodes = "node"
		}
		parts = append(parts, fmt.Sprintf("%s (%d %s)", e.Reason, e.Nodes, nodes))
	}
	return strings.Join(parts, ", ")
}

var errNoPlace = &toldError{errors.New("an instance has no place")}
