package logs

import (
	"context"
	"maps"
	"time"

	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/partition"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/spool"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
)

const (
	// batchBytes is how much one transaction takes at most: some 50 ms of work, so that
	// a quiet instance's line is not kept waiting by a noisy one's backlog.
	batchBytes = 512 << 10
	// leastRead is a stream's least share of a batch; it must hold the longest line.
	leastRead = 2 * text.MaxLine
	// flushEvery is the least time between two transactions that do not follow each
	// other because of a backlog.
	flushEvery = 50 * time.Millisecond
	// retainEvery is how often retention is enforced while lines arrive; when none do,
	// age is looked at every retainIdle.
	retainEvery = time.Second
	retainIdle  = time.Minute
	// roomToIndex is the disk space that storing takes besides what it leaves.
	roomToIndex = 16 << 20
	// retryEvery is the pause after a failed transaction.
	retryEvery = time.Second
)

// batch is what one transaction stores.
type batch struct {
	buf     []byte
	builder chunk.Builder
	chunks  []chunk.Chunk
	next    uint64
	lines   int
	bytes   int64
	reads   []read
	full    bool // there was more
}

// read is what a batch took from one stream.
type read struct {
	st     *stream
	offset int64 // after it
	bytes  int64
	more   bool // the stream may hold more whole lines
}

// moved is told by the pump that a stream has grown.
func (s *Store) moved(sp *spool.Stream, n int) {
	if n == 0 {
		return
	}
	s.backlog.Add(int64(n))
	s.mu.Lock()
	st := s.streams[sp.Source]
	s.mu.Unlock()
	if st != nil {
		s.enqueue(st)
	}
}

func (s *Store) enqueue(st *stream) {
	s.mu.Lock()
	if st.queued {
		st.again = true
	} else {
		st.queued, st.since = true, s.cfg.Now()
		s.fresh = append(s.fresh, st)
	}
	s.mu.Unlock()
	s.rouse()
}

// index is the goroutine that takes lines from the spool to the store.
func (s *Store) index() {
	b := batch{buf: make([]byte, batchBytes)}
	idle := time.NewTicker(retainIdle)
	defer idle.Stop()
	s.retain(s.cfg.Now())
	for {
		select {
		case <-s.stop:
			for s.drain.Err() == nil && s.indexOnce(&b) == nil && len(b.reads) > 0 {
			}
			return
		case <-idle.C:
			s.retain(s.cfg.Now())
		case <-s.wake:
			if s.full.Swap(false) {
				s.parts.dropOldest()
			}
			pause := flushEvery
			if err := s.indexOnce(&b); err != nil {
				s.cfg.Logger.Error("log lines wait in the spool", "error", err)
				pause = retryEvery
				s.rouse()
			} else if b.full {
				pause = 0
				s.rouse()
			}
			if now := s.cfg.Now(); now.Sub(s.retained) >= retainEvery {
				s.retain(now)
			}
			s.pause(pause)
		}
	}
}

func (s *Store) retain(now time.Time) {
	s.retained = now
	s.endLate()
	_, all := s.spoolOffsets()
	if err := s.parts.retain(context.Background(), now, all); err != nil {
		s.cfg.Logger.Error("old log lines can't be deleted", "error", err)
	}
}

// diskFull is told by the pump; the indexer then makes room.
func (s *Store) diskFull() {
	s.full.Store(true)
	s.rouse()
}

// hasRoom reports whether the disk has room for the backlog: once more as large when it
// is stored, as it is in the spool as well until then, and for SQLite's own log.
func (s *Store) hasRoom() bool {
	return free(s.cfg.Dir) >= roomToIndex+2*s.backlog.Load()
}

// rouse makes the indexer go on.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) pause(d time.Duration) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}

// indexOnce stores one batch. After an error the streams are queued as before.
func (s *Store) indexOnce(b *batch) error {
	s.fill(b)
	offsets := map[string]int64{}
	for _, r := range b.reads {
		if r.bytes > 0 {
			offsets[r.st.name] = r.offset
		}
	}
	if len(offsets) > 0 {
		if err := s.store(b, offsets); err != nil {
			s.requeue(b.reads, true)
			return err
		}
	}
	for _, r := range b.reads {
		if r.bytes > 0 {
			r.st.Consume(r.offset)
		}
	}
	s.backlog.Add(-b.bytes)
	s.requeue(b.reads, false)
	s.metrics.stored(b.lines, b.bytes)
	s.feed.publish(b.chunks, s.parts.next)
	return nil
}

// store writes a batch; on a full disk it makes room and tries again.
func (s *Store) store(b *batch, offsets map[string]int64) error {
	gone, all := s.spoolOffsets()
	// Not to be cancelled: stopping waits for the transaction under way.
	ctx := context.Background()
	err := s.parts.append(ctx, s.cfg.Now(), b.chunks, offsets, gone, all)
	for partition.IsFull(err) && s.parts.dropOldest() {
		err = s.parts.append(ctx, s.cfg.Now(), b.chunks, offsets, gone, all)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.offsets, offsets)
	for _, name := range gone {
		if _, still := s.idle[name]; still {
			delete(s.idle, name)
			delete(s.offsets, name)
		}
	}
	return nil
}

// spoolOffsets returns the sources whose offset is of no use any more, and the others'
// offsets.
func (s *Store) spoolOffsets() (gone []string, all map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = maps.Clone(s.offsets)
	for name := range s.idle {
		gone = append(gone, name)
		delete(all, name)
	}
	return gone, all
}

// fill makes the next batch of what the queued streams hold.
func (s *Store) fill(b *batch) {
	b.chunks, b.reads, b.lines, b.bytes, b.full = nil, b.reads[:0], 0, 0, false
	b.next = s.parts.next
	for b.bytes < batchBytes {
		st, share := s.dequeue(len(b.reads) == 0)
		if st == nil {
			break
		}
		s.readLines(b, st, b.buf[:share])
	}
	if b.builder.Len() > 0 {
		b.finish()
	}
	s.mu.Lock()
	b.full = b.full || len(s.fresh)+len(s.stale) > 0
	s.mu.Unlock()
}

// dequeue takes the next stream, nil when there is none, and says how much of it to
// read. Streams that had been read to their end come before those with a backlog, one
// of which begins every batch. The stream stays marked as queued until requeue, so
// that no batch has it twice.
func (s *Store) dequeue(begin bool) (st *stream, share int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	share = max(leastRead, batchBytes/max(len(s.fresh)+len(s.stale), 1))
	queue := &s.fresh
	if len(s.stale) > 0 && (begin || len(s.fresh) == 0) {
		queue = &s.stale
	}
	if len(*queue) == 0 {
		return nil, 0
	}
	st = (*queue)[0]
	(*queue)[0] = nil
	*queue = (*queue)[1:]
	st.again = false
	return st, share
}

func (b *batch) finish() {
	c := b.builder.Finish(b.next)
	b.next += uint64(c.Lines)
	b.chunks = append(b.chunks, c)
}

// requeue ends the reading of a batch: streams that hold more, all of them when nothing
// was stored, are queued again.
func (s *Store) requeue(reads []read, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range reads {
		switch {
		case failed:
			s.fresh = append(s.fresh, r.st)
		case r.more:
			s.stale = append(s.stale, r.st)
		case r.st.again:
			r.st.since = s.cfg.Now()
			s.fresh = append(s.fresh, r.st)
		default:
			r.st.queued = false
			s.retire(r.st)
		}
	}
	if len(s.fresh)+len(s.stale) > 0 {
		s.rouse()
	}
}

// readLines adds the whole lines of a stream to the batch, as many as fit in buf.
func (s *Store) readLines(b *batch, st *stream, buf []byte) {
	r := read{st: st, offset: st.Offset()}
	n, err := st.Read(buf)
	if err != nil {
		s.cfg.Logger.Error("log output is unreadable", "source", st.name, "error", err)
	}
	now := s.cfg.Now()
	for rest := buf[:n]; ; {
		line, took, partial := text.Cut(rest)
		if took == 0 {
			break
		}
		b.builder.Add(st.Source, now, line, partial)
		if b.builder.Full() {
			b.finish()
		}
		b.lines++
		r.bytes += int64(took)
		rest = rest[took:]
	}
	r.offset += r.bytes
	r.more = n == len(buf)
	b.full = b.full || r.more
	b.bytes += r.bytes
	b.reads = append(b.reads, r)
}
