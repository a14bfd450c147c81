package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// ephemeral knows the instances whose data does not persist and may be there. It is a
// directory of empty files: when an instance is removed while it sleeps, there is no
// process and no service any more to tell that its data should go.
type ephemeral struct {
	dir string
	mu  sync.Mutex
	all map[api.Ref]bool
}

func openEphemeral(runDir string) (*ephemeral, error) {
	e := &ephemeral{dir: filepath.Join(runDir, "ephemeral"), all: make(map[api.Ref]bool)}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open marks of ephemeral data: %w", err)
	}
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		return nil, fmt.Errorf("list marks of ephemeral data: %w", err)
	}
	for _, entry := range entries {
		if ref, err := api.ParseRef(entry.Name()); err == nil {
			e.all[ref] = true
		}
	}
	return e, nil
}

func (e *ephemeral) has(ref api.Ref) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[ref]
}

func (e *ephemeral) refs() []api.Ref {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]api.Ref, 0, len(e.all))
	for ref := range e.all {
		out = append(out, ref)
	}
	return out
}

// mark says whether the instance's data is ephemeral.
func (e *ephemeral) mark(ref api.Ref, yes bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all[ref] == yes {
		return nil
	}
	name := filepath.Join(e.dir, ref.String())
	if !yes {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unmark ephemeral data: %w", err)
		}
		delete(e.all, ref)
		return nil
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return fmt.Errorf("mark ephemeral data: %w", err)
	}
	e.all[ref] = true
	return nil
}
