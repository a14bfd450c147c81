package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"golang.org/x/sys/unix"
)

// smallDisk returns a directory on a file system of 12 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fillDisk takes all the space that is left in dir and returns what gives it back.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// narrator prints numbered lines that are all different.
type narrator struct {
	t *testing.T
	w *os.File
	n int
}

func (n *narrator) say(lines int) {
	n.t.Helper()
	for range lines {
		n.n++
		write(n.t, n.w, fmt.Sprintf("line %d of more than fits %x\n", n.n, n.n*2654435761))
	}
}

// check checks that every entry of the store is the line of its number and returns how
// many there are, and which is the last.
func (n *narrator) check(s *Store) (count, last int) {
	n.t.Helper()
	each(n.t, s, func(e api.LogEntry) {
		if want := fmt.Sprintf("line %d ", e.Seq); !strings.HasPrefix(e.Message, want) {
			n.t.Fatalf("entry %d is %q", e.Seq, e.Message)
		}
		count, last = count+1, int(e.Seq)
	})
	return count, last
}

// On a full disk the oldest lines make room for new ones, without a program being
// stopped for good or a new line being lost.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t)
	cfg := fast(Config{Dir: dir})
	cfg.MaxSize = 16 * api.MiB // more than there is, in partitions of 2 MiB
	s := openStore(t, cfg)
	stdout, _ := open(t, s, alice)
	n := &narrator{t: t, w: stdout}
	n.say(150_000)
	awaitWord(t, s, fmt.Sprint(n.n))
	if count, last := n.check(s); count == 0 || count >= n.n || last != n.n {
		t.Errorf("%d entries kept, the last is %d", count, last)
	}
	if err := s.Close(alice); err != nil {
		t.Error(err)
	}
}

// With a single partition nothing makes room: programs wait until somebody else does, ten
// can be restarted meanwhile, and no line at all is lost.
func TestDiskFullOnePartition(t *testing.T) {
	const some = 1000 // lines: more than the disk's last block and less than a pipe's room
	for name, test := range map[string]func(t *testing.T, d *fullDisk){
		"while a program prints": func(t *testing.T, d *fullDisk) {
			free := fillDisk(t, d.dir)
			d.say(some)
			d.awaitStuck()
			free()
		},
		"when ten is replaced": func(t *testing.T, d *fullDisk) {
			free := fillDisk(t, d.dir)
			d.say(some)
			d.awaitStuck()
			d.reopen()
			free()
		},
		"while no ten runs": func(t *testing.T, d *fullDisk) {
			stop(t, d.s)
			free := fillDisk(t, d.dir)
			d.say(some)
			d.reopen()
			d.reopen()
			d.awaitStuck()
			free()
		},
		"when a program ends": func(t *testing.T, d *fullDisk) {
			free := fillDisk(t, d.dir)
			d.say(some)
			d.end()
			free()
		},
		"when a program ends and starts again": func(t *testing.T, d *fullDisk) {
			free := fillDisk(t, d.dir)
			d.say(some)
			d.end()
			d.w, d.stderr = open(t, d.s, alice)
			free()
			d.say(some)
		},
		"when program and ten end": func(t *testing.T, d *fullDisk) {
			free := fillDisk(t, d.dir)
			d.say(some)
			d.awaitStuck()
			stop(t, d.s)
			_ = d.w.Close()
			_ = d.stderr.Close()
			d.reopen()
			d.end()
			d.reopen()
			free()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &fullDisk{dir: smallDisk(t)}
			d.t = t
			d.s = openStore(t, fast(Config{Dir: d.dir}))
			d.w, d.stderr = open(t, d.s, alice)
			d.say(some)
			await(t, d.s, api.LogQuery{}, d.n)
			test(t, d)
			await(t, d.s, api.LogQuery{}, d.n)
			d.end()
			if count, last := d.check(d.s); count != d.n || last != d.n {
				t.Errorf("%d entries, the last is %d; want %d", count, last, d.n)
			}
			if got := files(t, d.s.cfg.IODir); len(got) > 0 {
				t.Errorf("pipes left: %v", got)
			}
		})
	}
}

// fullDisk is a store on a disk that becomes full, and a program that prints.
type fullDisk struct {
	narrator
	dir    string
	s      *Store
	stderr *os.File
}

// reopen is ten being replaced.
func (d *fullDisk) reopen() {
	d.t.Helper()
	stop(d.t, d.s)
	d.s = openStore(d.t, fast(Config{Dir: d.dir}))
	if err := d.s.Attach(alice); err != nil {
		d.t.Fatal(err)
	}
}

// end is the program ending.
func (d *fullDisk) end() {
	d.t.Helper()
	_ = d.w.Close()
	_ = d.stderr.Close()
	if err := d.s.Close(alice); err != nil {
		d.t.Fatal(err)
	}
}

// awaitStuck waits until what was printed gets no further: into the spool, for which
// there may be just enough room, or not even that.
func (d *fullDisk) awaitStuck() {
	d.t.Helper()
	for deadline, same, was := time.Now().Add(time.Minute), 0, 0; same < 20; time.Sleep(5 * time.Millisecond) {
		left, err := unix.IoctlGetInt(int(d.w.Fd()), unix.TIOCINQ)
		if err != nil {
			d.t.Fatal(err)
		}
		if left += int(d.s.backlog.Load()); left > 0 && left == was {
			same++
		} else {
			same = 0
		}
		if was = left; time.Now().After(deadline) {
			d.t.Fatal("the disk has room")
		}
	}
}

// awaitWord is await for a disk on which a search may fail for lack of room.
func awaitWord(t *testing.T, s *Store, word string) {
	t.Helper()
	var list []api.LogEntry
	var err error
	for begun := time.Now(); len(list) == 0; time.Sleep(5 * time.Millisecond) {
		if list, err = s.Query(t.Context(), api.LogQuery{Search: word}); time.Since(begun) > 2*time.Minute {
			t.Fatalf("no line with %q: %v", word, err)
		}
	}
}
