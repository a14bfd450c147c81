package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/partition"
	"golang.org/x/sys/unix"
)

// tornGap is how far numbering jumps over a damaged partition, whose last entry nobody
// knows any more.
const tornGap = 1 << 36

// leastFree is the disk space without which a partition can't be opened for appending.
const leastFree = 4 << 20

// part is one partition. Its file is named by its first entry and when it was begun.
type part struct {
	path  string
	first uint64
	begun time.Time

	// Under partitions.mu:
	db      *partition.DB // nil until somebody searches it
	users   int
	dropped bool // deleted; closed by the last user
}

// partitions are all the files of the store. Its writing methods are for one goroutine.
type partitions struct {
	dir     string
	boot    string
	maxSize int64
	maxAge  time.Duration
	log     *slog.Logger

	live *part  // appended to; nil until there is something to store
	next uint64 // number of the next entry

	mu   sync.Mutex
	list []*part // oldest first
}

// openPartitions finds the partitions in cfg.Dir and returns the spool offsets that the
// newest of them holds.
func openPartitions(cfg *Config) (*partitions, map[string]int64, error) {
	if cfg.bootID == "" {
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, nil, fmt.Errorf("read boot id: %w", err)
		}
		cfg.bootID = strings.TrimSpace(string(id))
	}
	p := &partitions{
		dir: cfg.Dir, boot: cfg.bootID, next: 1,
		maxSize: int64(cfg.MaxSize), maxAge: cfg.MaxAge, log: cfg.Logger,
	}
	entries, err := os.ReadDir(p.dir) // sorted; the name begins with a number of fixed width
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if pt, ok := parsePart(filepath.Join(p.dir, e.Name())); ok {
			p.list = append(p.list, pt)
		}
	}
	for free(p.dir) < leastFree && p.dropOldest() {
	}
	offsets, err := p.resume(context.Background())
	if err != nil {
		return nil, nil, errors.Join(err, p.close())
	}
	return p, offsets, nil
}

// free returns the bytes free on dir's file system; plenty when that can't be told.
func free(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return math.MaxInt64
	}
	return int64(st.Bavail) * st.Bsize
}

func partPath(dir string, first uint64, begun time.Time) string {
	return filepath.Join(dir, fmt.Sprintf("%016x-%d.db", first, begun.UnixMilli()))
}

func parsePart(path string) (*part, bool) {
	name, ok := strings.CutSuffix(filepath.Base(path), ".db")
	firstText, begunText, ok2 := strings.Cut(name, "-")
	first, err1 := strconv.ParseUint(firstText, 16, 64)
	begun, err2 := strconv.ParseInt(begunText, 10, 64)
	if !ok || !ok2 || len(firstText) != 16 || err1 != nil || err2 != nil {
		return nil, false
	}
	return &part{path: path, first: first, begun: time.UnixMilli(begun)}, true
}

// resume reads the newest partition's offsets and goes on appending to it, unless the
// machine has been started anew since: SQLite ran without fsync, so the file may be
// damaged where nobody has looked yet, and nothing is added to it.
func (p *partitions) resume(ctx context.Context) (map[string]int64, error) {
	if len(p.list) == 0 {
		return map[string]int64{}, nil
	}
	pt := p.list[len(p.list)-1]
	offsets, err := p.reopen(ctx, pt)
	if err == nil {
		return offsets, nil
	}
	if pt.db != nil {
		err = errors.Join(err, pt.db.Close())
		pt.db = nil
	}
	if !partition.IsDamaged(err) {
		return nil, err
	}
	p.log.Error("newest log partition is damaged, moved aside", "path", pt.path, "error", err)
	p.list = p.list[:len(p.list)-1]
	p.next = pt.first + tornGap
	return map[string]int64{}, partition.MoveAside(pt.path)
}

// reopen opens the newest partition. One that can't be appended to, for lack of room on
// the disk, is only read; what comes then goes to a new one, as soon as there is room.
func (p *partitions) reopen(ctx context.Context, pt *part) (offsets map[string]int64, err error) {
	pt.db, err = partition.Open(ctx, pt.path)
	full := partition.IsFull(err)
	if full {
		pt.db, err = partition.OpenTight(pt.path), nil
	}
	if err != nil {
		return nil, err
	}
	boot, err := pt.db.Boot(ctx)
	if err != nil {
		return nil, err
	}
	next, err := pt.db.Next(ctx)
	if err != nil {
		return nil, err
	}
	if offsets, err = pt.db.Offsets(ctx); err != nil {
		return nil, err
	}
	p.next = max(next, pt.first)
	switch {
	case full:
		err, pt.db = pt.db.Close(), nil
	case boot != p.boot:
		err = pt.db.Seal(ctx)
	default:
		p.live = pt
	}
	return offsets, err
}

// append stores chunks that begin at p.next, and what the spool streams have been read
// to. all are the offsets of all streams, for a new partition to begin with.
func (p *partitions) append(ctx context.Context, now time.Time, chunks []chunk.Chunk, offsets map[string]int64, gone []string, all map[string]int64) error {
	if p.live != nil && (partition.Size(p.live.path) >= p.maxSize/parts || now.Sub(p.live.begun) >= p.maxAge/parts) {
		p.seal(ctx)
	}
	if p.live == nil {
		if err := p.begin(ctx, now, all); err != nil {
			return err
		}
	}
	if err := p.live.db.Append(ctx, chunks, offsets, gone); err != nil {
		if partition.IsDamaged(err) {
			p.seal(ctx) // whatever of it can be read still can
		}
		return err
	}
	for i := range chunks {
		p.next += uint64(chunks[i].Lines)
	}
	return nil
}

func (p *partitions) begin(ctx context.Context, now time.Time, offsets map[string]int64) error {
	path := partPath(p.dir, p.next, now)
	db, err := partition.Create(ctx, path, p.boot, offsets)
	if err != nil {
		return err
	}
	p.live = &part{path: path, first: p.next, begun: now, db: db}
	p.mu.Lock()
	p.list = append(p.list, p.live)
	p.mu.Unlock()
	return nil
}

func (p *partitions) seal(ctx context.Context) {
	if err := p.live.db.Seal(ctx); err != nil {
		p.log.Error("seal log partition", "path", p.live.path, "error", err)
	}
	p.live = nil
}

// retain deletes what is too old or too much. The newest partition stays until another
// has begun, because it holds the spool offsets, which are in all.
func (p *partitions) retain(ctx context.Context, now time.Time, all map[string]int64) error {
	list := p.snapshot()
	torn, total := p.torn()
	for _, pt := range list {
		total += partition.Size(pt.path)
	}
	if total > p.maxSize {
		p.removeTorn(torn)
	}
	for i, pt := range list {
		// Nothing was added to it later than an eighth of maxAge after it began.
		expired := now.Sub(pt.begun) > p.maxAge+p.maxAge/parts
		last := i == len(list)-1
		if !expired && (total <= p.maxSize || last) {
			return nil
		}
		if last {
			if p.live != nil {
				p.seal(ctx)
			}
			if err := p.begin(ctx, now, all); err != nil {
				return err
			}
		}
		total -= partition.Size(pt.path)
		p.drop(pt)
	}
	return nil
}

// dropOldest makes room on a full disk. It reports whether there was anything to drop.
func (p *partitions) dropOldest() bool {
	torn, _ := p.torn()
	if len(torn) > 0 {
		p.removeTorn(torn)
		return true
	}
	list := p.snapshot()
	if len(list) < 2 { // the newest holds the spool offsets
		return false
	}
	p.log.Warn("disk is full, oldest log partition deleted", "path", list[0].path)
	p.drop(list[0])
	return true
}

func (p *partitions) drop(pt *part) {
	p.mu.Lock()
	for i := range p.list {
		if p.list[i] == pt {
			p.list = append(p.list[:i:i], p.list[i+1:]...)
			break
		}
	}
	pt.dropped = true
	p.closeUnused(pt)
	p.mu.Unlock()
	if err := partition.Remove(pt.path); err != nil {
		p.log.Error("delete log partition", "error", err)
	}
}

// torn returns the files of partitions that were moved aside.
func (p *partitions) torn() (paths []string, size int64) {
	paths, _ = filepath.Glob(filepath.Join(escapeGlob(p.dir), "*.torn"))
	for _, path := range paths {
		if fi, err := os.Stat(path); err == nil {
			size += fi.Size()
		}
	}
	return paths, size
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(path)
}

func (p *partitions) removeTorn(paths []string) {
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			p.log.Error("delete damaged log partition", "error", err)
		}
	}
}

func (p *partitions) snapshot() []*part {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*part(nil), p.list...)
}

// acquire returns all partitions, oldest first, ready to be searched until release.
func (p *partitions) acquire() []*part {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pt := range p.list {
		if pt.db == nil {
			pt.db = partition.OpenRead(pt.path)
		}
		pt.users++
	}
	return append([]*part(nil), p.list...)
}

func (p *partitions) release(list []*part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pt := range list {
		pt.users--
		if pt.dropped {
			p.closeUnused(pt)
		}
	}
}

func (p *partitions) isDropped(pt *part) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pt.dropped
}

func (p *partitions) closeUnused(pt *part) {
	if pt.users > 0 || pt.db == nil {
		return
	}
	if err := pt.db.Close(); err != nil {
		p.log.Warn("close log partition", "path", pt.path, "error", err)
	}
	pt.db = nil
}

// size returns the bytes of all partitions.
func (p *partitions) size() (total int64) {
	for _, pt := range p.snapshot() {
		total += partition.Size(pt.path)
	}
	return total
}

// close closes every partition; one that is being searched, when that ends.
func (p *partitions) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pt := range p.list {
		pt.dropped = true
		p.closeUnused(pt)
	}
	p.list = nil
	return nil
}
