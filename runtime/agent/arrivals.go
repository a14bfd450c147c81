package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// Beside an instance's data directory, while it is fetched from another node. No id has
// a dot.
const (
	incomingSuffix = ".incoming" // what has come so far
	outdatedSuffix = ".outdated" // what was here before
)

// arrival is how far an instance's move to this node has come, as far as its data go.
type arrival struct {
	Generation uint64 `json:"generation"` // of the placement that brought it here
	// Fetched: everything is on disk, below the incoming or the final name.
	Fetched bool `json:"fetched,omitempty"`
	// Lost: there was nothing to be had; what was here before has been moved aside.
	Lost bool `json:"lost,omitempty"`
	// Known: the cluster has taken note. From here on, the data here are newer than those
	// that were left behind, whatever an older state says.
	Known bool `json:"known,omitempty"`
}

// arrivals knows the instances whose data came from another node. It is a directory with
// a file for each, until it leaves again, so that a ten that is killed at any moment
// neither loses data nor takes a part, or what was here before, for the whole.
type arrivals struct {
	dir  string
	data *os.Root

	mu   sync.Mutex
	all  map[api.Ref]arrival
	busy map[api.Ref]chan struct{} // closed by whoever works on the instance's directory
}

func openArrivals(runDir string, data *os.Root) (*arrivals, error) {
	a := &arrivals{
		dir: filepath.Join(runDir, "arrivals"), data: data,
		all: make(map[api.Ref]arrival), busy: make(map[api.Ref]chan struct{}),
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open notes of fetched data: %w", err)
	}
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, fmt.Errorf("list notes of fetched data: %w", err)
	}
	for _, entry := range entries {
		ref, err := api.ParseRef(entry.Name())
		if err != nil {
			continue // none of ours, or one that was not finished
		}
		b, err := os.ReadFile(filepath.Join(a.dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read note of fetched data: %w", err)
		}
		var at arrival
		if json.Unmarshal(b, &at) != nil {
			at = arrival{} // as if it had just begun
		}
		a.all[ref] = at
	}
	return a, nil
}

// acquire returns when nobody else works on the instance's directory.
func (a *arrivals) acquire(ctx context.Context, ref api.Ref) (release func(), err error) {
	for {
		a.mu.Lock()
		other, ok := a.busy[ref]
		if !ok {
			mine := make(chan struct{})
			a.busy[ref] = mine
			a.mu.Unlock()
			return func() {
				a.mu.Lock()
				defer a.mu.Unlock()
				delete(a.busy, ref)
				close(mine)
			}, nil
		}
		a.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (a *arrivals) of(ref api.Ref) (arrival, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.all[ref]
	return at, ok
}

func (a *arrivals) marked(ref api.Ref) bool {
	_, ok := a.of(ref)
	return ok
}

// has reports whether the data of that generation, or of a later one, are here.
func (a *arrivals) has(ref api.Ref, generation uint64) bool {
	at, _ := a.of(ref)
	return at.Fetched && at.Generation >= generation
}

// isKnown is has, and the cluster has been told.
func (a *arrivals) isKnown(ref api.Ref, generation uint64) bool {
	at, _ := a.of(ref)
	return at.Known && at.Generation >= generation
}

// known says that the cluster knows that the data are here.
func (a *arrivals) known(ref api.Ref) error {
	at, ok := a.of(ref)
	if !ok || !at.Fetched || at.Known {
		return nil
	}
	at.Known = true
	return a.set(ref, at)
}

// set puts a note on disk, where it stays through a power cut.
func (a *arrivals) set(ref api.Ref, at arrival) error {
	b, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("encode note of fetched data: %w", err)
	}
	name := filepath.Join(a.dir, ref.String())
	if err := errors.Join(writeSynced(name+".new", b), os.Rename(name+".new", name), syncDir(os.Open, a.dir)); err != nil {
		return fmt.Errorf("note fetched data: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[ref] = at
	return nil
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(open func(string) (*os.File, error), name string) error {
	d, err := open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// begin returns the name, relative to the data directory, of an empty directory for what
// comes in.
func (a *arrivals) begin(ref api.Ref, generation uint64) (string, error) {
	incoming := dataPath(ref) + incomingSuffix
	if err := a.set(ref, arrival{Generation: generation}); err != nil {
		return "", err
	}
	if err := errors.Join(a.data.RemoveAll(incoming), a.data.MkdirAll(incoming, 0o700)); err != nil {
		return "", fmt.Errorf("prepare directory for fetched data: %w", err)
	}
	return incoming, nil
}

// finish puts what has come in in its place. When it was interrupted, another finish goes
// on where it was.
func (a *arrivals) finish(ref api.Ref, generation uint64) error {
	incoming := dataPath(ref) + incomingSuffix
	dir, err := a.data.Open(incoming)
	if err != nil {
		return fmt.Errorf("open fetched data: %w", err)
	}
	if err := errors.Join(syncTree(dir), dir.Close()); err != nil {
		return fmt.Errorf("sync fetched data: %w", err)
	}
	if err := a.set(ref, arrival{Generation: generation, Fetched: true}); err != nil {
		return err
	}
	return a.swap(ref)
}

func (a *arrivals) swap(ref api.Ref) error {
	here := dataPath(ref)
	if _, err := a.data.Lstat(here + incomingSuffix); errors.Is(err, fs.ErrNotExist) {
		return nil // done before
	}
	if err := a.moveAside(ref); err != nil {
		return err
	}
	if err := a.data.Rename(here+incomingSuffix, here); err != nil {
		return fmt.Errorf("put fetched data in their place: %w", err)
	}
	return a.syncService(ref)
}

// moveAside moves away what was here before.
func (a *arrivals) moveAside(ref api.Ref) error {
	here := dataPath(ref)
	if _, err := a.data.Lstat(here); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := errors.Join(a.data.RemoveAll(here+outdatedSuffix), a.data.Rename(here, here+outdatedSuffix)); err != nil {
		return fmt.Errorf("move outdated data away: %w", err)
	}
	return a.syncService(ref)
}

func (a *arrivals) syncService(ref api.Ref) error {
	if err := syncDir(a.data.Open, ref.Service); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync data directory: %w", err)
	}
	return nil
}

// giveUp goes without the data. What was here before must not pass for them: it is moved
// aside, and kept there if those are lost, for whoever may want to look.
func (a *arrivals) giveUp(ref api.Ref, generation uint64, lost bool) error {
	if err := a.data.RemoveAll(dataPath(ref) + incomingSuffix); err != nil {
		return fmt.Errorf("remove half fetched data: %w", err)
	}
	if err := a.moveAside(ref); err != nil {
		return err
	}
	return a.set(ref, arrival{Generation: generation, Fetched: true, Lost: lost})
}

// clean removes what the fetched data have replaced.
func (a *arrivals) clean(ref api.Ref) error {
	if err := a.data.RemoveAll(dataPath(ref) + outdatedSuffix); err != nil {
		return fmt.Errorf("remove outdated data: %w", err)
	}
	return nil
}

// forget drops the note of an instance that has left, and whatever had come in.
func (a *arrivals) forget(ctx context.Context, ref api.Ref) error {
	if !a.marked(ref) {
		return nil
	}
	release, err := a.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	if err := a.data.RemoveAll(dataPath(ref) + incomingSuffix); err != nil {
		return fmt.Errorf("remove half fetched data: %w", err)
	}
	if err := os.Remove(filepath.Join(a.dir, ref.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove note of fetched data: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, ref)
	return nil
}

// recover goes on after an interruption: what had come in whole is put in its place, and
// what had not is thrown away.
func (a *arrivals) recover(report func(what string, ref api.Ref, err error)) (all map[api.Ref]arrival) {
	a.mu.Lock()
	all = maps.Clone(a.all)
	a.mu.Unlock()
	for ref, at := range all {
		switch {
		case at.Fetched && !at.Known:
			report("fetched data not put in their place", ref, a.swap(ref))
		case !at.Fetched:
			report("half fetched data not removed", ref, a.data.RemoveAll(dataPath(ref)+incomingSuffix))
		}
		if at.Fetched && !at.Lost {
			report("outdated data not removed", ref, a.clean(ref))
		}
	}
	return all
}
