package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFlips: bytes of the log or of a snapshot of a stopped node change. It refuses to
// start, or is not hurt; never has it another state than the others. Wiped, it joins.
func TestFlips(t *testing.T) {
	f := startFleet(t, plain, 3)
	victim := f.nodes[2]
	f.grow(victim)
	refused, crashed, harmless, wiped := 0, 0, 0, 0
	for n := range *flips {
		f.until("a write", patience, func() error { return f.nodes[n%2].put("flip", n) })
		victim.die()
		good := f.copyAside(victim)
		what := f.damage(victim)
		victim.launch()
		err := victim.serves(20 * time.Second)
		if err == nil {
			harmless++
			f.until("the state of the others", patience, func() error { return f.caughtUp(victim) })
			f.equal()
			t.Logf("%d: %s: not hurt", n, what)
			continue // with what it has made of it
		}
		refused++
		select {
		case <-victim.done:
		default:
			t.Errorf("%d: %s: neither serves nor ends: %v", n, what, err)
			victim.kill()
		}
		said := "\n" + victim.tail(victim.printed())
		if !strings.Contains(said, "\nerror: ") && !strings.Contains(said, "\nten: fatal: ") {
			crashed++ // bbolt panics of a page that is none, in a goroutine of its own
		}
		t.Logf("%d: %s: refused: %s", n, what, reason(said))
		if refused%20 == 1 {
			wiped++
			f.joinAnew(victim)
		} else {
			f.putBack(victim, good)
		}
	}
	f.settle()
	t.Logf("%d flips: %d refused (%d of them by a crash), %d not hurt, 0 silent; %d times wiped and joined anew", *flips, refused, crashed, harmless, wiped)
}

// grow writes until there is something to lose: a log, and a snapshot, which all nodes have
// after one was restored.
func (f *fleet) grow(m *machine) {
	f.t.Helper()
	for n := range 300 {
		if n == 200 {
			f.restore()
		}
		if err := f.pick().put(fmt.Sprintf("k%d", n%50), n); err != nil {
			f.t.Fatal(err)
		}
	}
	f.until("a snapshot", patience, func() error {
		found, err := filepath.Glob(filepath.Join(m.dataDir, ".ten", "raft", "snapshots", "*", "state.bin"))
		if err == nil && len(found) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
}

// restore saves all state and restores it.
func (f *fleet) restore() {
	f.t.Helper()
	saved := filepath.Join(f.dir, "saved.snapshot")
	for _, args := range [][]string{{"save", saved}, {"restore", saved, "--yes"}} {
		if _, err := f.nodes[0].ten(append([]string{"cluster", "snapshot"}, args...)...); err != nil {
			f.t.Fatal(err)
		}
	}
	f.settle()
}

// reason returns the line that says why ten ended.
func reason(said string) string {
	for line := range strings.Lines(said) {
		for _, prefix := range []string{"error: ", "ten: fatal: ", "panic: ", "fatal error: ", "unexpected fault"} {
			if strings.HasPrefix(line, prefix) {
				return strings.TrimSpace(line)
			}
		}
	}
	return lastLine(said)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func (f *fleet) caughtUp(m *machine) error {
	a, err := m.cluster()
	b, err2 := f.nodes[0].cluster()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if a.Index != b.Index {
		return fmt.Errorf("%s is at %d of %d", m.name, a.Index, b.Index)
	}
	return nil
}

// copyAside keeps the data directory as it is.
func (f *fleet) copyAside(m *machine) string {
	f.t.Helper()
	good := m.dataDir + ".good"
	_ = os.RemoveAll(good)
	f.sh("cp -a " + m.dataDir + " " + good)
	return good
}

func (f *fleet) putBack(m *machine, good string) {
	f.t.Helper()
	if err := os.RemoveAll(m.dataDir); err != nil {
		f.t.Fatal(err)
	}
	f.sh("cp -a " + good + " " + m.dataDir)
	m.start()
	f.until("the state of the others", patience, func() error { return f.caughtUp(m) })
}

// joinAnew wipes the machine and lets it join as a new node, as docs/operations.md says.
func (f *fleet) joinAnew(m *machine) {
	f.t.Helper()
	c, err := f.nodes[0].cluster()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, o := range c.Members {
		if o.Name == m.name {
			f.nodes[0].must("DELETE", "/api/nodes/"+o.ID+"?force=true", nil, nil)
		}
	}
	if err := os.RemoveAll(m.dataDir); err != nil {
		f.t.Fatal(err)
	}
	m.start()
	f.settle()
}

// damage changes the log or a snapshot, and says how.
func (f *fleet) damage(m *machine) string {
	f.t.Helper()
	var files []string
	dir := filepath.Join(m.dataDir, ".ten", "raft")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "reserve" && d.Name() != "lock" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		f.t.Fatalf("files in %s: %v", dir, err)
	}
	path := files[f.rand.IntN(len(files))]
	file, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // a path of ours
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // a failed write shows as no damage
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		f.t.Fatalf("%s: %d bytes: %v", path, info.Size(), err)
	}
	at := f.rand.Int64N(info.Size())
	name, _ := filepath.Rel(dir, path)
	switch f.rand.IntN(4) {
	case 0:
		err = file.Truncate(at)
		name = fmt.Sprintf("%s cut to %d of %d bytes", name, at, info.Size())
	case 1:
		at -= at % 512
		_, err = file.WriteAt(make([]byte, min(512, info.Size()-at)), at)
		name = fmt.Sprintf("%s zeroed at %d", name, at)
	default:
		b := make([]byte, 1)
		_, err = file.ReadAt(b, at)
		b[0] ^= 1 << f.rand.IntN(8)
		if err == nil {
			_, err = file.WriteAt(b, at)
		}
		name = fmt.Sprintf("%s flipped at %d of %d", name, at, info.Size())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return name
}
