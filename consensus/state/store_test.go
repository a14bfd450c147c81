package state

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func TestEvents(t *testing.T) {
	d := drive(t)
	events, changed, ok := d.Events(0)
	if !ok || len(events) != 0 {
		t.Fatalf("an empty store: got %v %v", events, ok)
	}
	d.must(putService(testService("app")))
	select {
	case <-changed:
	default:
		t.Fatal("the channel is not closed by the change")
	}
	d.must(putInstance(testInstance("app", "a")))
	d.fails(putInstance(testInstance("none", "a")), api.CodeNotFound)
	d.must(Command{DeleteService: &DeleteService{Name: "app"}})
	events, _, _ = d.Events(1)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%d %s %s %v", e.Index, e.Type, e.Key, e.Instance != nil))
	}
	want := "2 instance.updated app:a true, 3 instance.deleted app:a false, 3 service.deleted app false"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	if events, _, ok := d.Events(99); !ok || len(events) != 0 {
		t.Errorf("after an index to come: got %v %v", events, ok)
	}
}

func TestEventsForgetTheOldest(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 100_000 })))
	all, _, _ := d.Events(0)
	sync := &SyncFile{Services: []api.Service{testService("file")}}
	for i := range 3 * keepEvents {
		if i%3 == 0 {
			d.must(putInstance(testInstance("app", fmt.Sprint(i))))
		}
		sync.Instances = append(sync.Instances, ref("app", fmt.Sprint(i)))
	}
	last := d.View().Index()
	if _, _, ok := d.Events(last - 10); !ok {
		t.Error("ten events ago is forgotten")
	}
	d.must(Command{SyncFile: sync}) // one command with more events than are kept
	if _, _, ok := d.Events(last); ok {
		t.Error("some of the events after an index are forgotten, and it does not say so")
	}
	if events, _, ok := d.Events(d.View().Index()); !ok || len(events) != 0 {
		t.Errorf("up to date: got %d events, %v", len(events), ok)
	}
	if len(d.events.events) > 2*keepEvents {
		t.Errorf("%d events are kept", len(d.events.events))
	}
	if len(all) != 1 || all[0].Key != "app" {
		t.Error("events handed out were overwritten")
	}
}

func TestRestore(t *testing.T) {
	d := drive(t)
	goldenScript(d)
	s := New()
	applyOne(t, s, d.log[0])
	_, changed, _ := s.Events(0)
	before := s.View()
	if err := s.Restore(bytes.NewReader(snapshotOf(t, d.View()))); err != nil {
		t.Fatal(err)
	}
	<-changed
	<-before.Changed()
	if s.View().Hash() != d.View().Hash() || s.View().Index() != d.View().Index() {
		t.Error("it restored something else")
	}
	if _, _, ok := s.Events(1); ok {
		t.Error("events from before the snapshot: want not known")
	}
	if _, _, ok := s.Events(s.View().Index()); !ok {
		t.Error("events from the snapshot on: want known")
	}
}

func TestRestoreRefuses(t *testing.T) {
	d := drive(t)
	goldenScript(d)
	good := string(snapshotOf(t, d.View()))
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	for name, bad := range map[string]string{
		"nothing":          "",
		"no end":           strings.Join(lines[:len(lines)-1], ""),
		"a line missing":   strings.Join(append(append([]string{}, lines[:3]...), lines[4:]...), ""),
		"a line twice":     lines[0] + lines[1] + strings.Join(lines[1:], ""),
		"newer version":    strings.Replace(good, `"version":1`, `"version":2`, 1),
		"other format":     strings.Replace(good, snapshotFormat, "something", 1),
		"unknown field":    strings.Replace(good, `"name"`, `"colour":1,"name"`, 1),
		"more after end":   good + "{}",
		"empty line":       lines[0] + "{}\n" + strings.Join(lines[1:], ""),
		"instance orphan":  lines[0] + lines[4] + lines[len(lines)-1],
		"two on one line":  lines[0] + `{"node":{"id":"n"},"token":{"id":"t"}}` + "\n" + lines[len(lines)-1],
		"service nameless": lines[0] + `{"service":{"command":"x"}}` + "\n" + lines[len(lines)-1],
	} {
		s := New()
		before := s.View()
		if err := s.Restore(strings.NewReader(bad)); !errors.Is(err, ErrUnreadable) || s.View() != before {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestSnapshotReportsWriteErrors(t *testing.T) {
	d := drive(t)
	goldenScript(d)
	if _, err := d.Snapshot().WriteTo(brokenWriter{}); err == nil || err.Error() != "write snapshot: broken" {
		t.Errorf("got %v", err)
	}
}

// Readers see whole batches, and an index that only grows, while a writer works.
func TestReadersDuringWrites(t *testing.T) {
	d := drive(t)
	d.must(putService(testService("app", func(s *api.Service) { s.MaxInstances = 100_000 })))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := uint64(0); ; {
				v := d.View()
				if v.Index() < last {
					t.Errorf("index went from %d to %d", last, v.Index())
					return
				}
				last = v.Index()
				n := 0
				for range v.Instances("app") {
					n++
				}
				if n != v.InstanceCount("app") || n%10 != 0 {
					t.Errorf("saw %d instances, count %d", n, v.InstanceCount("app"))
					return
				}
				if _, _, ok := d.Events(v.Index()); !ok {
					t.Error("the current index is forgotten")
				}
				select {
				case <-done:
					return
				case <-v.Changed():
				}
			}
		})
	}
	for batch := range 100 {
		var commands [][]byte
		for i := range 10 {
			commands = append(commands, encode(t, putInstance(testInstance("app", fmt.Sprintf("%d-%d", batch, i)))))
		}
		if _, err := d.Apply(Entry(commands...)); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
}
