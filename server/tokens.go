package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
)

// importTokens stores the tokens that `ten token-gen` made while no server ran, one
// file each, and removes the files. A file that holds no valid token is left, with a
// warning, so that nobody loses a credential silently.
func importTokens(ctx context.Context, node *consensus.Node, dir string, log *slog.Logger) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("import tokens: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		var t api.Token
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &t)
		}
		if err == nil {
			_, err = node.PutToken(ctx, &t, nil)
		}
		if api.CodeOf(err) == api.CodeUnavailable || api.CodeOf(err) == api.CodeDiskFull {
			return fmt.Errorf("import token %s: %w", f.Name(), err)
		} else if err != nil {
			log.Warn("this file holds no token that can be imported", "file", path, "error", err)
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("import token %s: %w", f.Name(), err)
		}
	}
	return nil
}
