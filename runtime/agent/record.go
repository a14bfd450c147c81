package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// record is what the next ten must know about an instance in order to go on with it.
// It is written before the program is started, again once its handle is known, and
// again when it accepts connections. It survives kill -9 of ten; it need not survive a
// power cut, which ends the program too: BootID voids it.
type record struct {
	Ref    api.Ref `json:"ref"`
	BootID string  `json:"boot_id"`

	// Start names the start; empty when there is no process and the record only keeps
	// Ephemeral. Handle is null until the driver has answered.
	Start  string         `json:"start,omitempty"`
	Driver api.Isolation  `json:"driver,omitempty"`
	Handle *driver.Handle `json:"handle,omitempty"`

	Port     int           `json:"port,omitempty"`
	Socket   string        `json:"socket,omitempty"`
	Endpoint *api.Endpoint `json:"endpoint,omitempty"` // null until it accepts connections

	ServiceRevision uint64       `json:"service_revision,omitempty"`
	SpecSum         string       `json:"spec_sum,omitempty"` // see specSum
	StopTimeout     api.Duration `json:"stop_timeout,omitempty"`
	Restarts        int          `json:"restarts,omitempty"`
	Recent          []time.Time  `json:"recent,omitempty"`

	// Ephemeral data goes when the instance is stopped or removed; once it is removed,
	// nothing but this record still says so.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// ToSleep says that the process was being put to sleep.
	ToSleep bool `json:"to_sleep,omitempty"`
}

// service stands in for the service of an instance that has none any more.
func (r *record) service() *api.Service {
	persist := !r.Ephemeral
	svc := &api.Service{Name: r.Ref.Service, StopTimeout: r.StopTimeout, StoragePersist: &persist}
	svc.SetDefaults()
	return svc
}

// records keeps one file an instance.
type records struct{ dir string }

const recordSuffix = ".json"

func (d records) path(ref api.Ref) string {
	return filepath.Join(d.dir, ref.String()+recordSuffix)
}

// save replaces the record by way of a rename, so that it is never seen half written.
func (d records) save(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode run record: %w", err)
	}
	tmp := d.path(r.Ref) + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write run record: %w", err)
	}
	if err := os.Rename(tmp, d.path(r.Ref)); err != nil {
		return fmt.Errorf("write run record: %w", err)
	}
	return nil
}

// load returns nil when there is none.
func (d records) load(ref api.Ref) (*record, error) { return d.read(d.path(ref)) }

func (d records) read(path string) (*record, error) {
	b, err := os.ReadFile(path) //nolint:gosec // a path made of a checked name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read run record: %w", err)
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read run record %s: %w", path, err)
	}
	return r, nil
}

func (d records) remove(ref api.Ref) error {
	if err := os.Remove(d.path(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove run record: %w", err)
	}
	return nil
}

// all returns every readable record, and the errors of the others.
func (d records) all() ([]*record, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list run records: %w", err)
	}
	var (
		out  []*record
		errs []error
	)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue // a .tmp that a kill left behind; the next save takes it over
		}
		r, err := d.read(filepath.Join(d.dir, e.Name()))
		switch {
		case err != nil:
			errs = append(errs, err)
		case r != nil && r.Ref.String() == name:
			out = append(out, r)
		}
	}
	return out, errors.Join(errs...)
}

// bootID names this boot of the machine; empty where the kernel has no such name.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
