package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) logsCommand() *cobra.Command {
	var q api.LogQuery
	var level string
	var followOn bool
	cmd := &cobra.Command{
		Use: "logs [SERVICE[:ID]]", Short: "Show what instances printed",
		Long: `Shows the newest lines that instances printed, oldest first: of all, of a service or of
one instance. Control characters are shown escaped; --json gives the lines as they were,
one JSON object a line.`,
		Example:           "  ten logs notes:alice -f\n  ten logs notes --level stderr --search 'permission denied'",
		Args:              between(0, 1),
		ValidArgsFunction: a.completeLogs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch q.Level = api.Stream(level); q.Level {
			case "", api.Stdout, api.Stderr:
			default:
				return refused(cmd, &api.FieldError{Field: "--level", Got: level, Want: "stdout or stderr"})
			}
			if q.Limit < 1 || q.Limit > 10_000 {
				return refused(cmd, &api.FieldError{Field: "--limit", Got: cmd.Flag("limit").Value.String(), Want: "1 to 10000"})
			}
			if len(args) > 0 {
				q.Service, q.Instance, _ = strings.Cut(args[0], ":")
				if !api.ValidName(q.Service) || strings.Contains(args[0], ":") && !api.ValidName(q.Instance) {
					return refused(cmd, &api.FieldError{Field: "instance", Got: args[0], Want: "service or service:id"})
				}
			}
			return a.showLogs(cmd.Context(), q, followOn)
		},
	}
	cmd.Flags().BoolVarP(&followOn, "follow", "f", false, "go on with what comes, until Ctrl-C")
	cmd.Flags().StringVar(&level, "level", "", "only this `stream`: stdout or stderr")
	cmd.Flags().StringVar(&q.Search, "search", "", "only lines that hold all these `words`")
	cmd.Flags().IntVarP(&q.Limit, "limit", "n", 100, "at most that many `lines`, the newest")
	must(cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) showLogs(ctx context.Context, q api.LogQuery, follow bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var entries []api.LogEntry
	var newest uint64
	err = a.wait("reading logs", func() error {
		if follow {
			// What comes between the query and the follow must not be lost when the query
			// finds nothing: remember what was the newest of all before.
			last, err := c.Logs(ctx, api.LogQuery{Limit: 1})
			if err != nil {
				return err
			}
			for _, e := range last {
				newest = e.Seq
			}
		}
		entries, err = c.Logs(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		if err := a.missing(ctx, c, q); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := a.printEntry(e); err != nil {
			return err
		}
		newest = max(newest, e.Seq)
	}
	if !follow {
		if len(entries) == 0 {
			a.note("no lines")
		}
		return nil
	}
	q.After = newest
	for e, err := range c.FollowLogs(ctx, q) {
		if err != nil {
			return err
		}
		if err := a.printEntry(e); err != nil {
			return err
		}
	}
	return nil
}

// missing returns an error when a query names a service or an instance that there is
// not. The lines of one that was removed can still be read: only who finds none is told.
func (a *app) missing(ctx context.Context, c *client.Client, q api.LogQuery) error {
	var err error
	switch {
	case q.Service == "":
		return nil
	case q.Instance == "":
		_, err = c.Service(ctx, q.Service)
	default:
		_, err = c.Instance(ctx, api.Ref{Service: q.Service, ID: q.Instance})
	}
	if api.CodeOf(err) == api.CodeNotFound {
		return err
	}
	return nil // that a token may not ask is no news here
}

func (a *app) printEntry(e api.LogEntry) error {
	if a.json {
		return a.printJSONLine(e)
	}
	ref := api.Ref{Service: e.Service, ID: e.Instance}
	style := ""
	if e.Level == api.Stderr {
		style = styleRed
	}
	colors := a.colors()
	return a.printf("%s  %s  %s  %s\n",
		paint(e.Time.In(a.zone).Format("2006-01-02 15:04:05.000"), styleDim, colors),
		paint(cleanText(ref.String()), styleCyan, colors),
		paint(cleanText(string(e.Level)), style, colors),
		cleanLine(e.Message))
}

func (a *app) eventsCommand() *cobra.Command {
	var after uint64
	cmd := &cobra.Command{
		Use: "events", Short: "Show changes of the state as they come",
		Long:    "Shows every change of services, instances, nodes and tokens until Ctrl-C; with --json\nthe changed objects too, one event a line.",
		Example: "  ten events\n  ten events --json | jq .key",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			for e, err := range c.Events(cmd.Context(), after) {
				if err != nil {
					return err
				}
				if err := a.printEvent(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "begin after this `index` (default: now)")
	return cmd
}

func (a *app) printEvent(e api.Event) error {
	if a.json {
		return a.printJSONLine(e)
	}
	detail := ""
	if e.Instance != nil {
		detail = "  " + string(e.Instance.State())
	}
	return a.printf("%d  %s  %s%s\n", e.Index, cleanText(string(e.Type)), cleanText(e.Key), cleanText(detail))
}
