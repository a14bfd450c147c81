package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) joinTokenCommand() *cobra.Command {
	var req api.JoinTokenRequest
	var long bool
	cmd := alone(&cobra.Command{
		Use: "join-token", Short: "Make a token with which a server joins the cluster",
		Long: `Makes a join token and prints it, alone on a line: where the cluster is, how to know
that it is the right one, and a ticket for which the new server is given the cluster's
secret. The ticket can be limited and revoked. With --long the token holds the secret
itself: nobody needs to be asked, but only replacing the secret revokes it.`,
		Example: "  ten join-token --expires 1h --uses 1 > token\n  ten serve --token-file token   # on the new server",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("uses") && req.MaxUses < 1 { // a count that came out as 0 is not any number
				return refused(cmd, &api.FieldError{Field: "--uses", Got: strconv.Itoa(req.MaxUses), Want: "1 or more"})
			}
			if long {
				return a.longToken(cmd, req)
			}
			var t *api.CreatedJoinToken
			err := a.call(cmd.Context(), "making a join token", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				t, err = c.CreateJoinToken(ctx, req)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(t)
			}
			return errors.Join(a.printf("%s\n", t.Text), a.joinHint(a.limits(&t.JoinToken)))
		},
	}, a.joinTokenListCommand(), a.joinTokenRemoveCommand())
	cmd.Flags().Var((*durationFlag)(&req.ExpiresIn), "expires", "how long it is valid (default: until it is revoked)")
	cmd.Flags().IntVar(&req.MaxUses, "uses", 0, "how `many` servers can join with it (default: any number)")
	cmd.Flags().StringVar(&req.Description, "description", "", "what it is for, shown by 'ten join-token ls'")
	cmd.Flags().BoolVar(&long, "long", false, "put the secret itself into it")
	return cmd
}

// joinHint tells people what to do with a token, where scripts don't read.
func (a *app) joinHint(limits string) error {
	a.note("%s; on the new server: ten serve --token-file FILE", limits)
	return nil
}

// limits tells in words what a token is good for.
func (a *app) limits(t *api.JoinToken) string {
	out := "valid until it is revoked"
	if !t.ExpiresAt.IsZero() {
		out = "valid until " + t.ExpiresAt.In(a.zone).Format("2006-01-02 15:04")
	}
	switch t.MaxUses {
	case 0:
		return out
	case 1:
		return out + ", for one server"
	default:
		return fmt.Sprintf("%s, for %d servers", out, t.MaxUses)
	}
}

// longToken makes a token that holds the cluster's secret, which the server on this
// machine has on disk and tells nobody.
func (a *app) longToken(cmd *cobra.Command, req api.JoinTokenRequest) error {
	if req != (api.JoinTokenRequest{}) {
		return refused(cmd, errors.New("a token with --long can't be limited: leave out --expires, --uses and --description"))
	}
	dir, err := a.localDirectory(cmd, a.hooks.LongToken != nil)
	if err != nil {
		return err
	}
	var addresses []string
	err = a.call(cmd.Context(), "asking for the addresses", answerTime, func(ctx context.Context, c *client.Client) error {
		nodes, err := c.Nodes(ctx)
		for _, n := range nodes {
			if n.PeerAddress != "" && n.Reachable() {
				addresses = append(addresses, n.PeerAddress)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	text, err := a.hooks.LongToken(dir, addresses)
	switch {
	case err != nil:
		return localError(err)
	case a.json:
		return a.printJSON(map[string]string{"text": text})
	}
	return errors.Join(a.printf("%s\n", text), a.joinHint("holds the cluster's secret"))
}

func (a *app) joinTokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the join tokens, without their secrets", Args: between(0, 0),
		Example: "  ten join-token ls",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var tokens []*api.JoinToken
			err := a.call(cmd.Context(), "listing join tokens", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				tokens, err = c.JoinTokens(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, tokens)
			case len(tokens) == 0:
				a.note("no join tokens")
				return nil
			}
			return a.joinTokenTable(tokens).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
}

func (a *app) joinTokenTable(tokens []*api.JoinToken) *table {
	t := &table{columns: []column{
		{title: "ID"},
		{title: "EXPIRES"},
		{title: "USES", right: true, drop: 1},
		{title: "DESCRIPTION", min: 10, drop: 2, optional: true},
	}}
	for _, tok := range tokens {
		expires, uses := "never", strconv.Itoa(tok.Uses)
		if at := tok.ExpiresAt; !at.IsZero() {
			expires = at.In(a.zone).Format("2006-01-02 15:04")
			if !at.After(a.now()) {
				expires = "expired"
			}
		}
		if tok.MaxUses > 0 {
			uses += " of " + strconv.Itoa(tok.MaxUses)
		}
		t.rows = append(t.rows, []string{tok.ID, expires, uses, tok.Description})
	}
	return t
}

func (a *app) joinTokenRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm ID", Aliases: []string{"revoke"}, Short: "Make a join token worthless, at once", Args: between(1, 1),
		Long:    "Makes a join token worthless. Servers that have joined with it stay.",
		Example: "  ten join-token rm 2eb1ca695d03",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			ids := named(cmd.Context(), a, (*client.Client).JoinTokens, func(t *api.JoinToken) string { return t.ID })
			return matching(ids, args, prefix), noFiles
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.call(cmd.Context(), "revoking", answerTime, func(ctx context.Context, c *client.Client) error {
				return c.DeleteJoinToken(ctx, args[0])
			})
			if err != nil || a.json {
				return lookUp(err, seeJoinTokens)
			}
			return a.printf("join token %s is revoked\n", cleanText(args[0]))
		},
	}
}
