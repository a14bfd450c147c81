package logs

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/chunk"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/partition"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/text"
)

const (
	defaultLimit, maxLimit = 100, 10_000
	maxSearch              = 1 << 10
	// maxResult bounds the bytes of one answer, whatever the limit: tenants choose how
	// long their lines are.
	maxResult = 16 << 20
	// followBatch is how many entries a follower reads from the store at once.
	followBatch = 1000
)

func filterOf(q api.LogQuery) (*chunk.Filter, error) {
	var errs api.FieldErrors
	check := func(ok bool, field, got, want string) {
		if !ok {
			errs = append(errs, api.FieldError{Field: field, Got: got, Want: want})
		}
	}
	const name = "1 to 63 of a-z 0-9 _ -, the first a letter or digit"
	check(q.Service == "" || api.ValidName(q.Service), "service", q.Service, name)
	check(q.Instance == "" || api.ValidName(q.Instance), "id", q.Instance, name)
	check(q.Level == "" || q.Level == api.Stdout || q.Level == api.Stderr, "level", string(q.Level), `"stdout" or "stderr"`)
	check(len(q.Search) <= maxSearch, "search", q.Search[:min(len(q.Search), 64)]+"…", "at most 1024 bytes")
	check(q.Limit >= 0 && q.Limit <= maxLimit, "limit", strconv.Itoa(q.Limit), "0 (meaning 100) to 10000")
	if len(errs) > 0 {
		return nil, errs
	}
	return &chunk.Filter{Service: q.Service, ID: q.Instance, Level: q.Level, After: q.After, Words: text.ParseWords(q.Search)}, nil
}

// Query returns the newest q.Limit entries that q selects, oldest first; fewer when they
// exceed 16 MiB. The words of q.Search are matched as they stand, case aside, and whole:
// "err" does not find "error", "10.0.0.1" finds "from 10.0.0.1:80".
func (s *Store) Query(ctx context.Context, q api.LogQuery) ([]api.LogEntry, error) {
	f, err := filterOf(q)
	if err != nil {
		return nil, fmt.Errorf("query logs: %w", err)
	}
	if s.isStopped() {
		return nil, ErrStopped
	}
	defer s.metrics.queried(time.Now())
	limit := q.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	var list, some []api.LogEntry
	size := 0
	err = s.search(ctx, f, true, func(first uint64, body []byte) (bool, error) {
		if some, err = f.Entries(some[:0], first, body); err != nil {
			return false, err
		}
		for _, e := range slices.Backward(some) {
			if size += len(e.Message); size > maxResult {
				return false, nil
			}
			if list = append(list, e); len(list) == limit {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("query logs: %w", err)
	}
	slices.Reverse(list)
	return list, nil
}

// search calls yield for the chunks that may hold what f selects until it returns false.
// What is damaged is left out.
func (s *Store) search(ctx context.Context, f *chunk.Filter, newestFirst bool, yield func(first uint64, body []byte) (bool, error)) error {
	list := s.parts.acquire()
	defer s.parts.release(list)
	terms := f.Terms()
	next := s.feed.last() + 1
	order := slices.All[[]*part]
	if newestFirst {
		order = slices.Backward[[]*part]
	}
	for i, pt := range order(list) {
		end := next // number after the partition's last entry
		if i+1 < len(list) {
			end = list[i+1].first
		}
		if end <= f.After+1 {
			continue
		}
		more := true
		var yieldErr error
		err := pt.db.Search(ctx, terms, f.After, newestFirst, func(first uint64, body []byte) bool {
			more, yieldErr = yield(first, body)
			return more && yieldErr == nil
		})
		if err == nil {
			err = yieldErr
		}
		if err != nil && s.parts.isDropped(pt) {
			continue // retention was faster
		}
		if partition.IsDamaged(err) {
			s.cfg.Logger.Error("log partition is damaged, some lines are missing", "path", pt.path, "error", err)
			continue
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Follow yields the entries that q selects with a Seq greater than q.After, and goes on
// with new ones as they are printed, until ctx ends. Without q.After it begins with the
// newest q.Limit entries (none when that is 0, too), and no entry is missing between
// them and the new ones. A slow reader is served from the store and delays nobody; it
// misses entries only when retention overtakes it. The one error yielded ends it.
func (s *Store) Follow(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error] {
	return func(yield func(api.LogEntry, error) bool) {
		if err := s.follow(ctx, q, func(e api.LogEntry) bool { return yield(e, nil) }); err != nil && ctx.Err() == nil {
			yield(api.LogEntry{}, fmt.Errorf("follow logs: %w", err))
		}
	}
}

func (s *Store) follow(ctx context.Context, q api.LogQuery, yield func(api.LogEntry) bool) error {
	f, err := filterOf(q)
	if err != nil {
		return err
	}
	if f.After == 0 {
		f.After = s.feed.last()
		if q.Limit > 0 {
			list, err := s.Query(ctx, q)
			if err != nil {
				return err
			}
			for _, e := range list {
				if !yield(e) {
					return nil
				}
				f.After = max(f.After, e.Seq)
			}
		}
	}
	for {
		list, upTo, changed, err := s.since(ctx, f)
		if err != nil {
			return err
		}
		for _, e := range list {
			if !yield(e) {
				return nil
			}
		}
		if upTo > f.After {
			f.After = upTo
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		case <-s.stop:
			return ErrStopped
		}
	}
}

// since returns what f selects, and up to where the list is complete.
func (s *Store) since(ctx context.Context, f *chunk.Filter) (list []api.LogEntry, upTo uint64, changed <-chan struct{}, err error) {
	chunks, last, changed, ok := s.feed.since(f.After)
	if ok {
		list, err = entries(f, chunks)
		return list, last, changed, err
	}
	if s.isStopped() {
		return nil, 0, nil, ErrStopped
	}
	upTo = last
	size := 0
	err = s.search(ctx, f, false, func(first uint64, body []byte) (bool, error) {
		before := len(list)
		if list, err = f.Entries(list, first, body); err != nil {
			return false, err
		}
		for _, e := range list[before:] {
			size += len(e.Message)
		}
		if len(list) < followBatch && size < maxResult/4 {
			return true, nil
		}
		upTo = max(list[len(list)-1].Seq, f.After+1)
		return false, nil
	})
	if len(list) > 0 {
		upTo = max(upTo, list[len(list)-1].Seq)
	}
	return list, upTo, changed, err
}

func (s *Store) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}
