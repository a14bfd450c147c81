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

func (a *app) routesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "routes", Short: "Send hosts and paths to instances, fleets and services",
		Long: `A route sends the requests for its hosts and paths to its backends, each of which gets
its share by weight. It comes before the hosts that services and instances have by
themselves. In the mode 'pause' requests are held until the mode is another, in
'maintenance' they are answered with 503 and a message.

'ten route' is about the host of one service: it moves its traffic between instances.`,
	}, a.routesListCommand(), a.routesShowCommand(), a.routesSetCommand(), a.routesRemoveCommand())
}

func (a *app) routesListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the routes", Args: between(0, 0), Example: "  ten routes ls",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var routes []*api.RouteStatus
			err := a.call(cmd.Context(), "listing routes", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				routes, err = c.Routes(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, routes)
			case len(routes) == 0:
				a.note("no routes; 'ten routes set' makes one")
				return nil
			}
			return routesTable(routes).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
}

func routesTable(routes []*api.RouteStatus) *table {
	t := &table{columns: []column{
		{title: "ROUTE", min: 8},
		{title: "HOSTS", min: 12},
		{title: "PATHS", min: 6, optional: true, drop: 2},
		{title: "MODE", color: modeColor},
		{title: "BACKENDS", min: 10, drop: 1},
	}}
	for _, r := range routes {
		var backends []string
		for i := range r.Effective {
			backends = append(backends, r.Effective[i].String()+" "+percent(r.Effective[i].Share))
		}
		hosts := strings.Join(r.Hosts, ", ")
		if hosts == "" {
			hosts = "(the domain)"
		}
		t.rows = append(t.rows, []string{r.Name, hosts, strings.Join(r.Paths, ", "), string(r.Mode), strings.Join(backends, ", ")})
	}
	return t
}

func modeColor(mode string) string {
	switch api.RouteMode(mode) {
	case api.RoutePause:
		return styleYellow
	case api.RouteMaintenance:
		return styleRed
	default:
		return styleGreen
	}
}

func percent(share float64) string { return strconv.FormatFloat(share, 'f', -1, 64) + "%" }

func (a *app) routesShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a route, and what each backend gets now and why", Args: between(1, 1),
		Example:           "  ten routes show shop",
		ValidArgsFunction: a.completeRoutes,
		RunE: func(cmd *cobra.Command, args []string) error {
			var r *api.RouteStatus
			err := a.call(cmd.Context(), "asking for the route", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				r, err = c.StoredRoute(ctx, args[0])
				return err
			})
			switch {
			case err != nil:
				return lookUp(err, seeRoutes)
			case a.json:
				return a.printJSON(r)
			}
			return a.showRoute(r)
		},
	}
}

func (a *app) showRoute(r *api.RouteStatus) error {
	lines := [][2]string{{"route", r.Name}, {"hosts", strings.Join(r.Hosts, ", ")}, {"paths", strings.Join(r.EffectivePaths(), ", ")}, {"mode", string(r.Mode)}}
	if len(r.Hosts) == 0 {
		lines[1][1] = "the domain of the servers"
	}
	if r.Message != "" {
		lines = append(lines, [2]string{"message", r.Message})
	}
	for _, l := range lines {
		if err := a.printf("%-8s %s\n", l[0], cleanText(l[1])); err != nil {
			return err
		}
	}
	if len(r.Effective) == 0 {
		return nil
	}
	t := &table{columns: []column{
		{title: "BACKEND", min: 12}, {title: "WEIGHT", right: true}, {title: "GETS", right: true}, {title: "WHY", min: 20, optional: true},
	}}
	for i := range r.Effective {
		e := &r.Effective[i]
		t.rows = append(t.rows, []string{e.String(), strconv.Itoa(e.EffectiveWeight()), percent(e.Share), e.Reason})
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	return t.write(a.stdout, a.tableWidth(), a.colors())
}

// routeFlags are what `ten routes set` can change.
type routeFlags struct {
	hosts, paths, backends, fleets  []string
	mode, message                   string
	setHosts, setPaths, setBackends bool
	setMode, setMessage             bool
}

func (a *app) routesSetCommand() *cobra.Command {
	var o routeFlags
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Make or change a route",
		Long: `Makes a route, or changes what the flags name and leaves the rest; the backends are
replaced together. A backend is SERVICE:ID for an instance or SERVICE for all of a service
by its own weights, and with --fleet SERVICE:NAME for a fleet; =WEIGHT behind it is its
share, 0 to 100, by default 100. A backend need not exist yet. Without hosts the paths are
those of the servers' own domain. Returns once the server that answers routes by it.`,
		Example: "  ten routes set shop --host shop.example.com --backend web:v1=90 --backend web:v2=10\n" +
			"  ten routes set shop --mode maintenance --message 'Back at 10.'\n" +
			"  ten routes set docs --path /docs --fleet docs:all",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeRoutes,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.note(cmd)
			return a.changeRoute(cmd, args[0], &o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.hosts, "host", nil, "whole DNS `name`; '' for none")
	f.StringSliceVar(&o.paths, "path", nil, "`prefix` of whole segments; '' for all")
	f.StringSliceVar(&o.backends, "backend", nil, "`SERVICE[:ID][=WEIGHT]`: an instance, or all of a service")
	f.StringSliceVar(&o.fleets, "fleet", nil, "`SERVICE:NAME[=WEIGHT]`: a fleet")
	f.StringVar(&o.mode, "mode", "", "`live`, pause or maintenance")
	f.StringVar(&o.message, "message", "", "`text` for clients while the mode is maintenance; '' for the usual one")
	must(cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"live", "pause", "maintenance"}, noFiles)))
	must(cmd.RegisterFlagCompletionFunc("backend", a.completeBackend))
	must(cmd.RegisterFlagCompletionFunc("fleet", a.completeFleetFlag))
	return cmd
}

// note takes down which flags were given.
func (o *routeFlags) note(cmd *cobra.Command) {
	given := cmd.Flags().Changed
	o.setHosts, o.setPaths, o.setBackends = given("host"), given("path"), given("backend") || given("fleet")
	o.setMode, o.setMessage = given("mode"), given("message")
}

// apply changes what the flags name.
func (o *routeFlags) apply(r *api.Route) error {
	if o.setHosts {
		r.Hosts = withoutEmpty(o.hosts)
	}
	if o.setPaths {
		r.Paths = withoutEmpty(o.paths)
	}
	if o.setMode {
		r.Mode = api.RouteMode(o.mode)
	}
	if o.setMessage {
		r.Message = o.message
	}
	if !o.setBackends {
		return nil
	}
	r.Backends = nil
	for _, text := range withoutEmpty(o.backends) {
		b, err := parseBackend(text, "--backend", "SERVICE:ID=WEIGHT or SERVICE=WEIGHT, such as web:v1=90")
		if err != nil {
			return err
		}
		r.Backends = append(r.Backends, b)
	}
	for _, text := range withoutEmpty(o.fleets) {
		const want = "SERVICE:NAME=WEIGHT, such as web:blue=90"
		b, err := parseBackend(text, "--fleet", want)
		if err != nil {
			return err
		}
		if b.Instance == "" {
			return &api.FieldError{Field: "--fleet", Got: text, Want: want}
		}
		b.Fleet, b.Instance = b.Instance, ""
		r.Backends = append(r.Backends, b)
	}
	return nil
}

// parseBackend reads SERVICE[:ID][=WEIGHT].
func parseBackend(text, flag, want string) (api.Backend, error) {
	name, weight, weighted := strings.Cut(text, "=")
	service, id, named := strings.Cut(name, ":")
	b := api.Backend{Service: service, Instance: id}
	b.SetDefaults()
	bad := &api.FieldError{Field: flag, Got: text, Want: want}
	if !api.ValidName(service) || named && !api.ValidName(id) {
		return b, bad
	}
	if weighted {
		n, err := strconv.Atoi(weight)
		if err != nil || n < 0 || n > api.MaxWeight {
			bad.Want = "a weight from 0 to 100 behind the ="
			return b, bad
		}
		b.Weight = &n
	}
	return b, nil
}

// changeRoute changes a route, or makes it, however often others change it meanwhile.
func (a *app) changeRoute(cmd *cobra.Command, name string, o *routeFlags) error {
	if !api.ValidName(name) {
		return refused(cmd, &api.FieldError{Field: "NAME", Got: name, Want: "1 to 63 of a-z 0-9 _ -, the first a letter or digit"})
	}
	var out *api.RouteStatus
	err := a.call(cmd.Context(), "changing "+name, answerTime, func(ctx context.Context, c *client.Client) error {
		const attempts = 5
		for attempt := 1; ; attempt++ {
			r, err := c.StoredRoute(ctx, name)
			if api.CodeOf(err) == api.CodeNotFound {
				r, err = &api.RouteStatus{Route: api.Route{Name: name}}, nil
			}
			if err != nil {
				return err
			}
			revision := r.Revision
			if err := o.apply(&r.Route); err != nil {
				return refused(cmd, err)
			}
			if _, err = c.PutRoute(ctx, &r.Route, &revision); err == nil {
				out, err = c.StoredRoute(ctx, name)
			}
			if api.CodeOf(err) != api.CodeStaleRevision || attempt == attempts {
				return err
			}
		}
	})
	switch {
	case err != nil:
		return routeHint(err)
	case a.json:
		return a.printJSON(out)
	}
	for i := range out.Effective {
		if e := &out.Effective[i]; strings.HasPrefix(e.Reason, "unknown") {
			a.note("%s gets nothing yet: %s", cleanText(e.String()), cleanText(e.Reason))
		}
	}
	return a.printf("%s is %s\n", cleanText(out.Name), modeText(out))
}

// routeHint says which flag sets what is missing.
func routeHint(err error) error {
	e, ok := errors.AsType[*api.Error](err)
	if !ok || len(e.Fields) == 0 || e.Fields[0].Got != "" {
		return err
	}
	flags := map[string]string{"hosts": "--host or --path", "paths": "--path", "backends": "--backend or --fleet", "mode": "--mode", "message": "--message"}
	if flag := flags[e.Fields[0].Field]; flag != "" {
		return &hintError{err: err, hint: flag + " sets it"}
	}
	return err
}

func modeText(r *api.RouteStatus) string {
	if r.Mode != api.RouteLive {
		return "in mode " + string(r.Mode)
	}
	var gets []string
	for i := range r.Effective {
		if e := &r.Effective[i]; e.Share > 0 {
			gets = append(gets, fmt.Sprintf("%s gets %s", e.String(), percent(e.Share)))
		}
	}
	if len(gets) == 0 {
		return "live, but no backend takes requests; 'ten routes show " + cleanText(r.Name) + "' says why"
	}
	return "live: " + strings.Join(gets, ", ")
}

func (a *app) routesRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a route", Args: between(1, 1), Example: "  ten routes rm shop",
		Long:              "Removes a route. What it led to stays as it is.",
		ValidArgsFunction: a.completeRoutes,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.call(cmd.Context(), "removing "+args[0], answerTime, func(ctx context.Context, c *client.Client) error {
				return c.DeleteRoute(ctx, args[0], nil)
			})
			if err != nil || a.json {
				return lookUp(err, seeRoutes)
			}
			return a.printf("%s is removed\n", cleanText(args[0]))
		},
	}
}

// completeRoutes completes a route as the only argument.
func (a *app) completeRoutes(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return matching(named(cmd.Context(), a, (*client.Client).Routes, func(r *api.RouteStatus) string { return r.Name }), nil, prefix), noFiles
}

// completeBackend completes an instance or a service as the value of a flag.
func (a *app) completeBackend(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names := append(a.serviceNames(cmd.Context()), a.instanceNames(cmd.Context(), "")...)
	return matching(names, nil, prefix), noFiles
}

// completeFleetFlag completes a fleet as the value of a flag.
func (a *app) completeFleetFlag(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.completeFleets(cmd, nil, prefix)
}
