package agent

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

const (
	reportEvery    = 50 * time.Millisecond // at most 20 batches a second
	reportMost     = 1000                  // reports in a batch
	reportRetry    = 100 * time.Millisecond
	reportRetryMax = time.Second // so that a new leader soon knows
	reportTimeout  = 10 * time.Second
)

// reports carries observations to the cluster: the first at once, bursts coalesced, and
// each until it has been taken. An observation that comes meanwhile replaces the
// instance's former one.
type reports struct {
	to     Reporter
	logger *slog.Logger
	kick   chan struct{} // capacity 1

	mu      sync.Mutex
	muted   bool // what happens now is no news: see Agent.StopAll
	pending map[api.Ref]api.Report
	flying  map[api.Ref]api.Report // of the batch under way
}

func newReports(to Reporter, logger *slog.Logger) *reports {
	return &reports{to: to, logger: logger, kick: make(chan struct{}, 1), pending: make(map[api.Ref]api.Report)}
}

// put never blocks.
func (r *reports) put(report api.Report) {
	r.mu.Lock()
	if !r.muted {
		r.pending[report.Ref] = report
	}
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// mute ignores every later observation.
func (r *reports) mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.muted = true
}

// forget drops what is known of a removed instance.
func (r *reports) forget(ref api.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, ref)
	delete(r.flying, ref)
}

// latest returns an observation that the cluster may not know yet.
func (r *reports) latest(ref api.Ref) (api.Observed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report, ok := r.pending[ref]
	if !ok {
		report, ok = r.flying[ref]
	}
	return report.Observed, ok
}

// run sends until ctx ends.
func (r *reports) run(ctx context.Context) {
	retry := reportRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		}
		for r.waiting() {
			pause := reportEvery
			err := r.send(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if retry == reportRetry { // once an outage
					r.logger.Warn("report not taken", "error", err, "retry_in", retry)
				}
				pause, retry = retry, min(2*retry, reportRetryMax)
			case retry != reportRetry:
				r.logger.Info("reports are taken again")
				retry = reportRetry
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

func (r *reports) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) > 0
}

// send hands over one batch; what was not taken is pending again.
func (r *reports) send(ctx context.Context) error {
	batch := r.takeBatch()
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := r.to.Report(ctx, batch)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		for ref, report := range r.flying {
			if _, newer := r.pending[ref]; !newer {
				r.pending[ref] = report
			}
		}
	}
	r.flying = nil
	return err
}

func (r *reports) takeBatch() []api.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flying = make(map[api.Ref]api.Report, min(len(r.pending), reportMost))
	batch := make([]api.Report, 0, min(len(r.pending), reportMost))
	for ref, report := range r.pending {
		if len(batch) == reportMost {
			break
		}
		r.flying[ref] = report
		delete(r.pending, ref)
		batch = append(batch, report)
	}
	slices.SortFunc(batch, func(a, b api.Report) int {
		return cmp.Or(cmp.Compare(a.Ref.Service, b.Ref.Service), cmp.Compare(a.Ref.ID, b.Ref.ID))
	})
	return batch
}

// flush hands over what is left, as far as the cluster takes it.
func (r *reports) flush(ctx context.Context) {
	for r.waiting() && ctx.Err() == nil {
		if err := r.send(ctx); err != nil {
			r.logger.Warn("last report not taken", "error", err)
			return
		}
	}
}
