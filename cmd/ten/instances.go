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

func (a *app) spawnCommand() *cobra.Command {
	return &cobra.Command{
		Use: "spawn SERVICE:ID...", Short: "Start instances, creating those that do not exist",
		Long: `Starts instances and returns once they accept connections, healthy or not.
One that does not exist is created; one that sleeps is woken; one that was held
down or has failed is started.`,
		Example:           "  ten spawn notes:alice\n  ten spawn notes:alice notes:bob",
		Args:              between(1, -1),
		ValidArgsFunction: a.completeSpawn,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), cmd, args, "waiting until %s accepts connections", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.Spawn(ctx, ref)
			}, func(ref api.Ref, in *api.Instance) string {
				return fmt.Sprintf("%s is %s%s", ref, in.State(), at(in))
			})
		},
	}
}

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart SERVICE:ID...", Short: "Stop and start instances",
		Long: "Stops and starts instances and returns once they accept connections. Requests that\n" +
			"come meanwhile wait.",
		Example:           "  ten restart notes:alice",
		Args:              between(1, -1),
		ValidArgsFunction: a.completeInstances(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), cmd, args, "restarting %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.Restart(ctx, ref)
			}, func(ref api.Ref, in *api.Instance) string {
				return fmt.Sprintf("%s is %s again%s", ref, in.State(), at(in))
			})
		},
	}
}

func (a *app) stopCommand() *cobra.Command {
	var hold, purge bool
	cmd := &cobra.Command{
		Use: "stop SERVICE:ID...", Short: "Put instances to sleep, or hold them down",
		Long: `Puts instances to sleep and takes them out of weighted traffic. A request for an
instance's own host still wakes it, unless it is held down: then requests get 503
until 'ten spawn' starts it.`,
		Example: "  ten stop notes:alice          # sleeps; the next request wakes it\n" +
			"  ten stop notes:alice --hold   # stays down\n" +
			"  ten stop notes:alice --purge  # is removed, its data stays on disk",
		Args:              between(1, -1),
		ValidArgsFunction: a.completeInstances(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hold && purge {
				return refused(cmd, errors.New("--hold and --purge exclude each other"))
			}
			return a.each(cmd.Context(), cmd, args, "stopping %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				if purge {
					return nil, c.Purge(ctx, ref)
				}
				return c.Stop(ctx, ref, hold)
			}, func(ref api.Ref, in *api.Instance) string {
				switch {
				case purge:
					return fmt.Sprintf("%s is removed", ref)
				case in.State().Live():
					return fmt.Sprintf("%s is to stop; its state is %s", ref, in.State())
				case hold:
					return fmt.Sprintf("%s is held down; 'ten spawn %s' starts it", ref, ref)
				default:
					return fmt.Sprintf("%s sleeps; a request for its own host wakes it", ref)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&hold, "hold", false, "keep it down: requests get 503 until it is spawned")
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the instance altogether")
	return cmd
}

func (a *app) weightCommand() *cobra.Command {
	return &cobra.Command{
		Use: "weight SERVICE:ID 0..100", Short: "Set an instance's share of its service's traffic",
		Long:              "Sets the share of the requests to {service}.{domain} that an instance gets, relative\nto the weights of the service's other instances; 0 is none.",
		Example:           "  ten weight notes:v2 10",
		Args:              between(2, 2),
		ValidArgsFunction: a.completeInstances(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			weight, err := parseWeight(args[1])
			if err != nil {
				return refused(cmd, err)
			}
			return a.each(cmd.Context(), cmd, args[:1], "setting the weight of %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.SetWeight(ctx, ref, weight)
			}, func(ref api.Ref, in *api.Instance) string {
				return fmt.Sprintf("%s has weight %d", ref, in.EffectiveWeight())
			})
		},
	}
}

func (a *app) deployCommand() *cobra.Command {
	weight := -1
	var timeout api.Duration
	cmd := &cobra.Command{
		Use: "deploy SERVICE:VERSION", Short: "Start a version and wait until it is healthy",
		Long: `Starts an instance of the service under the name of a version, waits until it is
healthy and gives it its weight only then, so that a version that fails meets no
weighted traffic. Without --weight the first instance of a service gets 100, any
other new one 0; 'ten route' moves the traffic.`,
		Example: "  ten deploy notes:v2 --weight 10 --timeout 1m\n  ten route notes --from v1 --to v2",
		Args:    between(1, 1), ValidArgsFunction: a.completeSpawn,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := api.ParseRef(args[0])
			if err != nil {
				return refused(cmd, err)
			}
			req := api.DeployRequest{Process: ref.Service, Version: ref.ID, Timeout: timeout}
			if cmd.Flags().Changed("weight") {
				if _, err := parseWeight(strconv.Itoa(weight)); err != nil {
					return refused(cmd, err)
				}
				req.Weight = &weight
			}
			var in *api.Instance
			err = a.call(cmd.Context(), fmt.Sprintf("waiting until %s is healthy", ref), waitTime, func(ctx context.Context, c *client.Client) error {
				in, err = c.Deploy(ctx, req)
				return err
			})
			switch {
			case err != nil && signalOf(cmd.Context()) != nil:
				a.note("interrupted; the server may go on with %s", ref)
				return err
			case err != nil:
				return about(ref, err)
			case a.json:
				return a.printJSON(in)
			default:
				return a.printf("%s is healthy%s and has weight %d\n", ref, cleanText(at(in)), in.EffectiveWeight())
			}
		},
	}
	cmd.Flags().IntVar(&weight, "weight", -1, "`share` of the service's traffic once it is healthy, 0 to 100")
	cmd.Flags().Lookup("weight").DefValue = "0" // shows no default
	cmd.Flags().Var((*durationFlag)(&timeout), "timeout", "how long it may take, in seconds or as 1m30s (default: the service's startup_timeout and 5s)")
	return cmd
}

func (a *app) routeCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "route SERVICE --from ID --to ID", Short: "Move a service's traffic from one instance to another",
		Long: "Gives one instance of the service all of the traffic to {service}.{domain} (weight 100) and\n" +
			"another none (weight 0), in one step.",
		Example:           "  ten route notes --from v1 --to v2",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" || to == "" {
				return refused(cmd, errors.New("--from and --to are needed: the ids of two instances"))
			}
			req := api.RouteRequest{Process: args[0], From: from, To: to}
			var out *api.RouteResult
			err := a.call(cmd.Context(), "moving traffic", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				out, err = c.Route(ctx, req)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(out)
			default:
				return a.printf("%s: %s gets the traffic now (weight %d), %s none (weight %d)\n",
					args[0], to, out.To.EffectiveWeight(), from, out.From.EffectiveWeight())
			}
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`id` of the instance that gets no more traffic")
	cmd.Flags().StringVar(&to, "to", "", "`id` of the instance that gets it all")
	for _, name := range []string{"from", "to"} {
		must(cmd.RegisterFlagCompletionFunc(name, a.completeVersion))
	}
	return cmd
}

// each does one thing to every instance named, telling each result as it comes. One
// failure does not keep it from the rest; the first decides the exit code.
func (a *app) each(ctx context.Context, cmd *cobra.Command, args []string, what string,
	do func(context.Context, *client.Client, api.Ref) (*api.Instance, error), tell func(api.Ref, *api.Instance) string,
) error {
	refs := make([]api.Ref, len(args))
	for i, arg := range args {
		var err error
		if refs[i], err = api.ParseRef(arg); err != nil {
			return refused(cmd, err)
		}
	}
	var first error
	for _, ref := range refs {
		var in *api.Instance
		err := a.call(ctx, fmt.Sprintf(what, ref), waitTime, func(ctx context.Context, c *client.Client) (err error) {
			in, err = do(ctx, c, ref)
			return err
		})
		switch {
		case err == nil && a.json:
			if in != nil {
				err = a.printJSON(in)
			}
		case err == nil:
			err = a.printf("%s\n", cleanText(tell(ref, in)))
		case signalOf(ctx) != nil:
			a.note("interrupted; the server may go on with %s", ref)
			return err
		default:
			err = about(ref, err)
		}
		if err == nil {
			continue
		}
		if len(refs) > 1 {
			a.printError(err)
			err = &toldError{err}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// about adds what to do when an instance did not come up.
func about(ref api.Ref, err error) error {
	switch logs := fmt.Sprintf("'ten logs %s' shows what it printed", ref); api.CodeOf(err) {
	case api.CodeFailed:
		return &hintError{err: err, hint: logs}
	case api.CodeTimeout:
		return &hintError{err: err, hint: "a program has to listen on 127.0.0.1:$PORT or on the unix socket $SOCKET_PATH, and answer 200 at its health path; " + logs}
	default:
		return err
	}
}

// at tells where an instance accepts connections, " on 127.0.0.1:30000".
func at(in *api.Instance) string {
	if in.Observed == nil || in.Observed.Endpoint == nil {
		return ""
	}
	return " on " + in.Observed.Endpoint.Address
}

func parseWeight(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 0 || n > api.MaxWeight {
		return 0, &api.FieldError{Field: "weight", Got: text, Want: "0 to 100"}
	}
	return n, nil
}

// durationFlag is an api.Duration as a flag.
type durationFlag api.Duration

func (d *durationFlag) String() string {
	if *d == 0 {
		return ""
	}
	return api.Duration(*d).String()
}

func (d *durationFlag) Type() string { return "duration" }

func (d *durationFlag) Set(text string) error {
	v, err := api.ParseDuration(text)
	if err != nil {
		return err
	}
	if v <= 0 {
		return &api.FieldError{Field: "duration", Got: text, Want: "more than 0"}
	}
	*d = durationFlag(v)
	return nil
}

// must is for what can only fail by a mistake in this package that every run would show.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
