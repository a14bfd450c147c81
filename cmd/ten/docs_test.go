package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestDocs holds README.md and docs/ to the command line: every command and flag of
// `ten serve` is told about, and every exit code.
func TestDocs(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	readme, configuration, operations := read("README.md"), read("docs/configuration.md"), read("docs/operations.md")
	root := newRoot(newWorld(t).app(&bytes.Buffer{}, &bytes.Buffer{}))
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && !strings.Contains(readme, "`ten "+cmd.Name()) && !strings.Contains(readme, "`"+cmd.Name()+"`") {
			t.Errorf("README.md does not name ten %s", cmd.Name())
		}
	}
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range []string{serve.LocalFlags().FlagUsages(), root.PersistentFlags().FlagUsages()} {
		for _, m := range flagNames.FindAllStringSubmatch(usage, -1) {
			if m[1] != "--help" && !strings.Contains(configuration, "`"+m[1]+"`") {
				t.Errorf("docs/configuration.md does not name %s", m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^ +(\d+)  `).FindAllStringSubmatch(exitCodesHelp, -1) {
		if !strings.Contains(operations, "| "+m[1]+" | ") {
			t.Errorf("docs/operations.md does not list exit code %s", m[1])
		}
	}
}

// TestEveryCommandHasAnExample, but for those that only have subcommands and cobra's own.
func TestEveryCommandHasAnExample(t *testing.T) {
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() && cmd.IsAvailableCommand() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRoot(newWorld(t).app(&bytes.Buffer{}, &bytes.Buffer{})))
}
