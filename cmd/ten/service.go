package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) serviceCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the services", Args: between(0, 0), Example: "  ten service list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var services []*api.Service
			err := a.call(cmd.Context(), "listing services", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				services, err = c.Services(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, services)
			case len(services) == 0:
				a.note("no services; declare one in tenement.toml or with 'ten service apply'")
				return nil
			}
			return serviceTable(services).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
	get := &cobra.Command{
		Use: "get NAME", Short: "Print a service as JSON, as 'apply' takes it", Args: between(1, 1),
		Long: "Prints a service as JSON, as 'apply' takes it. The values of secret variables are not in it;\n" +
			"'apply' keeps those that it is not given.",
		Example:           "  ten service get notes",
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			var s *api.Service
			err := a.call(cmd.Context(), "asking for the service", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				s, err = c.Service(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			return a.printJSON(s)
		},
	}
	return group(&cobra.Command{Use: "service", Short: "List, declare and remove services"},
		list, get, a.serviceApplyCommand(), a.serviceDeleteCommand())
}

func (a *app) serviceApplyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "apply FILE", Short: "Create or change services from a JSON file",
		Long: `Creates or changes the services in a file: one JSON object, or a list of them; - reads
standard input. With a revision in it, as 'get' prints it, a service is only changed if
nobody else has changed it since.`,
		Example: "  ten service get notes > notes.json\n  ten service apply notes.json",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			services, err := a.readServices(args[0])
			if err != nil {
				return refused(cmd, err)
			}
			for _, s := range services {
				var ifMatch *uint64
				if s.Revision > 0 {
					ifMatch = &s.Revision
				}
				var out *api.Service
				err := a.call(cmd.Context(), "applying "+s.Name, answerTime, func(ctx context.Context, c *client.Client) (err error) {
					out, err = c.PutService(ctx, s, ifMatch)
					return err
				})
				switch {
				case err != nil:
					return err
				case a.json:
					err = a.printJSON(out)
				default:
					err = a.printf("%s has revision %d\n", cleanText(out.Name), out.Revision)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) serviceDeleteCommand() *cobra.Command {
	var revision uint64
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Remove a service and stop and remove its instances", Args: between(1, 1),
		Long: "Removes a service that was made by 'apply' or the API, and stops and removes its instances.\n" +
			"Their data stays on disk. What tenement.toml declares is removed by taking it out of there.",
		Example:           "  ten service delete notes",
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			var ifMatch *uint64
			if revision > 0 {
				ifMatch = &revision
			}
			err := a.call(cmd.Context(), "removing "+args[0], answerTime, func(ctx context.Context, c *client.Client) error {
				return c.DeleteService(ctx, args[0], ifMatch)
			})
			if err != nil || a.json {
				return err
			}
			return a.printf("%s is removed\n", cleanText(args[0]))
		},
	}
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if this is its current `revision`")
	return cmd
}

// maxServices bounds what apply reads.
const maxServices = 64 << 20

// readServices reads one service or a list of them. Fields that no service has are refused.
func (a *app) readServices(path string) ([]*api.Service, error) {
	in := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read services: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxServices))
	if err != nil {
		return nil, fmt.Errorf("read services: %w", err)
	}
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '{' {
		b = append(append([]byte{'['}, b...), ']')
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var services []*api.Service
	if err := dec.Decode(&services); err != nil {
		return nil, fmt.Errorf("read services from %s: %w", path, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("read services from %s: more follows after the first value; put several into one list", path)
	}
	for i, s := range services {
		if s == nil || !api.ValidName(s.Name) {
			return nil, fmt.Errorf("read services from %s: entry %d has no valid name", path, i)
		}
	}
	return services, nil
}

// shellWord writes a word as a shell, and tenement.toml's command, would take it.
func shellWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`|&;<>()*?[]#~!") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func serviceTable(services []*api.Service) *table {
	t := &table{columns: []column{
		{title: "SERVICE", min: 12},
		{title: "ISOLATION", drop: 2},
		{title: "IDLE", right: true, drop: 3},
		{title: "SOURCE", drop: 4},
		{title: "REVISION", right: true, drop: 5},
		{title: "COMMAND", min: 10, drop: 1},
	}}
	for _, s := range services {
		idle := "never"
		if s.IdleTimeout > 0 {
			idle = s.IdleTimeout.String()
		}
		command := shellWord(s.Command)
		for _, arg := range s.Args {
			command += " " + shellWord(arg)
		}
		t.rows = append(t.rows, []string{
			s.Name, string(s.Isolation), idle, string(s.Source), fmt.Sprint(s.Revision), command,
		})
	}
	return t
}
