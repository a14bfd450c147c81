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
		Example:           "  ten spawn notes:alice",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeSpawn,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), cmd, args, "waiting until %s accepts connections", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.Spawn(ctx, ref)
			}, func(in *api.Instance) string {
				return fmt.Sprintf("%s is %s%s", in.Ref(), in.State(), at(in))
			})
		},
	}
}

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart SERVICE:ID...", Short: "Stop and start instances",
		Long: "Stops and starts instances and returns once they accept connections. Requests that\n" +
			"come meanwhile wait.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeInstances(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), cmd, args, "restarting %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.Restart(ctx, ref)
			}, func(in *api.Instance) string {
				return fmt.Sprintf("%s is %s again%s", in.Ref(), in.State(), at(in))
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
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeInstances(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hold && purge {
				return refused(cmd, errors.New("--hold and --purge exclude each other"))
			}
			return a.each(cmd.Context(), cmd, args, "stopping %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				if purge {
					return &api.Instance{Service: ref.Service, ID: ref.ID}, c.Purge(ctx, ref)
				}
				return c.Stop(ctx, ref, hold)
			}, func(in *api.Instance) string {
				switch {
				case purge:
					return fmt.Sprintf("%s is removed", in.Ref())
				case in.State().Live():
					return fmt.Sprintf("%s is to stop; its state is %s", in.Ref(), in.State())
				case hold:
					return fmt.Sprintf("%s is held down; 'ten spawn %s' starts it", in.Ref(), in.Ref())
				default:
					return fmt.Sprintf("%s sleeps; a request for its own host wakes it", in.Ref())
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
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeInstances(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			weight, err := parseWeight(args[1])
			if err != nil {
				return refused(cmd, err)
			}
			return a.each(cmd.Context(), cmd, args[:1], "setting the weight of %s", func(ctx context.Context, c *client.Client, ref api.Ref) (*api.Instance, error) {
				return c.SetWeight(ctx, ref, weight)
			}, func(in *api.Instance) string {
				return fmt.Sprintf("%s has weight %d", in.Ref(), in.EffectiveWeight())
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
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeSpawn,
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
			case err != nil:
				return err
			case a.json:
				return a.printJSON(in)
			default:
				return a.printf("%s is healthy%s and has weight %d\n", ref, cleanText(at(in)), in.EffectiveWeight())
			}
		},
	}
	cmd.Flags().IntVar(&weight, "weight", -1, "share of the service's traffic once it is healthy, 0 to 100")
	cmd.Flags().Lookup("weight").DefValue = ""
	cmd.Flags().Var((*durationFlag)(&timeout), "timeout", "how long it may take, as seconds or such as 1m30s (default: the service's startup_timeout and 5s)")
	return cmd
}

func (a *app) routeCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "route SERVICE --from ID --to ID", Short: "Move a service's traffic from one instance to another",
		Example:           "  ten route notes --from v1 --to v2",
		Args:              cobra.ExactArgs(1),
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
	do func(context.Context, *client.Client, api.Ref) (*api.Instance, error), tell func(*api.Instance) string,
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
			err = a.printJSON(in)
		case err == nil:
			err = a.printf("%s\n", cleanText(tell(in)))
		case signalOf(ctx) != nil:
			return err
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
