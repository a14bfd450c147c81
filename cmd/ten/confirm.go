package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

var errDeclined = errors.New("not confirmed: nothing was done")

// confirm asks a question on the terminal before something that can't be undone. Without
// a terminal only --yes is an answer.
func (a *app) confirm(cmd *cobra.Command, question string, yes bool) error {
	if yes {
		return nil
	}
	if !a.screen.in || !a.screen.err {
		return refused(cmd, fmt.Errorf("this asks '%s', and there is no terminal to ask on: say --yes", cleanText(question)))
	}
	_, _ = fmt.Fprintf(a.stderr, "%s [y/N] ", cleanText(question)) // no answer will come if it can't be written
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	if err != nil {
		a.note("")
	}
	return errDeclined
}
