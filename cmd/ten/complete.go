package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// completionTime bounds what a shell waits for names after Tab.
const completionTime = 2 * time.Second

// noFiles is the completion of commands whose arguments are no files.
const noFiles = cobra.ShellCompDirectiveNoFileComp

// ask runs one quick question for a completion; what goes wrong completes nothing.
func (a *app) ask(ctx context.Context, f func(context.Context, *client.Client) error) {
	c, err := a.connect()
	if err != nil {
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	if err := f(ctx, c); err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
}

func (a *app) instanceNames(ctx context.Context, service string) []string {
	var names []string
	a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		list, err := c.Instances(ctx, client.InstanceQuery{Service: service})
		for _, in := range list {
			names = append(names, in.Ref().String())
		}
		return err
	})
	return names
}

func (a *app) serviceNames(ctx context.Context) []string {
	return named(ctx, a, (*client.Client).Services, func(s *api.Service) string { return s.Name })
}

// named asks for a list and returns what the things on it are called.
func named[T any](ctx context.Context, a *app, list func(*client.Client, context.Context) ([]T, error), name func(T) string) []string {
	var names []string
	a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		things, err := list(c, ctx)
		for _, thing := range things {
			names = append(names, name(thing))
		}
		return err
	})
	return names
}

// matching returns the names that begin with prefix and were not given already.
func matching(names, given []string, prefix string) []string {
	return slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, prefix) || slices.Contains(given, n)
	})
}

// completeInstances completes names of instances, as the first argument only or as all.
func (a *app) completeInstances(firstOnly bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if firstOnly && len(args) > 0 {
			return nil, noFiles
		}
		return matching(a.instanceNames(cmd.Context(), ""), args, prefix), noFiles
	}
}

// completeSpawn completes instances that exist, and services up to the colon for new ones.
func (a *app) completeSpawn(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(prefix, ":") {
		return matching(a.instanceNames(cmd.Context(), ""), args, prefix), noFiles
	}
	var out []string
	for _, name := range matching(a.serviceNames(cmd.Context()), nil, prefix) {
		out = append(out, name+":")
	}
	return out, noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeService completes a service as the only argument.
func (a *app) completeService(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return matching(a.serviceNames(cmd.Context()), nil, prefix), noFiles
}

// completeLogs completes a service or an instance.
func (a *app) completeLogs(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	names := append(a.serviceNames(cmd.Context()), a.instanceNames(cmd.Context(), "")...)
	return matching(names, nil, prefix), noFiles
}

// completeVersion completes the id of an instance of the service in the first argument.
func (a *app) completeVersion(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 || !api.ValidName(args[0]) {
		return nil, noFiles
	}
	var ids []string
	for _, name := range a.instanceNames(cmd.Context(), args[0]) {
		_, id, _ := strings.Cut(name, ":")
		ids = append(ids, id)
	}
	return matching(ids, nil, prefix), noFiles
}

// completeNodes completes a node as the only argument.
func (a *app) completeNodes(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return a.completeNodeFlag(cmd, args, prefix)
}

// completeNodeFlag completes a node as the value of a flag.
func (a *app) completeNodeFlag(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return matching(named(cmd.Context(), a, (*client.Client).Nodes, func(m *api.Member) string { return m.Name }), nil, prefix), noFiles
}

// completeFleets completes a fleet as the first argument.
func (a *app) completeFleets(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	var names []string
	a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
		fleets, err := c.Fleets(ctx, "")
		for _, f := range fleets {
			names = append(names, f.Ref().String())
		}
		return err
	})
	return matching(names, nil, prefix), noFiles
}
