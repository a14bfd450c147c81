package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// usageTemplate is the help of a command below its text: cobra's, but for the global
// flags, which it names in one line instead of repeating them everywhere.
const usageTemplate = `Usage:
  {{if .Annotations.alone}}{{.CommandPath}} [COMMAND]{{else if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{if not .Groups}}

Commands:{{range $all}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{else}}{{range $group := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasHelpSubCommands}}

Further help:{{range .Commands}}{{if .IsAdditionalHelpTopicCommand}}
  ten help {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{if .HasParent}}

Global flags: --server --token --data-dir --json --no-color; see 'ten help'.{{else}}

'ten COMMAND --help' tells more about a command.{{end}}
`

// between makes a check of the number of arguments that names the command's usage;
// most < 0 is any number.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) >= least && (most < 0 || len(args) <= most):
			return nil
		case most == 0:
			return fmt.Errorf("'%s' takes no arguments, got %q", cmd.CommandPath(), args[0])
		case len(args) == 0:
			return fmt.Errorf("missing arguments, want '%s'", usage(cmd))
		default:
			return fmt.Errorf("got %q, want '%s'", strings.Join(args, " "), usage(cmd))
		}
	}
}

// usage is how a command is used, on one line.
func usage(cmd *cobra.Command) string { return strings.TrimSuffix(cmd.UseLine(), " [flags]") }

// group makes a command that only has subcommands; an unknown one is an error that names
// those that are near.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subs...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// alone is a group whose command does something by itself, too.
func alone(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	run := cmd.RunE
	group(cmd, subs...)
	cmd.RunE = run
	cmd.Annotations = map[string]string{"alone": "yes"}
	return cmd
}

func unknownCommand(parent *cobra.Command, name string) error {
	return fmt.Errorf("unknown command %q for %q%s", name, parent.CommandPath(), didYouMean(parent, name))
}

// didYouMean names the subcommands whose names are near.
func didYouMean(parent *cobra.Command, name string) string {
	parent.SuggestionsMinimumDistance = 2
	near := parent.SuggestionsFor(name)
	if len(near) == 0 {
		return ""
	}
	for i, n := range near {
		near[i] = strconv.Quote(n)
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// flagError puts what the flags' parser says into words for people.
func flagError(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[*strconv.NumError](err); ok {
		text, _, _ := strings.Cut(err.Error(), ": strconv.")
		return fmt.Errorf("%s: want a whole number", text)
	}
	if unknown, ok := errors.AsType[interface {
		error
		GetSpecifiedName() string
	}](err); ok && strings.HasPrefix(err.Error(), "unknown flag") {
		return fmt.Errorf("unknown flag --%s%s", unknown.GetSpecifiedName(), nearFlag(cmd, unknown.GetSpecifiedName()))
	}
	return err
}

var flagNames = regexp.MustCompile(`(?m)^\s+(?:-\w, )?(--[a-z-]+)`)

// nearFlag is didYouMean for the flags of a command.
func nearFlag(cmd *cobra.Command, name string) string {
	flags := &cobra.Command{}
	for _, m := range flagNames.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		flags.AddCommand(&cobra.Command{Use: m[1], Run: func(*cobra.Command, []string) {}})
	}
	return strings.ReplaceAll(didYouMean(flags, "--"+name), `"`, "")
}

// helpCommand is cobra's, but for a command that there is not, which is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Tell about a command or a topic",
		Example: "  ten help deploy\n  ten help exit-codes",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []string
			if at, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range at.Commands() {
					if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return matching(names, nil, prefix), noFiles
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(at, rest[0])
			}
			if err != nil {
				return &usageError{cmd: cmd.Root().CommandPath(), err: err}
			}
			at.InitDefaultHelpFlag() // so that it is listed
			return at.Help()
		},
	}
}

// refused is an error about an argument that only the command itself can check.
func refused(cmd *cobra.Command, err error) error {
	return &usageError{cmd: cmd.CommandPath(), err: err}
}
