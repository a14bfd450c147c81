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

// On a full disk the oldest lines make room for new ones, without a program being
// stopped for good or a new line being lost.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	cfg := fast(Config{Dir: dir})
	cfg.MaxSize = 16 * api.MiB // more than there is
	s := openStore(t, cfg)
	stdout, _ := open(t, s, alice)
	const lines = 150_000
	for i := range lines {
		write(t, stdout, fmt.Sprintf("line %d of more than fits %x\n", i+1, i*2654435761))
	}
	awaitWord(t, s, fmt.Sprint(lines))
	n, want := 0, ""
	each(t, s, func(e api.LogEntry) {
		if want = fmt.Sprintf("line %d ", e.Seq); len(e.Message) < len(want) || e.Message[:len(want)] != want {
			t.Fatalf("entry %d is %q", e.Seq, e.Message)
		}
		n++
	})
	if n == 0 || n >= lines {
		t.Errorf("%d entries kept", n)
	}

	// Somebody else fills the disk while there is nothing to store, and ten restarts.
	stop(t, s)
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ballast.Close() }()
	for {
		if _, err := ballast.Write(make([]byte, 4096)); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, cfg)
	if err := s.Attach(alice); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		write(t, stdout, strings.Repeat("x", 1000)+"\n")
	}
	write(t, stdout, "there it is\n")
	// Older partitions make room, if there are any; the newest stays, and then lines
	// wait until somebody does.
	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	awaitWord(t, s, "there")
}

// awaitWord is await for a disk on which a search may fail for lack of room.
func awaitWord(t *testing.T, s *Store, word string) {
	t.Helper()
	var list []api.LogEntry
	var err error
	for begun := time.Now(); len(list) == 0; time.Sleep(5 * time.Millisecond) {
		if list, err = s.Query(t.Context(), api.LogQuery{Search: word}); time.Since(begun) > 30*time.Second {
			t.Fatalf("no line with %q: %v", word, err)
		}
	}
}
