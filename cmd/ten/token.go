package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// pendingDir, in the data directory, holds the tokens that were made while no server ran:
// one file a token, the token as JSON with the SHA-256 and without the secret. The next
// `ten serve` takes them over and removes the files.
const pendingDir = ".ten/pending-tokens"

func (a *app) tokenGenCommand() *cobra.Command {
	var req api.TokenRequest
	cmd := &cobra.Command{
		Use: "token-gen", Short: "Make a token for the API",
		Long: `Makes a token and prints it, once, alone on a line indented by two spaces. An admin
token may do everything; it is also saved as api_token in the data directory, where the
other commands find it. With --tenant the token may read only the instances of that id,
their health and logs. Works while the server on this machine runs, and before it first
does. With --server the token is made there, and saved nowhere.`,
		Example: "  ten token-gen\n  ten token-gen --tenant alice --description 'alice, support' --expires 720h",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Tenant != "" && !api.ValidName(req.Tenant) {
				return refused(cmd, &api.FieldError{Field: "--tenant", Got: req.Tenant, Want: "an instance's id"})
			}
			t, pending, err := a.makeToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			path, saveErr := a.saveToken(t)
			err = errors.Join(a.printToken(t, path), saveErr) // the secret is told whatever became of the file
			if pending != "" {
				a.note("No server runs on %s: the token holds once one is started there.", cleanText(pending))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&req.Tenant, "tenant", "", "make a token for the instances of this `id` only")
	cmd.Flags().StringVar(&req.Description, "description", "", "what it is for, shown by 'ten token list'")
	cmd.Flags().Var((*durationFlag)(&req.ExpiresIn), "expires", "how long it is valid (default: for ever)")
	return cmd
}

// makeToken asks the server to make a token, or makes it here for the server to find. It
// returns the data directory in which it then waits for one, else "".
func (a *app) makeToken(ctx context.Context, req api.TokenRequest) (t *api.CreatedToken, pending string, err error) {
	if len(a.serverNames()) > 0 {
		err = a.call(ctx, "making a token", answerTime, func(ctx context.Context, c *client.Client) (err error) {
			t, err = c.CreateToken(ctx, req)
			return err
		})
		return t, "", err
	}
	path, ok := a.socket()
	if !ok {
		return a.pendingToken(req)
	}
	c, err := a.clientOf([]string{socketURL(path)}, "")
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	t, err = c.CreateToken(ctx, req)
	if un, ok := errors.AsType[*client.UnreachableError](err); ok && isRefused(un) {
		return a.pendingToken(req) // the socket of a server that is gone
	}
	return t, "", err
}

// pendingToken makes a token and leaves it where the next `ten serve` takes it over.
func (a *app) pendingToken(req api.TokenRequest) (made *api.CreatedToken, dir string, err error) {
	secret, id, hash, err := api.NewSecret(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	now := a.now().UTC()
	t := api.Token{
		ID: id, Role: req.Role, Tenant: req.Tenant, Description: req.Description,
		SHA256: hash[:], CreatedAt: now,
	}
	if req.ExpiresIn > 0 {
		t.ExpiresAt = now.Add(req.ExpiresIn.Std())
	}
	t.SetDefaults()
	if err := t.Validate(); err != nil {
		return nil, "", err
	}
	b, err := json.Marshal(&t)
	if err != nil {
		return nil, "", fmt.Errorf("encode token: %w", err)
	}
	if dir, err = a.dataDirectory(); err != nil {
		return nil, "", err
	}
	pending := filepath.Join(dir, filepath.FromSlash(pendingDir))
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // instances of other users reach their data through it
		return nil, "", fmt.Errorf("make data directory: %w", err)
	}
	if err := os.MkdirAll(pending, 0o700); err != nil {
		return nil, "", fmt.Errorf("make data directory: %w", err)
	}
	if err := replaceFile(filepath.Join(pending, id+".json"), filepath.Dir(pending), b); err != nil {
		return nil, "", fmt.Errorf("save token: %w", err)
	}
	return &api.CreatedToken{Token: *t.Redacted(), Secret: secret}, dir, nil
}

// saveToken keeps an admin token of this machine's server where the client commands look
// for it. It returns the path, "" when there is nothing to save.
func (a *app) saveToken(t *api.CreatedToken) (string, error) {
	if t.Role != api.RoleAdmin || len(a.serverNames()) > 0 {
		return "", nil
	}
	dir, err := a.dataDirectory()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, tokenName)
	if err := replaceFile(path, dir, []byte(t.Secret+"\n")); err != nil {
		return "", fmt.Errorf("save token: %w", err)
	}
	return path, nil
}

func (a *app) printToken(t *api.CreatedToken, path string) error {
	if a.json {
		return a.printJSON(t)
	}
	what := "Admin token"
	if t.Role == api.RoleTenant {
		what = "Token for the instances of " + t.Tenant
	}
	if !t.ExpiresAt.IsZero() {
		what += ", valid until " + t.ExpiresAt.In(a.zone).Format("2006-01-02 15:04")
	}
	if err := a.printf("%s. It is shown this once:\n\n  %s\n", what, t.Secret); err != nil || path == "" {
		return err
	}
	return a.printf("\nSaved to %s for the ten commands on this machine.\n", cleanText(path))
}

// replaceFile writes a file that only its owner may read, whole or not at all. Until it is
// whole it is in tmp, a directory of the same file system.
func replaceFile(path, tmp string, b []byte) (err error) {
	f, err := os.CreateTemp(tmp, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func ignoreGone(err error) error {
	if notThere(err) {
		return nil
	}
	return err
}

func (a *app) tokenCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: between(0, 0),
		Example: "  ten token list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var tokens []*api.Token
			err := a.call(cmd.Context(), "listing tokens", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				tokens, err = c.Tokens(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return printList(a, tokens)
			}
			return a.tokenTable(tokens).write(a.stdout, a.tableWidth(), a.colors())
		},
	}
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Make a token worthless, at once", Args: between(1, 1),
		Example: "  ten token revoke 2eb1ca695d03",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			ids := named(cmd.Context(), a, (*client.Client).Tokens, func(t *api.Token) string { return t.ID })
			return matching(ids, args, prefix), noFiles
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.call(cmd.Context(), "revoking", answerTime, func(ctx context.Context, c *client.Client) error {
				return c.DeleteToken(ctx, args[0])
			})
			if err != nil || a.json {
				return err
			}
			return a.printf("token %s is revoked\n", cleanText(args[0]))
		},
	}
	return group(&cobra.Command{Use: "token", Short: "List and revoke tokens"}, list, revoke)
}

func (a *app) tokenTable(tokens []*api.Token) *table {
	t := &table{columns: []column{
		{title: "ID"},
		{title: "ROLE"},
		{title: "TENANT", min: 8, optional: true},
		{title: "CREATED", drop: 2},
		{title: "EXPIRES", drop: 1, optional: true},
		{title: "DESCRIPTION", min: 10, drop: 3, optional: true},
	}}
	day := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.In(a.zone).Format("2006-01-02")
	}
	for _, tok := range tokens {
		t.rows = append(t.rows, []string{
			tok.ID, string(tok.Role), tok.Tenant, day(tok.CreatedAt), day(tok.ExpiresAt), tok.Description,
		})
	}
	return t
}
