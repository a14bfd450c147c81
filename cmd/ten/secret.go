package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) secretCommand() *cobra.Command {
	return alone(&cobra.Command{
		Use: "secret", Short: "Print or replace the cluster's secret",
		Long: `Prints the secret of the cluster that the server on this machine is of, for
'ten serve --secret-file' on a server that is to join it. Whoever knows it can join,
read and change everything: 'ten join-token' makes something weaker.`,
		Example: "  ten secret > secret && chmod 600 secret",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.localDirectory(cmd, a.hooks.Secret != nil)
			if err != nil {
				return err
			}
			text, err := a.hooks.Secret(dir)
			if err != nil {
				return localError(err)
			}
			return a.printSecret(text)
		},
	}, a.secretNewCommand(), a.secretRotateCommand(), a.secretStatusCommand())
}

func (a *app) printSecret(text string) error {
	if a.json {
		return a.printJSON(map[string]string{"secret": text})
	}
	return a.printf("%s\n", text)
}

// localDirectory returns the data directory for a command that works on it by itself,
// without the server's API.
func (a *app) localDirectory(cmd *cobra.Command, supported bool) (string, error) {
	if !supported {
		return "", fmt.Errorf("%s needs Linux", cmd.CommandPath())
	}
	if len(a.servers) > 0 {
		return "", refused(cmd, errors.New("this reads the data directory on this machine: name it with --data-dir, not --server"))
	}
	return a.dataDirectory()
}

// localError adds to an error about the data directory what to do about it.
func localError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &hintError{err: err, hint: "this is for root and the server's own user: use sudo"}
	case errors.Is(err, fs.ErrNotExist):
		return &hintError{err: err, hint: "name the server's data directory with --data-dir"}
	default:
		return err
	}
}

func (a *app) secretNewCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new", Short: "Print a new secret, for a cluster that is yet to be", Args: between(0, 0),
		Long: "Makes a secret for a cluster that is yet to be and prints it. 'ten serve' makes its own\n" +
			"where none is given: this is for servers that are set up together.",
		Example: "  ten secret new > secret   # then on each: ten serve --secret-file secret --join A,B,C --bootstrap-expect 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.hooks.NewSecret == nil {
				return fmt.Errorf("%s needs Linux", cmd.CommandPath())
			}
			text, err := a.hooks.NewSecret()
			if err != nil {
				return err
			}
			return a.printSecret(text)
		},
	}
}

func (a *app) secretRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Replace the cluster's secret, on all nodes", Args: between(0, 0),
		Long: `Begins to replace the cluster's secret by a new one. It goes on by itself, without an
interruption: all nodes learn the new one, then all use it, then all forget the old one.
'ten secret status' shows how far it is. A node that is down keeps it from going on.`,
		Example: "  ten secret rotate && ten secret status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s *api.SecretStatus
			err := a.call(cmd.Context(), "rotating the secret", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				s, err = c.RotateSecret(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(s)
			default:
				return a.printf("the secret is being replaced; 'ten secret status' shows how far that is\n")
			}
		},
	}
}

func (a *app) secretStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell how far the replacement of the secret is", Args: between(0, 0),
		Example: "  ten secret status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s *api.SecretStatus
			err := a.call(cmd.Context(), "asking", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				s, err = c.Secret(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(s)
			}
			if err := a.printf("%s\n", secretText(s)); err != nil {
				return err
			}
			return secretTable(s).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
}

// secretText tells in a sentence how far a rotation is.
func secretText(s *api.SecretStatus) string {
	confirmed := 0
	for _, n := range s.Nodes {
		if n.Confirmed {
			confirmed++
		}
	}
	step := map[api.SecretPhase]string{
		api.SecretInstall: "step 1 of 3: all nodes learn the new secret",
		api.SecretUse:     "step 2 of 3: all nodes use the new secret",
		api.SecretRemove:  "step 3 of 3: all nodes forget the old secret",
	}[s.Phase]
	switch {
	case s.Complete && s.Phase == "":
		return "the secret has never been replaced"
	case s.Complete:
		return "the secret has been replaced, on every node"
	default:
		return fmt.Sprintf("%s; %d of %d have", step, confirmed, len(s.Nodes))
	}
}

func secretTable(s *api.SecretStatus) *table {
	t := &table{columns: []column{
		{title: "NODE", min: 10},
		{title: "CONFIRMED"},
		{title: "SECRETS", min: 10, drop: 1},
	}}
	for _, n := range s.Nodes {
		confirmed := "no"
		if n.Confirmed {
			confirmed = "yes"
		}
		t.rows = append(t.rows, []string{n.Name, confirmed, strings.Join(n.Secrets, ", ")})
	}
	return t
}
