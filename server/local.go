package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/agent"
)

// local is this node's instances as the HTTP API wants them.
type local struct {
	*agent.Agent
	node    viewer
	dataDir string
}

// StorageUsage implements httpapi.Runtime by walking the instance's data directory,
// inside which it stays whatever links the program has made.
func (l local) StorageUsage(ctx context.Context, ref api.Ref) (api.Storage, error) {
	s := api.Storage{Path: filepath.Join(l.dataDir, ref.Service, ref.ID)}
	root, err := os.OpenRoot(l.dataDir)
	if err != nil {
		return s, fmt.Errorf("measure storage of %s: %w", ref, err)
	}
	defer root.Close() //nolint:errcheck // opened for reading
	err = fs.WalkDir(root.FS(), path.Join(ref.Service, ref.ID), func(_ string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone while we walked
		case err != nil:
			return err
		case d.Type().IsRegular():
			if fi, err := d.Info(); err == nil {
				s.Used += api.Size(fi.Size())
			}
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("measure storage of %s: %w", ref, err)
	}
	return s, nil
}
