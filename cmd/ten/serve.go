package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	var n portFlags
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server",
		Long: `Runs the server with the services of tenement.toml, until SIGINT (Ctrl-C), which also
stops the instances, or SIGTERM, which lets them run on for the next 'ten serve' to
find. Flags win over TENEMENT_* variables, which win over the file. Without --config
it reads ./tenement.toml, ~/.config/tenement/tenement.toml or /etc/tenement/tenement.toml,
the first that there is.`,
		Example: "  ten serve\n  ten serve --config /etc/tenement/tenement.toml --port 80 --domain example.com",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.hooks.Serve == nil {
				return fmt.Errorf("ten serve needs Linux, this is %s; the other commands work here with --server", runtime.GOOS)
			}
			o.finish(a, cmd, n)
			var tell func(serving)
			if a.screen.out {
				tell = a.guide
			}
			return a.hooks.Serve(cmd.Context(), o, tell)
		},
	}
	o.flags(cmd, &n)
	return cmd
}

func (a *app) configCommand() *cobra.Command {
	var o serveOptions
	var n portFlags
	cmd := &cobra.Command{
		Use: "config", Short: "Print the configuration that 'ten serve' would run with",
		Long:    "Checks tenement.toml, the environment and the flags as 'ten serve' does, and prints\nwhat they come to: a tenement.toml with every default spelled out.",
		Example: "  ten config\n  ten config --config notes.toml --json | jq .services",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.hooks.Config == nil {
				return fmt.Errorf("ten config needs Linux, this is %s", runtime.GOOS)
			}
			o.finish(a, cmd, n)
			text, value, err := a.hooks.Config(o)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(value)
			default:
				return a.printf("%s", text)
			}
		},
	}
	o.flags(cmd, &n)
	return cmd
}

func (a *app) initCommand() *cobra.Command {
	var name, command, file string
	cmd := &cobra.Command{
		Use: "init", Short: "Write a commented tenement.toml",
		Long: "Writes a tenement.toml that has every key of use at its default, commented out, with what it\n" +
			"means. With --command its service is one that 'ten serve' runs at once.",
		Example: "  ten init\n  ten init --name notes --command 'python3 app.py'",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.hooks.Sample == nil {
				return fmt.Errorf("ten init needs Linux, this is %s", runtime.GOOS)
			}
			if name == "" {
				name = nameOfDirectory()
			}
			if !api.ValidName(name) {
				return refused(cmd, &api.FieldError{Field: "--name", Got: name, Want: "1 to 63 of a-z 0-9 _ -, the first a letter or digit"})
			}
			if err := writeNew(file, a.hooks.Sample(name, command)); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"file": file, "service": name})
			}
			next := "edit it, then 'ten serve'"
			if command == "" {
				next = "take the # from its service and give it a command, then 'ten serve'"
			}
			return a.printf("wrote %s with service %s\nnext: %s\n", file, name, next)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the service (default: after the directory)")
	cmd.Flags().StringVar(&command, "command", "", "`command` that it runs, in one string")
	cmd.Flags().StringVar(&file, "config", "tenement.toml", "`file` to write")
	return cmd
}

// writeNew writes a file that must not exist yet.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a configuration file holds no secrets and may be read by all
	if errors.Is(err, os.ErrExist) {
		return &hintError{
			err:  fmt.Errorf("write %s: it exists already", path),
			hint: "edit it, or write another one with --config FILE",
		}
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// nameOfDirectory makes a service name of the working directory's.
func nameOfDirectory() string {
	dir, err := os.Getwd()
	if err != nil {
		return "app"
	}
	return nameFrom(filepath.Base(dir))
}

func nameFrom(text string) string {
	out := []byte{}
	for i := range len(text) {
		c := text[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			c = '-'
		}
		if (c == '-' || c == '_') && (len(out) == 0 || out[len(out)-1] == c) {
			continue
		}
		if len(out) < api.MaxNameLen {
			out = append(out, c)
		}
	}
	for len(out) > 0 && (out[len(out)-1] == '-' || out[len(out)-1] == '_') {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return "app"
	}
	return string(out)
}

func (a *app) upgradeCommand() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Replace the running server by a new binary without a failed request",
		Long: `Makes the server on this machine hand its listeners to a new process and leave. No
instance is restarted and no request fails. The new process is started from the path
that the server was started from, where the new binary should lie by now, or from
--binary.`,
		Example: "  install -m 755 ten /usr/local/bin/ten && ten upgrade\n  ten upgrade --binary ./bin/ten",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var req api.UpgradeRequest
			if binary != "" {
				path, err := filepath.Abs(binary)
				if err != nil {
					return fmt.Errorf("find binary: %w", err)
				}
				if _, err := os.Stat(path); err != nil {
					return refused(cmd, fmt.Errorf("find binary: %w", err))
				}
				req.Path = path
			}
			var out *api.UpgradeResult
			err := a.call(cmd.Context(), "waiting until the new process serves", waitTime, func(ctx context.Context, c *client.Client) (err error) {
				out, err = c.Upgrade(ctx, req)
				return err
			})
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(out)
			case out.Version == "":
				return a.printf("process %d serves now\n", out.PID)
			default:
				return a.printf("process %d, version %s, serves now\n", out.PID, cleanText(out.Version))
			}
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "`path` of the new binary, on the server's machine")
	must(cmd.MarkFlagFilename("binary"))
	return cmd
}

// versions is what `ten version` prints.
type versions struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	System  string `json:"system"`
	Server  string `json:"server,omitempty"` // the version of the server, if one answers
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this binary and of the server", Args: between(0, 0),
		Example: "  ten version --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
			a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				n, err := c.Node(ctx)
				if err == nil {
					v.Server = n.Version
				}
				return err
			})
			if a.json {
				return a.printJSON(v)
			}
			if err := a.printf("ten %s (%s, %s)\n", v.Version, v.Go, v.System); err != nil || v.Server == "" {
				return err
			}
			return a.printf("server %s\n", cleanText(v.Server))
		},
	}
}
