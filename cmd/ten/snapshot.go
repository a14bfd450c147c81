package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

func (a *app) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "save FILE", Short: "Save the cluster's whole state to a file", Args: between(1, 1),
		Long: `Saves everything that the cluster has been told to a file: services, instances, fleets,
tokens, nodes. What instances store on disk is not in it. - writes to standard output.
The file holds the environment of services: keep it as safe as a secret.`,
		Example: "  ten cluster snapshot save backup.snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			var size int64
			err := a.call(cmd.Context(), "saving a snapshot", waitTime, func(ctx context.Context, c *client.Client) (err error) {
				size, err = a.saveTo(args[0], func(w io.Writer) (int64, error) { return c.SaveSnapshot(ctx, w) })
				return err
			})
			switch {
			case err != nil:
				return err
			case args[0] == "-":
				return nil
			case a.json:
				return a.printJSON(map[string]any{"file": args[0], "bytes": size})
			default:
				return a.printf("wrote %s, %s\n", cleanText(args[0]), api.Size(size))
			}
		},
	}
}

// saveTo writes a file that only its owner may read, whole or not at all.
func (a *app) saveTo(path string, write func(io.Writer) (int64, error)) (n int64, err error) {
	if path == "-" {
		return write(a.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if pe, ok := errors.AsType[*fs.PathError](err); ok {  // of a name that nobody knows
		return 0, fmt.Errorf("save snapshot in %s: %w", filepath.Dir(path), pe.Err)
	}
	if err != nil {
		return 0, fmt.Errorf("save snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(f.Name())))
		}
	}()
	n, err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return n, fmt.Errorf("save snapshot: %w", err)
	}
	return n, syncDirectory(filepath.Dir(path))
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Replace the cluster's whole state by a saved one", Args: between(1, 1),
		Long: `Replaces everything that the cluster knows by what a snapshot holds: what was declared
or changed since is gone, and its instances are stopped. The members of the cluster stay
what they are.`,
		Example: "  ten cluster snapshot restore backup.snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return refused(cmd, fmt.Errorf("read snapshot: %w", err))
			}
			defer func() { _ = f.Close() }() // only read
			fi, err := f.Stat()
			if err != nil {
				return fmt.Errorf("read snapshot: %w", err)
			}
			if !fi.Mode().IsRegular() { // its size is what is sent
				return refused(cmd, fmt.Errorf("read snapshot: got %s, want a file, not a directory or a pipe", args[0]))
			}
			if err := a.confirm(cmd, "replace the whole state of the cluster by "+args[0]+"?", yes); err != nil {
				return err
			}
			err = a.call(cmd.Context(), "restoring "+args[0], waitTime, func(ctx context.Context, c *client.Client) error {
				return c.RestoreSnapshot(ctx, f, fi.Size(), force)
			})
			if err != nil || a.json {
				return err
			}
			return a.printf("the state is that of %s\n", cleanText(args[0]))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "although it is of another cluster")
	return cmd
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inspect FILE", Short: "Tell what a snapshot holds, and whether it is whole", Args: between(1, 1),
		Long:    "Reads a snapshot, all of it, and tells what is in it. Needs no server.",
		Example: "  ten cluster snapshot inspect backup.snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.hooks.InspectSnapshot == nil {
				return fmt.Errorf("%s needs Linux", cmd.CommandPath())
			}
			f, err := os.Open(args[0])
			if err != nil {
				return refused(cmd, fmt.Errorf("read snapshot: %w", err))
			}
			defer func() { _ = f.Close() }() // only read
			s, err := a.hooks.InspectSnapshot(f)
			switch {
			case err != nil:
				return fmt.Errorf("read snapshot %s: %w", args[0], err)
			case a.json:
				return a.printJSON(s)
			}
			return a.printSnapshot(s)
		},
	}
}

func (a *app) printSnapshot(s *snapshotInfo) error {
	at := ""
	if !s.CreatedAt.IsZero() {
		at = s.CreatedAt.In(a.zone).Format(time.DateTime)
	}
	for _, l := range [][2]string{
		{"cluster", s.ClusterID},
		{"saved", at},
		{"by", s.Node},
		{"index", strconv.FormatUint(s.Index, 10)},
		{"format", strconv.Itoa(s.Version)},
		{"services", strconv.Itoa(s.Services)},
		{"instances", strconv.Itoa(s.Instances)},
		{"fleets", strconv.Itoa(s.Fleets)},
		{"nodes", strconv.Itoa(s.Nodes)},
		{"tokens", strconv.Itoa(s.Tokens)},
	} {
		if l[1] == "" {
			continue
		}
		if err := a.printf("%-10s %s\n", l[0], cleanText(l[1])); err != nil {
			return err
		}
	}
	return nil
}
