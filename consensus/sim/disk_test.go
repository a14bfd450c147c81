package sim

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// content is what a log file holds. Its maps are never changed, only replaced entry by
// entry, in transactions.
type content struct {
	logs        map[uint64]*raft.Log
	first, last uint64
	stable      map[string][]byte
	numbers     map[string]uint64
}

// change is one transaction, as bolt makes them: after a crash all of it is there, or
// nothing.
type change func(*content)

// disk is a machine's. It survives the processes on it.
type disk struct {
	mu       sync.Mutex
	rng      *rand.Rand
	cache    content       // as a process sees it
	synced   content       // what a power cut leaves
	writing  change        // under way: a crash leaves it or not
	busy     chan struct{} // takes one: a file has one transaction at a time
	unsynced []change      // acknowledged by a disk that lies

	slow     time.Duration // more than usual
	full     bool          // but for what the reserve gives: room for some writes
	room     int
	failNext bool // the next sync fails
	lies     bool // acknowledges syncs that it makes a while later
}

func newContent() content {
	return content{logs: map[uint64]*raft.Log{}, stable: map[string][]byte{}, numbers: map[string]uint64{}}
}

func (c content) clone() content {
	c.logs, c.stable, c.numbers = maps.Clone(c.logs), maps.Clone(c.stable), maps.Clone(c.numbers)
	return c
}

func newDisk(rng *rand.Rand) *disk {
	return &disk{rng: rng, cache: newContent(), synced: newContent(), busy: make(chan struct{}, 1)}
}

// set changes how the disk is.
func (d *disk) set(f func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *disk) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

// crash ends what was being written: it is there or it is not. A power cut
// also takes what was acknowledged without a sync.
func (d *disk) crash(power bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if power && len(d.unsynced) > 0 {
		d.unsynced = nil
		d.cache = d.synced.clone()
	}
	if d.writing != nil && d.rng.IntN(2) == 0 {
		d.apply(d.writing)
	}
	d.writing = nil
}

func (d *disk) apply(c change) {
	c(&d.cache)
	if d.lies {
		d.unsynced = append(d.unsynced, c)
		return
	}
	d.settle()
	c(&d.synced)
}

// settle syncs what a disk that lies still owes.
func (d *disk) settle() {
	for _, c := range d.unsynced {
		c(&d.synced)
	}
	d.unsynced = nil
}

var errDead = errors.New("the process is dead")

// write makes one transaction durable, for process p.
func (d *disk) write(p *process, c change) error {
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	case <-p.gone:
		return errDead
	}
	if !p.awake() {
		return errDead
	}
	d.mu.Lock()
	if d.full && (p.holdsReserve() || d.room <= 0) {
		d.mu.Unlock()
		return syscall.ENOSPC
	}
	if d.full {
		d.room--
	}
	if p.isDead() {
		d.mu.Unlock()
		return errDead
	}
	d.writing = c
	takes := time.Millisecond + time.Duration(d.rng.Int64N(int64(5*time.Millisecond))) + d.slow
	fails, lies := d.failNext, d.lies
	d.failNext = false
	d.mu.Unlock()
	if !p.sleep(takes) || !p.awake() {
		return errDead
	}
	if lies {
		p.host.w.wg.Go(func() { d.syncLate(p.host.w.net) })
	}
	return d.finish(p, fails)
}

func (d *disk) finish(p *process, fails bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.isDead() {
		return errDead // and whether it is on disk has been decided
	}
	c := d.writing
	d.writing = nil
	if fails {
		if d.rng.IntN(2) == 0 {
			d.apply(c)
		}
		return syscall.EIO
	}
	d.apply(c)
	return nil
}

// lieFor is how long a disk that lies keeps what it was told to sync.
const lieFor = 5 * time.Second

func (d *disk) syncLate(n *network) {
	if !n.sleep(lieFor) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unsynced) > 0 {
		d.unsynced[0](&d.synced)
		d.unsynced = d.unsynced[1:]
	}
}

// file is a process's access to the disk.
type file struct {
	d *disk
	p *process
}

var errNotFound = errors.New("not found")

func (f *file) Close() error { return nil }

func (f *file) read(r func(*content) error) error {
	if f.p.isDead() {
		time.Sleep(time.Millisecond) // Raft reads again at once until it has ended
		return errDead
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return r(&f.d.cache)
}

func (f *file) FirstIndex() (i uint64, err error) {
	return i, f.read(func(c *content) error { i = c.first; return nil })
}

func (f *file) LastIndex() (i uint64, err error) {
	return i, f.read(func(c *content) error { i = c.last; return nil })
}

func (f *file) GetLog(index uint64, l *raft.Log) error {
	return f.read(func(c *content) error {
		have, ok := c.logs[index]
		if !ok {
			return raft.ErrLogNotFound
		}
		*l = *have
		return nil
	})
}

func (f *file) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

func (f *file) StoreLogs(logs []*raft.Log) error {
	copies := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		copies[i] = &c
	}
	return f.d.write(f.p, func(c *content) {
		for _, l := range copies {
			c.logs[l.Index] = l
			if c.first == 0 || l.Index < c.first {
				c.first = l.Index
			}
			c.last = max(c.last, l.Index)
		}
	})
}

func (f *file) DeleteRange(first, last uint64) error {
	return f.d.write(f.p, func(c *content) {
		for i := first; i <= last; i++ {
			delete(c.logs, i)
		}
		switch {
		case len(c.logs) == 0:
			c.first, c.last = 0, 0
		case first <= c.first:
			c.first = max(c.first, last+1)
		default:
			c.last = min(c.last, first-1)
		}
	})
}

func (f *file) Set(key, value []byte) error {
	return f.d.write(f.p, func(c *content) { c.stable[string(key)] = value })
}

func (f *file) Get(key []byte) (v []byte, err error) {
	return v, f.read(func(c *content) error {
		if v = c.stable[string(key)]; v == nil {
			return errNotFound
		}
		return nil
	})
}

func (f *file) SetUint64(key []byte, value uint64) error {
	return f.d.write(f.p, func(c *content) { c.numbers[string(key)] = value })
}

func (f *file) GetUint64(key []byte) (v uint64, err error) {
	return v, f.read(func(c *content) error {
		var ok bool
		if v, ok = c.numbers[string(key)]; !ok {
			return errNotFound
		}
		return nil
	})
}

var _ raft.LogStore = (*file)(nil)

// holdsReserve reports whether the node has its reserve of disk space.
func (p *process) holdsReserve() bool {
	_, err := os.Stat(filepath.Join(p.dir, "raft", "reserve"))
	return err == nil
}
