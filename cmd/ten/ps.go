package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) psCommand() *cobra.Command {
	var all, watch bool
	var node string
	cmd := &cobra.Command{
		Use: "ps [SERVICE]", Short: "List instances",
		Long: `Lists the instances that run, of all services or of one. What sleeps, was stopped or
has failed shows with --all.`,
		Example:           "  ten ps\n  ten ps notes --all\n  ten ps --watch",
		Args:              between(0, 1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := client.InstanceQuery{Live: !all, Node: node}
			if len(args) > 0 {
				q.Service = args[0]
			}
			if watch {
				return a.watchInstances(cmd.Context(), q)
			}
			var list []*api.Instance
			var names map[string]string
			err := a.call(cmd.Context(), "listing instances", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				if list, err = c.Instances(ctx, q); err == nil {
					names = a.nodesOf(ctx, c, list)
				}
				return err
			})
			if err != nil {
				return err
			}
			return a.printInstances(list, q, names)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also what sleeps, was stopped or has failed")
	cmd.Flags().StringVar(&node, "node", "", "only those on this `node`")
	must(cmd.RegisterFlagCompletionFunc("node", a.completeNodeFlag))
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show every change until Ctrl-C")
	return cmd
}

// nodesOf returns the names of the nodes by id, nil where there are not several: then they
// are not worth a column. A caller that may not list the nodes sees the ids.
func (a *app) nodesOf(ctx context.Context, c *client.Client, list []*api.Instance) map[string]string {
	if a.json || len(list) == 0 {
		return nil
	}
	if names, err := nodeNames(ctx, c); err == nil {
		if len(names) < 2 {
			return nil
		}
		return names
	}
	for _, in := range list {
		if in.Node != list[0].Node {
			return map[string]string{}
		}
	}
	return nil
}

func (a *app) printInstances(list []*api.Instance, q client.InstanceQuery, nodes map[string]string) error {
	if a.json {
		return printList(a, list)
	}
	if len(list) == 0 {
		if q.Live {
			a.note("nothing runs; 'ten ps --all' also shows what sleeps")
		} else {
			a.note("no instances")
		}
		return nil
	}
	return a.instanceTable(list, nodes).write(a.stdout, a.tableWidth(), a.colors())
}

func (a *app) instanceTable(list []*api.Instance, nodes map[string]string) *table {
	t := &table{columns: []column{
		{title: "INSTANCE", min: 12},
		{title: "NODE", min: 8, drop: 2, optional: true},
		{title: "STATE", color: stateStyle},
		{title: "WEIGHT", right: true, drop: 3},
		{title: "RESTARTS", right: true, drop: 4},
		{title: "SINCE", right: true, drop: 1},
		{title: "PID", right: true, drop: 5, optional: true},
		{title: "ENDPOINT", min: 15, drop: 6, optional: true},
		{title: "REASON", min: 10, optional: true},
	}}
	for _, in := range list {
		o := in.Observed
		if o == nil {
			o = &api.Observed{}
		}
		var since, pid, endpoint, node string
		if nodes != nil {
			node = cmp.Or(nodes[in.Node], in.Node)
		}
		if !o.Since.IsZero() {
			since = ago(a.now().Sub(o.Since))
		}
		if o.PID > 0 && in.State().Live() {
			pid = strconv.Itoa(o.PID)
		}
		if o.Endpoint != nil && in.State().Live() {
			endpoint = o.Endpoint.Address
		}
		t.rows = append(t.rows, []string{
			in.Ref().String(), node, string(in.State()), strconv.Itoa(in.EffectiveWeight()),
			strconv.Itoa(o.Restarts), since, pid, endpoint, o.Reason,
		})
	}
	return t
}

// stateStyle colours a state by how much attention it wants.
func stateStyle(state string) string {
	switch api.State(state) {
	case api.StateRunning:
		return styleGreen
	case api.StateDegraded, api.StateStarting, api.StateBackoff, api.StateStopping, api.StatePending:
		return styleYellow
	case api.StateUnhealthy, api.StateFailed:
		return styleRed
	default:
		return styleDim
	}
}

// redrawPause keeps a busy server's changes from becoming flicker.
const redrawPause = 250 * time.Millisecond

// watchInstances shows the list again after every change: on a terminal in place, with
// --json one array a line, else one table after the other.
func (a *app) watchInstances(ctx context.Context, q client.InstanceQuery) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var last string
	var names map[string]string
	for list, err := range c.WatchInstances(ctx, q) {
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(in *api.Instance) bool { return names[in.Node] == "" }) {
			names = a.nodesOf(ctx, c, list)
		}
		if err := a.showChange(list, q, names, &last); err != nil {
			return err
		}
		ticks, stop := a.tick(redrawPause)
		select {
		case <-ticks:
		case <-ctx.Done():
		}
		stop()
	}
	return ctx.Err()
}

func (a *app) showChange(list []*api.Instance, q client.InstanceQuery, names map[string]string, last *string) error {
	if list == nil {
		list = []*api.Instance{}
	}
	// What changed in the cluster may not be about these instances.
	b, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	first, same := *last == "", *last == string(b)
	if same {
		return nil
	}
	*last = string(b)
	switch {
	case a.json:
		return a.printJSONLine(list)
	case a.screen.out:
		if err := a.printf("\x1b[H\x1b[2J"); err != nil { // home, clear
			return err
		}
	case !first:
		if err := a.printf("\n"); err != nil {
			return err
		}
	}
	return a.printInstances(list, q, names)
}

func (a *app) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use: "health [SERVICE:ID]", Short: "Tell how instances do",
		Long: `Tells how one instance does, or the server and all instances that run. Exits with 1
if one of them is unhealthy, waits to be started again or has failed.`,
		Example:           "  ten health\n  ten health notes:alice",
		Args:              between(0, 1),
		ValidArgsFunction: a.completeInstances(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.healthOfAll(cmd.Context())
			}
			ref, err := api.ParseRef(args[0])
			if err != nil {
				return refused(cmd, err)
			}
			var h *api.Health
			err = a.call(cmd.Context(), "asking for the health of "+ref.String(), answerTime, func(ctx context.Context, c *client.Client) error {
				h, err = c.InstanceHealth(ctx, ref)
				return err
			})
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(h)
			} else {
				err = a.healthTable([]*api.Health{h}).write(a.stdout, a.tableWidth(), a.colors())
			}
			return errors.Join(err, verdict([]*api.Health{h}))
		},
	}
}

func (a *app) healthOfAll(ctx context.Context) error {
	list := []*api.Health{}
	err := a.call(ctx, "asking for the health of all", answerTime, func(ctx context.Context, c *client.Client) error {
		if _, err := c.ServerHealth(ctx); err != nil {
			return err
		}
		instances, err := c.Instances(ctx, client.InstanceQuery{})
		for _, in := range instances {
			if s := in.State(); s.Live() || s == api.StateFailed {
				h := &api.Health{Service: in.Service, ID: in.ID, State: s, Healthy: s == api.StateRunning}
				if in.Observed != nil {
					h.Reason, h.Since = in.Observed.Reason, in.Observed.Since
				}
				list = append(list, h)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.json {
		return errors.Join(a.printJSON(list), verdict(list))
	}
	a.note("the server is well")
	if len(list) > 0 {
		err = a.healthTable(list).write(a.stdout, a.tableWidth(), a.colors())
	}
	return errors.Join(err, verdict(list))
}

func (a *app) healthTable(list []*api.Health) *table {
	t := &table{columns: []column{
		{title: "INSTANCE", min: 12},
		{title: "HEALTH", color: healthStyle},
		{title: "STATE", color: stateStyle},
		{title: "SINCE", right: true, drop: 1},
		{title: "REASON", min: 10, optional: true},
	}}
	for _, h := range list {
		since := ""
		if !h.Since.IsZero() {
			since = ago(a.now().Sub(h.Since))
		}
		ref := api.Ref{Service: h.Service, ID: h.ID}
		t.rows = append(t.rows, []string{ref.String(), healthWord(h), string(h.State), since, h.Reason})
	}
	return t
}

// healthWord sums a health up. What has no program is neither healthy nor not.
func healthWord(h *api.Health) string {
	switch {
	case h.Healthy:
		return "healthy"
	case unwell(h):
		return "unhealthy"
	case h.State == api.StateDegraded:
		return "degraded"
	default:
		return "-"
	}
}

func healthStyle(word string) string {
	return map[string]string{"healthy": styleGreen, "degraded": styleYellow, "unhealthy": styleRed}[word]
}

func unwell(h *api.Health) bool {
	return h.State == api.StateUnhealthy || h.State == api.StateBackoff || h.State == api.StateFailed
}

// verdict is the error that makes the command exit with 1.
func verdict(list []*api.Health) error {
	for _, h := range list {
		if unwell(h) {
			return errUnwell
		}
	}
	return nil
}
