package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
)

func (a *app) doctorCommand() *cobra.Command {
	port := 8080
	cmd := &cobra.Command{
		Use: "doctor", Short: "Tell what this machine can do for 'ten serve'",
		Long: `Tells what this machine has of all that 'ten serve' can use, for the user who asks: run
it as the user that will serve. What is missing comes with what to do about it. Exits
with 1 only if something is missing that 'ten serve' can't do without.`,
		Example: "  ten doctor\n  ten doctor --port 80 --data-dir /srv/ten",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []api.Capability
			_ = a.wait("looking at this machine", func() error { // fails in what it finds only
				list = a.examine(cmd.Context(), port)
				return nil
			})
			var err error
			if a.json {
				err = printList(a, list)
			} else {
				err = a.printCapabilities(list)
			}
			for _, c := range list {
				if !c.OK && c.Required && err == nil {
					err = errUnwell
				}
			}
			return err
		},
	}
	cmd.Flags().IntVar(&port, "port", port, "the HTTP port that is meant to be used")
	return cmd
}

// examine finds out everything that doctor tells.
func (a *app) examine(ctx context.Context, port int) []api.Capability {
	list := a.examineMachine(ctx, port)
	if a.hooks.Capabilities != nil {
		list = append(list, a.hooks.Capabilities(ctx)...)
	}
	return list
}

func (a *app) printCapabilities(list []api.Capability) error {
	t := &table{columns: []column{
		{title: "", color: markStyle}, {title: "WHAT", min: 12}, {title: "FOUND", min: 12},
	}}
	bad := 0
	for _, c := range list {
		mark := "ok"
		switch {
		case !c.OK && c.Required:
			mark = "needed"
			bad++
		case !c.OK:
			mark = "no"
		}
		t.rows = append(t.rows, []string{mark, c.Name, c.Detail})
	}
	if err := t.write(a.stdout, a.tableWidth(), a.colors()); err != nil {
		return err
	}
	if err := a.printFixes(list); err != nil {
		return err
	}
	if bad > 0 {
		return a.printf("\n'ten serve' would not work here.\n")
	}
	return a.printf("\n'ten serve' works here.\n")
}

// printFixes tells what to do about what is missing, the same thing once.
func (a *app) printFixes(list []api.Capability) error {
	names := map[string][]string{}
	var fixes []string
	for _, c := range list {
		if c.OK || c.Fix == "" {
			continue
		}
		if names[c.Fix] == nil {
			fixes = append(fixes, c.Fix)
		}
		names[c.Fix] = append(names[c.Fix], c.Name)
	}
	for i, fix := range fixes {
		head := ""
		if i == 0 {
			head = "\nTo have the rest:\n"
		}
		text := cleanText(strings.Join(names[fix], ", ") + ": " + fix)
		if err := a.printf("%s%s\n", head, wrap(text, a.tableWidth(), "  ", "      ")); err != nil {
			return err
		}
	}
	return nil
}

func markStyle(mark string) string {
	return map[string]string{"ok": styleGreen, "no": styleYellow, "needed": styleRed}[mark]
}

// found is a capability that is there; lacking one that is not.
func found(name, detail string, args ...any) api.Capability {
	return api.Capability{Name: name, OK: true, Detail: fmt.Sprintf(detail, args...)}
}

func lacking(name, fix, detail string, args ...any) api.Capability {
	return api.Capability{Name: name, Detail: fmt.Sprintf(detail, args...), Fix: fix}
}

// needed marks a capability as one that ten serve can't do without.
func needed(c api.Capability) api.Capability {
	c.Required = true
	return c
}
