package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) fleetCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "fleet", Short: "Keep many instances of a service alike",
		Long: `A fleet keeps a number of instances of a service: the fleet notes:web is the instances
notes:web-0, notes:web-1 and so on. They share its weight of the traffic.`,
	}, a.fleetListCommand(), a.fleetSetCommand(), a.fleetRemoveCommand())
}

func (a *app) fleetListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls [SERVICE]", Aliases: []string{"list"}, Short: "List the fleets", Args: between(0, 1),
		Example:           "  ten fleet ls\n  ten fleet ls notes",
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			service := strings.Join(args, "")
			var fleets []*api.Fleet
			var instances []*api.Instance
			err := a.call(cmd.Context(), "listing fleets", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				if fleets, err = c.Fleets(ctx, service); err != nil || len(fleets) == 0 || a.json {
					return err
				}
				instances, err = c.Instances(ctx, client.InstanceQuery{Service: service})
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, fleets)
			case len(fleets) == 0:
				a.note("no fleets; 'ten fleet set' makes one")
				return nil
			}
			return fleetTable(fleets, instances).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
}

func fleetTable(fleets []*api.Fleet, instances []*api.Instance) *table {
	t := &table{columns: []column{
		{title: "FLEET", min: 12},
		{title: "REPLICAS", right: true},
		{title: "RUNNING", right: true, drop: 1},
		{title: "WEIGHT", right: true, drop: 2},
		{title: "SPREAD", drop: 3, optional: true},
		{title: "RULES", min: 10, optional: true, drop: 4},
	}}
	running := map[api.Ref]int{}
	for _, in := range instances {
		if in.Fleet != "" && in.State().Serving() {
			running[api.Ref{Service: in.Service, ID: in.Fleet}]++
		}
	}
	for _, f := range fleets {
		var spread, rules string
		if f.Placement != nil {
			p := f.Placement.WithDefaults()
			spread = string(p.SpreadBy)
			if p.Strategy == api.StrategyBinpack {
				spread = string(p.Strategy)
			}
			rules = rulesText(p)
		}
		t.rows = append(t.rows, []string{
			f.Ref().String(), strconv.Itoa(f.Replicas), strconv.Itoa(running[f.Ref()]), strconv.Itoa(f.EffectiveWeight()), spread, rules,
		})
	}
	return t
}

func rulesText(p *api.PlacementRules) string {
	var out []string
	for _, k := range p.Constraints {
		out = append(out, string(k))
	}
	for _, f := range p.Affinities {
		out = append(out, fmt.Sprintf("%s (%+d)", f.Match, f.Weight))
	}
	if len(p.AntiAffinity) > 0 {
		out = append(out, "not with "+strings.Join(p.AntiAffinity, ", "))
	}
	return strings.Join(out, "; ")
}

// fleetFlags are what `ten fleet set` can change.
type fleetFlags struct {
	replicas, weight           int
	spreadBy, strategy         string
	constraints, antiAffinity  []string
	setReplicas, setWeight     bool
	setSpread, setStrategy     bool
	setConstraints, setAgainst bool
}

func (a *app) fleetSetCommand() *cobra.Command {
	var o fleetFlags
	cmd := &cobra.Command{
		Use: "set SERVICE:NAME", Short: "Make or change a fleet",
		Long: `Makes a fleet, or changes what the flags name and leaves the rest. Rules for the
placement of a fleet, if it has any, replace those of its service. Returns once the
change is stored; 'ten ps' shows how the instances start or stop.`,
		Example: "  ten fleet set notes:web --replicas 3\n" +
			"  ten fleet set notes:web --spread-by zone --constraint 'zone = eu-1|eu-2' --constraint label.ssd",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeFleets,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.note(cmd)
			return a.changeFleet(cmd, args[0], o.setReplicas, o.apply)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.replicas, "replicas", 0, "how many instances")
	f.IntVar(&o.weight, "weight", 0, "share of the traffic, 0 to 100, that they have together (default: 100)")
	f.StringVar(&o.spreadBy, "spread-by", "", "spread over each `node`, zone or region")
	f.StringVar(&o.strategy, "strategy", "", "`spread` over nodes that are empty, or binpack into full ones")
	f.StringArrayVar(&o.constraints, "constraint", nil, "`condition` on the nodes, several must all hold; '' for none")
	f.StringSliceVar(&o.antiAffinity, "anti-affinity", nil, "`services` that it shares no node with; '' for none")
	for name, words := range map[string][]string{"spread-by": {"node", "zone", "region"}, "strategy": {"spread", "binpack"}} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, noFiles)))
	}
	return cmd
}

// note takes down which flags were given.
func (o *fleetFlags) note(cmd *cobra.Command) {
	given := cmd.Flags().Changed
	o.setReplicas, o.setWeight = given("replicas"), given("weight")
	o.setSpread, o.setStrategy = given("spread-by"), given("strategy")
	o.setConstraints, o.setAgainst = given("constraint"), given("anti-affinity")
}

// apply changes what the flags name.
func (o *fleetFlags) apply(f *api.Fleet) error {
	if o.setReplicas {
		f.Replicas = o.replicas
	}
	if o.setWeight {
		f.Weight = &o.weight
	}
	if !o.setSpread && !o.setStrategy && !o.setConstraints && !o.setAgainst {
		return nil
	}
	if f.Placement == nil {
		f.Placement = &api.PlacementRules{}
	}
	if o.setSpread {
		f.Placement.SpreadBy = api.SpreadBy(o.spreadBy)
	}
	if o.setStrategy {
		f.Placement.Strategy = api.Strategy(o.strategy)
	}
	if o.setAgainst {
		f.Placement.AntiAffinity = withoutEmpty(o.antiAffinity)
	}
	if !o.setConstraints {
		return nil
	}
	f.Placement.Constraints = nil
	for _, text := range withoutEmpty(o.constraints) {
		k, err := api.ParseConstraint(text)
		if err != nil {
			return err
		}
		f.Placement.Constraints = append(f.Placement.Constraints, k)
	}
	return nil
}

func withoutEmpty(list []string) (out []string) {
	for _, s := range list {
		if strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}

func (a *app) scaleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "scale SERVICE:NAME N", Short: "Set how many instances a fleet has",
		Long: "Sets how many instances a fleet has. 'ten fleet set' makes a fleet. Those with the highest\n" +
			"numbers go first.",
		Example:           "  ten scale notes:web 5",
		Args:              between(2, 2),
		ValidArgsFunction: a.completeFleets,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return refused(cmd, &api.FieldError{Field: "N", Got: args[1], Want: "0 or more"})
			}
			return a.changeFleet(cmd, args[0], false, func(f *api.Fleet) error { f.Replicas = n; return nil })
		},
	}
}

// changeFleet changes a fleet, however often others change it meanwhile; with create it is
// made if there is none.
func (a *app) changeFleet(cmd *cobra.Command, name string, create bool, change func(*api.Fleet) error) error {
	ref, err := fleetRef(name)
	if err != nil {
		return refused(cmd, err)
	}
	var out *api.Fleet
	err = a.call(cmd.Context(), "changing "+name, answerTime, func(ctx context.Context, c *client.Client) error {
		const attempts = 5
		for attempt := 1; ; attempt++ {
			f, err := c.Fleet(ctx, ref)
			if api.CodeOf(err) == api.CodeNotFound && create {
				f, err = &api.Fleet{Service: ref.Service, Name: ref.ID}, nil
			}
			if err != nil {
				return err
			}
			revision := f.Revision
			if err := change(f); err != nil {
				return refused(cmd, err)
			}
			out, err = c.PutFleet(ctx, f, &revision)
			if api.CodeOf(err) != api.CodeStaleRevision || attempt == attempts {
				return err
			}
		}
	})
	switch {
	case api.CodeOf(err) == api.CodeNotFound && !create:
		return &hintError{err: err, hint: "'ten fleet set " + cleanText(name) + " --replicas N' makes it"}
	case err != nil:
		return lookUp(err, seeFleets)
	case a.json:
		return a.printJSON(out)
	case out.Replicas == 1:
		return a.printf("%s has 1 instance\n", out.Ref())
	default:
		return a.printf("%s has %d instances\n", out.Ref(), out.Replicas)
	}
}

func fleetRef(name string) (api.Ref, error) {
	ref, err := api.ParseRef(name)
	if _, ok := errors.AsType[*api.FieldError](err); ok && !strings.Contains(name, ":") {
		return ref, &api.FieldError{Field: "fleet", Got: name, Want: "service:name"}
	}
	return ref, err
}

func (a *app) fleetRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm SERVICE:NAME", Short: "Remove a fleet and its instances",
		Long:              "Removes a fleet, and stops and removes its instances. Their data stays on disk.",
		Example:           "  ten fleet rm notes:web",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeFleets,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := fleetRef(args[0])
			if err != nil {
				return refused(cmd, err)
			}
			err = a.call(cmd.Context(), "removing "+args[0], answerTime, func(ctx context.Context, c *client.Client) error {
				return c.DeleteFleet(ctx, ref, nil)
			})
			if err != nil || a.json {
				return lookUp(err, seeFleets)
			}
			return a.printf("%s is removed\n", ref)
		},
	}
}
