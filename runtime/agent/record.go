package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// record is what the next ten must know about a process in order to go on with it. It is
// written before the program is started, again once its handle is known, and again when
// it accepts connections. It survives kill -9 of ten; it need not survive a power cut,
// which ends the program too: BootID voids it.
type record struct {
	Ref    api.Ref       `json:"ref"`
	BootID string        `json:"boot_id"`
	Start  string        `json:"start"` // names the start
	Driver api.Isolation `json:"driver"`
	// Handle is null until the driver has answered.
	Handle *driver.Handle `json:"handle,omitempty"`

	Port     int           `json:"port,omitempty"`
	Socket   string        `json:"socket,omitempty"`
	Endpoint *api.Endpoint `json:"endpoint,omitempty"` // null until it accepts connections

	ServiceRevision uint64       `json:"service_revision,omitempty"`
	SpecSum         string       `json:"spec_sum,omitempty"` // see specSum
	StopTimeout     api.Duration `json:"stop_timeout,omitempty"`
	Restarts        int          `json:"restarts,omitempty"`
	Recent          []time.Time  `json:"recent,omitempty"` // the newest few
	Ephemeral       bool         `json:"ephemeral,omitempty"`
	// ToSleep says that the process was being put to sleep.
	ToSleep bool `json:"to_sleep,omitempty"`
	// Fence says that the process must not outlive its node's lease.
	Fence bool `json:"fence,omitempty"`

	slot int64 // where it is in the file, from 1; 0 not yet
}

// service stands in for the service of an instance that has none any more.
func (r *record) service() *api.Service {
	svc := removedService(r.Ref, r.Ephemeral)
	if r.StopTimeout > 0 {
		svc.StopTimeout = r.StopTimeout
	}
	return svc
}

func removedService(ref api.Ref, ephemeral bool) *api.Service {
	persist := !ephemeral
	svc := &api.Service{Name: ref.Service, StoragePersist: &persist}
	svc.SetDefaults()
	return svc
}

const (
	slotSize      = 4096
	recordsFile   = "instances"
	recentlyMost  = 16 // restarts kept in a record
	checksumWidth = 9  // 8 hex digits and a blank
)

// records is a file of slots, one for each process. A save is one small write into the
// page cache, which kill -9 can't tear and which costs a microsecond; a new file, or a
// rename over an old one, costs ext4 a millisecond of every wake.
//
// A slot is the checksum of a line of JSON, the line, and whatever was there before. A
// free one begins with a newline.
type records struct {
	mu     sync.Mutex
	f      *os.File
	slots  int64 // in the file
	free   []int64
	fences map[int64]struct{} // slots of what must not outlive the lease
}

func openRecords(dir string) (*records, error) {
	f, err := os.OpenFile(filepath.Join(dir, recordsFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open run records: %w", err)
	}
	return &records{f: f, fences: make(map[int64]struct{})}, nil
}

// load returns every record, and makes every other slot free. It is called once, first.
// A damaged record, which a power cut may leave, is worth a line in the log: the process
// that it told of can't be found.
func (d *records) load(damaged func(slot int64, err error)) ([]*record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := io.ReadAll(d.f)
	if err != nil {
		return nil, fmt.Errorf("read run records: %w", err)
	}
	var (
		out  []*record
		free []int64
	)
	for slot := int64(1); len(b) > 0; slot++ {
		line := b[:min(slotSize, len(b))]
		b = b[len(line):]
		r, err := parseSlot(line)
		if err != nil {
			damaged(slot, err)
			if _, err := d.f.WriteAt([]byte{'\n'}, (slot-1)*slotSize); err != nil {
				return nil, fmt.Errorf("remove damaged run record: %w", err)
			}
		}
		if r == nil {
			free = append(free, slot)
			continue
		}
		r.slot, d.slots = slot, slot
		d.note(r)
		out = append(out, r)
	}
	for _, slot := range free {
		if slot < d.slots {
			d.free = append(d.free, slot)
		}
	}
	if err := d.f.Truncate(d.slots * slotSize); err != nil {
		return nil, fmt.Errorf("shrink run records: %w", err)
	}
	return out, nil
}

// parseSlot returns nil for a free slot.
func parseSlot(b []byte) (*record, error) {
	line, _, ok := bytes.Cut(b, []byte{'\n'})
	if len(line) == 0 || line[0] == 0 {
		return nil, nil // free, or a hole in the file
	}
	if !ok || len(line) <= checksumWidth || string(line[:checksumWidth]) != checksum(line[checksumWidth:]) {
		return nil, errors.New("wrong checksum")
	}
	r := new(record)
	if err := json.Unmarshal(line[checksumWidth:], r); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return r, nil
}

func checksum(b []byte) string { return fmt.Sprintf("%08x ", crc32.ChecksumIEEE(b)) }

// save writes the record, into a slot of its own the first time.
func (d *records) save(r *record) error {
	c := *r
	c.Recent = c.Recent[max(0, len(c.Recent)-recentlyMost):]
	b, err := json.Marshal(&c)
	if err != nil {
		return fmt.Errorf("encode run record: %w", err)
	}
	line := append(append([]byte(checksum(b)), b...), '\n')
	if len(line) > slotSize {
		return fmt.Errorf("write run record: it has %d bytes, at most %d fit", len(line), slotSize)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.slot == 0 {
		if n := len(d.free); n > 0 {
			r.slot, d.free = d.free[n-1], d.free[:n-1]
		} else {
			d.slots++
			r.slot = d.slots
		}
	}
	if _, err := d.f.WriteAt(line, (r.slot-1)*slotSize); err != nil {
		return fmt.Errorf("write run record: %w", err)
	}
	d.note(r)
	return nil
}

// note counts the record among those with a fence, or not. The caller holds d.mu.
func (d *records) note(r *record) {
	if r.Fence {
		d.fences[r.slot] = struct{}{}
	} else {
		delete(d.fences, r.slot)
	}
}

// remove frees the record's slot.
func (d *records) remove(r *record) error {
	if r.slot == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.f.WriteAt([]byte{'\n'}, (r.slot-1)*slotSize); err != nil {
		return fmt.Errorf("remove run record: %w", err)
	}
	d.free = append(d.free, r.slot)
	delete(d.fences, r.slot)
	r.slot = 0
	return nil
}

func (d *records) close() error {
	if err := d.f.Close(); err != nil {
		return fmt.Errorf("close run records: %w", err)
	}
	return nil
}

// bootID names this boot of the machine; empty where the kernel has no such name.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
