// Package pool keeps files that are out of use until they are needed again.
//
// A wake makes pipes and spool files, and going to sleep deletes them. Some file systems
// make that dear: ext4 takes up to a millisecond to make a file where many have been
// deleted in the last minute, because it looks at each of those first. Renaming takes
// microseconds.
package pool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// most is how many files a pool keeps.
const most = 256

const prefix = "free."

// Pool keeps files of one kind. They stay in one directory, the free ones among the
// others; the names of free ones begin with "free.".
type Pool struct {
	dir string

	mu   sync.Mutex
	free []string
	made int
}

// New returns dir's pool with the free files that an earlier one left.
func New(dir string) (*Pool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read pool: %w", err)
	}
	p := &Pool{dir: dir}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			p.free = append(p.free, e.Name())
			p.made = max(p.made, numberOf(e.Name()))
		}
	}
	return p, nil
}

func numberOf(name string) (n int) {
	_, _ = fmt.Sscanf(name, prefix+"%d", &n)
	return n
}

// Take gives a free file the given name, and reports whether there was one. An existing
// file of that name is not replaced.
func (p *Pool) Take(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return false
	}
	last := len(p.free) - 1
	if p.rename(p.free[last], name) != nil {
		return false
	}
	p.free = p.free[:last]
	return true
}

// Give takes a file out of use. What is in it stays in it.
func (p *Pool) Give(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < most {
		p.made++
		free := fmt.Sprint(prefix, p.made)
		if p.rename(name, free) == nil {
			p.free = append(p.free, free)
			return nil
		}
	}
	if err := os.Remove(filepath.Join(p.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

func (p *Pool) rename(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, filepath.Join(p.dir, from), unix.AT_FDCWD, filepath.Join(p.dir, to), unix.RENAME_NOREPLACE)
}
