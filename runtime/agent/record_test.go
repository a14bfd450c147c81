package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

func sampleRecord(id string) *record {
	return &record{
		Ref: api.Ref{Service: "web", ID: id}, BootID: "b", Start: "s", Driver: api.IsolationProcess,
		Handle: &driver.Handle{Driver: api.IsolationProcess, PID: 7, StartTime: 9, BootID: "b", Start: "s"},
		Port:   30001, Socket: "/s", Endpoint: &api.Endpoint{Network: "tcp", Address: "127.0.0.1:30001"},
		ServiceRevision: 4, SpecSum: "sum", StopTimeout: api.Seconds(3), Restarts: 2, Recent: []time.Time{t0},
		Ephemeral: true, ToSleep: true,
	}
}

func reopen(t *testing.T, d *records, dir string) (*records, []*record, error) {
	t.Helper()
	if d != nil {
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	var damaged []error
	all, err := d.load(func(slot int64, err error) { damaged = append(damaged, fmt.Errorf("slot %d: %w", slot, err)) })
	return d, all, errors.Join(err, errors.Join(damaged...))
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	d, all, err := reopen(t, nil, dir)
	if err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	one, two, three := sampleRecord("one"), sampleRecord("two"), sampleRecord("three")
	if err := errors.Join(d.save(one), d.save(two), d.save(three), d.remove(one)); err != nil {
		t.Fatal(err)
	}
	two.Port = 1
	two.Recent = nil // shorter than what is there
	if err := d.save(two); err != nil {
		t.Fatal(err)
	}
	d, all, err = reopen(t, d, dir)
	if err != nil || len(all) != 2 || !reflect.DeepEqual(all[0], two) || !reflect.DeepEqual(all[1], three) {
		t.Fatalf("got %v, %v", all, err)
	}
	four := sampleRecord("four")
	if err := d.save(four); err != nil || four.slot != 1 {
		t.Errorf("in slot %d, want the free one: %v", four.slot, err)
	}
	if err := errors.Join(d.remove(all[1]), d.remove(all[1])); err != nil {
		t.Fatal(err)
	}
	d, all, err = reopen(t, d, dir)
	if fi, statErr := os.Stat(filepath.Join(dir, recordsFile)); err != nil || statErr != nil || len(all) != 2 || fi.Size() != 2*slotSize {
		t.Errorf("got %v, %v, %v", all, fi, errors.Join(err, statErr))
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRecord is told of, and does not keep the others from being found.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	d, _, _ := reopen(t, nil, dir)
	one, two := sampleRecord("one"), sampleRecord("two")
	if err := errors.Join(d.save(one), d.save(two)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.f.WriteAt([]byte("x"), 100); err != nil {
		t.Fatal(err)
	}
	d, all, err := reopen(t, d, dir)
	if err == nil || !strings.Contains(err.Error(), "slot 1: wrong checksum") || len(all) != 1 || all[0].Ref.ID != "two" {
		t.Errorf("got %v, %v", all, err)
	}
	d, all, err = reopen(t, d, dir)
	if err != nil || len(all) != 1 {
		t.Errorf("told of twice: %v, %v", all, err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
}

func TestRecordLimits(t *testing.T) {
	d, _, _ := reopen(t, nil, t.TempDir())
	defer func() { _ = d.close() }()
	r := sampleRecord("one")
	r.Recent = make([]time.Time, 1000)
	if err := d.save(r); err != nil {
		t.Errorf("a long history does not fit: %v", err)
	}
	r.Socket = "/" + strings.Repeat("x", slotSize)
	if err := d.save(r); err == nil || !strings.Contains(err.Error(), "at most 4096 fit") {
		t.Errorf("error %v", err)
	}
}

// FuzzSlot: whatever is in the file, reading it does not panic, and what a checksum
// vouches for is a record.
func FuzzSlot(f *testing.F) {
	f.Add([]byte("\n"))
	f.Add([]byte("00000000 {}\n"))
	f.Add([]byte(checksum([]byte(`{"ref":"web:one"}`)) + `{"ref":"web:one"}` + "\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseSlot(b); err == nil && r != nil && r.Ref != (api.Ref{}) && r.Ref.Validate() != nil {
			t.Errorf("accepted %+v", r)
		}
	})
}

func TestFates(t *testing.T) {
	dir := t.TempDir()
	f, err := openFates(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref4, ref5 := api.Ref{Service: "web", ID: "four"}, api.Ref{Service: "web", ID: "five"}
	if err := errors.Join(
		f.mark(ref1, true),
		f.mark(ref2, true), f.mark(ref2, false),
		f.mark(ref3, false),
		f.mark(ref4, true), f.condemn(ref4), f.mark(ref4, false), f.mark(ref4, true),
		f.condemn(ref5), f.removed(ref5),
	); err != nil {
		t.Fatal(err)
	}
	want := map[api.Ref]fate{ref1: ephemeral, ref4: condemned}
	for range 2 {
		if got := f.marked(); !maps.Equal(got, want) {
			t.Errorf("marked %v, want %v", got, want)
		}
		if f, err = openFates(dir); err != nil {
			t.Fatal(err)
		}
	}
	// Killed between the two halves of a change: the harder fate counts.
	if err := os.WriteFile(filepath.Join(dir, "ephemeral", ref4.String()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = openFates(dir); err != nil || f.of(ref4) != condemned {
		t.Errorf("%v, %v", f.of(ref4), err)
	}
}
