package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// disk refuses writes while there is little space, before Raft runs into a full disk,
// and keeps a reserve file. The reserve is given up when next to nothing is left, for
// what Raft writes without being asked: its term, its vote, a snapshot.
type disk struct {
	dir               string
	lowWater, reserve api.Size
	free              func(dir string) (api.Size, error)
	log               *slog.Logger
	full              atomic.Bool
	measured          atomic.Bool // to be enough, and nothing was written since
	tending           sync.Mutex
}

const reserveFile = "reserve"

func (d *disk) reservePath() string { return filepath.Join(d.dir, reserveFile) }

func (d *disk) holdsReserve() bool {
	_, err := os.Stat(d.reservePath())
	return err == nil
}

// space returns the bytes that are free beyond the reserve. It may be negative.
func (d *disk) space() (api.Size, error) {
	free, err := d.free(d.dir)
	if err != nil {
		return 0, fmt.Errorf("measure free space: %w", err)
	}
	if d.reserve > 0 && !d.holdsReserve() {
		free -= d.reserve // to be filled up again before writes resume
	}
	return free, nil
}

// writable returns nil, or why writes are refused. It asks the kernel, by two system
// calls, once for those that will share a write to the disk; and each time while there
// is not enough, so that writes resume with the first after space was freed.
func (d *disk) writable() error {
	if d.lowWater == 0 || d.measured.Load() {
		return nil
	}
	space, err := d.space()
	if err != nil {
		return err
	}
	full := space < d.lowWater
	if d.full.Swap(full) != full {
		d.log.Warn("disk space has crossed the low-water mark", "dir", d.dir, "writable", !full, "low_water", d.lowWater.String())
	}
	if !full {
		d.measured.Store(true)
		return nil
	}
	return &api.Error{
		Code: api.CodeDiskFull,
		Message: fmt.Sprintf("write refused: the disk of %s is short of %s of the free space that ten needs; "+
			"writes resume by themselves once it is freed, reads and running instances go on", d.dir, short(d.lowWater-space)),
		RetryAfter: api.Seconds(5),
	}
}

// written makes the next write measure again.
func (d *disk) written() { d.measured.Store(false) }

// short rounds up to whole KiB, which reads better than an odd number of bytes.
func short(n api.Size) api.Size { return (n + api.KiB - 1) / api.KiB * api.KiB }

// release gives the reserve up if next to nothing is left.
func (d *disk) release() error {
	if d.reserve == 0 || !d.holdsReserve() {
		return nil
	}
	free, err := d.free(d.dir)
	if err == nil && free < d.reserve/4 {
		d.giveUp()
	}
	return err
}

// giveUp frees the reserve, and reports whether there was one.
func (d *disk) giveUp() bool {
	if err := os.Remove(d.reservePath()); err != nil {
		return false
	}
	d.log.Warn("the disk is full: gave up the reserve", "dir", d.dir, "bytes", int64(d.reserve))
	return true
}

// tend gives up the reserve or takes it back, as space allows.
func (d *disk) tend() error {
	d.written() // others write, too
	d.tending.Lock()
	defer d.tending.Unlock()
	if err := d.release(); err != nil {
		return err
	}
	if d.reserve == 0 || d.holdsReserve() {
		return nil
	}
	space, err := d.space()
	if err != nil || space < d.lowWater {
		return err
	}
	return d.take()
}

func (d *disk) take() (err error) {
	temp := d.reservePath() + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the node's own directory
	if err != nil {
		return fmt.Errorf("take reserve: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("take reserve: %w", err)
			if rm := os.Remove(temp); !errors.Is(rm, fs.ErrNotExist) {
				err = errors.Join(err, rm)
			}
		}
	}()
	if err := errors.Join(allocate(f, int64(d.reserve)), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, d.reservePath())
}

// fill allocates by writing zeros.
func fill(f *os.File, size int64) error {
	zeros := make([]byte, min(size, int64(api.MiB)))
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}
