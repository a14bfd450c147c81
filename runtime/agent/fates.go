package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// fate is what becomes of an instance's data.
type fate uint8

const (
	kept      fate = iota
	ephemeral      // removed when a user stops or removes the instance
	condemned      // to be removed before anything else happens to it
)

// condemnedSuffix makes the name of a condemned instance's mark; no id has a dot.
const condemnedSuffix = ".condemned"

// fates knows the instances whose data does not persist and may be there. It is a
// directory of empty files: when an instance is removed while it sleeps, there is no
// process and no service any more to tell that its data should go; and when ten is
// killed between a user's stop and the removal, the next ten finishes it.
type fates struct {
	dir string
	mu  sync.Mutex
	all map[api.Ref]fate // without those that are kept
}

func openFates(runDir string) (*fates, error) {
	f := &fates{dir: filepath.Join(runDir, "ephemeral"), all: make(map[api.Ref]fate)}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open marks of ephemeral data: %w", err)
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list marks of ephemeral data: %w", err)
	}
	for _, entry := range entries {
		name, doomed := strings.CutSuffix(entry.Name(), condemnedSuffix)
		ref, err := api.ParseRef(name)
		switch {
		case err != nil: // none of ours
		case doomed:
			f.all[ref] = condemned
		case f.all[ref] == kept:
			f.all[ref] = ephemeral
		}
	}
	return f, nil
}

func (f *fates) of(ref api.Ref) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[ref]
}

// marked returns the instances whose data is not kept.
func (f *fates) marked() map[api.Ref]fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[api.Ref]fate, len(f.all))
	for ref, fate := range f.all {
		out[ref] = fate
	}
	return out
}

// mark says whether the instance's data is ephemeral. What is condemned stays so.
func (f *fates) mark(ref api.Ref, ephemerally bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.all[ref] == condemned:
		return nil
	case ephemerally:
		return f.set(ref, ephemeral)
	default:
		return f.set(ref, kept)
	}
}

// condemn has the instance's data removed by whoever comes to it first: this ten, or the
// next one.
func (f *fates) condemn(ref api.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(ref, condemned)
}

// removed says that the instance has no data any more.
func (f *fates) removed(ref api.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(ref, kept)
}

// set puts the mark of the new fate in place before that of the former goes. f.mu is held.
func (f *fates) set(ref api.Ref, to fate) error {
	from := f.all[ref]
	if from == to {
		return nil
	}
	if to != kept {
		if err := os.WriteFile(f.file(ref, to), nil, 0o600); err != nil {
			return fmt.Errorf("mark ephemeral data: %w", err)
		}
		f.all[ref] = to
	}
	if from != kept {
		if err := os.Remove(f.file(ref, from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unmark ephemeral data: %w", err)
		}
	}
	if to == kept {
		delete(f.all, ref)
	}
	return nil
}

func (f *fates) file(ref api.Ref, fate fate) string {
	name := filepath.Join(f.dir, ref.String())
	if fate == condemned {
		name += condemnedSuffix
	}
	return name
}
