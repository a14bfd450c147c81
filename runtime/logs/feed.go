package logs

import (
	"sync"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
)

// recentBytes bounds the chunks kept in memory for followers.
const recentBytes = 2 << 20

// feed tells followers that there is something new, and spares those who keep up the
// way through the store.
type feed struct {
	mu      sync.Mutex
	next    uint64        // number of the next entry
	recent  []chunk.Chunk // the newest, without a gap; their bodies never change
	size    int
	changed chan struct{} // closed by the next publish
}

func newFeed(next uint64) *feed { return &feed{next: next, changed: make(chan struct{})} }

// publish adds chunks that have just been stored; the next entry will get number next.
func (f *feed) publish(chunks []chunk.Chunk, next uint64) {
	if len(chunks) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range chunks {
		c.Terms = nil
		f.size += len(c.Body)
		f.recent = append(f.recent, c)
	}
	drop := 0
	for f.size > recentBytes {
		f.size -= len(f.recent[drop].Body)
		drop++
	}
	f.recent = append([]chunk.Chunk(nil), f.recent[drop:]...)
	f.next = next
	close(f.changed)
	f.changed = make(chan struct{})
}

// last returns the number of the newest entry, 0 when there has never been one.
func (f *feed) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

// since returns the chunks that hold the entries above after up to last. ok is false when
// they are not all in memory. changed is closed when there are newer ones.
func (f *feed) since(after uint64) (chunks []chunk.Chunk, last uint64, changed <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last = f.next - 1
	if after >= last {
		return nil, last, f.changed, true
	}
	if len(f.recent) == 0 || f.recent[0].First > after+1 {
		return nil, last, f.changed, false
	}
	for i := len(f.recent) - 1; i >= 0; i-- {
		if f.recent[i].First <= after+1 {
			return append([]chunk.Chunk(nil), f.recent[i:]...), last, f.changed, true
		}
	}
	return nil, last, f.changed, false
}

// entries returns those of chunks that the filter selects.
func entries(f *chunk.Filter, chunks []chunk.Chunk) (list []api.LogEntry, err error) {
	for i := range chunks {
		if list, err = f.Entries(list, chunks[i].First, chunks[i].Body); err != nil {
			return nil, err
		}
	}
	return list, nil
}
