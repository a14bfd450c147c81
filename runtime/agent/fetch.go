package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

const (
	fetchesAtOnce = 4
	fetchRetry    = 100 * time.Millisecond
	fetchRetryMax = 5 * time.Second
)

// fetch gets the instance's data from where they are, and then has it reported that they
// are here until the cluster knows, which ends the phase. The program is not started
// before: what it writes must not be taken for outdated by anybody.
func (s *supervisor) fetch() {
	s.cancelFetch() // one for an earlier placement
	seq, placement := s.phaseSeq, s.instance.Generation
	inPhase := func(f func()) {
		s.post(func() {
			if s.phaseSeq == seq && s.instance.Generation == placement {
				f()
				s.publish()
			}
		})
	}
	f := fetch{agent: s.agent, ref: s.ref, from: s.m.DataOn, generation: placement, persist: s.m.Service.Persist(), fence: fences(s.m.Service)}
	f.say = func(reason string) { inPhase(func() { s.m.Reason = reason }) }
	s.m.Reason = f.what()
	s.cancelFetch = s.inBackground(func(ctx context.Context) {
		if f.run(ctx) == nil {
			inPhase(func() { s.dataHere = placement })
		}
	})
}

// fetch brings an instance's data to this node.
type fetch struct {
	agent      *Agent
	ref        api.Ref
	from       string
	generation uint64
	persist    bool
	fence      bool // it must have ended there
	say        func(reason string)
}

// what says what is being done.
func (f *fetch) what() string {
	if f.persist {
		return "fetching its data from node " + f.from
	}
	return "waiting until it has ended on node " + f.from
}

// run returns nil once everything that can be had is here.
func (f *fetch) run(ctx context.Context) error {
	notes := f.agent.arrivals
	release, err := notes.acquire(ctx, f.ref)
	if err != nil {
		return err
	}
	defer release()
	if notes.has(f.ref, f.generation) {
		return nil
	}
	for wait := fetchRetry; ; wait = min(2*wait, fetchRetryMax) {
		err := f.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f.say(fmt.Sprintf("%s: %v", f.what(), err))
		level := slog.LevelWarn
		if api.CodeOf(err) == api.CodeConflict { // it is still ending there
			level = slog.LevelDebug
		}
		f.agent.cfg.Logger.Log(ctx, level, "data not fetched", "instance", f.ref, "from", f.from, "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *fetch) attempt(ctx context.Context) error {
	if !f.persist {
		return f.await(ctx)
	}
	if err := f.agent.fetches.Acquire(ctx, 1); err != nil {
		return err
	}
	defer f.agent.fetches.Release(1)
	incoming, err := f.agent.arrivals.begin(f.ref, f.generation)
	if err != nil {
		return err
	}
	err = f.agent.cfg.Data.Fetch(ctx, f.ref, f.from, filepath.Join(f.agent.cfg.DataDir, incoming))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ErrNoData):
		return f.goWithout(err)
	case err != nil:
		return err
	}
	if err := f.agent.arrivals.finish(f.ref, f.generation); err != nil {
		return err
	}
	f.agent.logError("outdated data not removed", f.ref, f.agent.arrivals.clean(f.ref))
	return nil
}

// await lets an instance that keeps no data start, with nothing: one that must never run
// twice when it has ended where it was.
func (f *fetch) await(ctx context.Context) error {
	if f.fence {
		if err := f.agent.cfg.Data.Await(ctx, f.ref, f.from); err != nil {
			return err
		}
	}
	if err := f.agent.arrivals.giveUp(f.ref, f.generation, false); err != nil {
		return err
	}
	f.agent.logError("outdated data not removed", f.ref, f.agent.arrivals.clean(f.ref))
	return nil
}

// goWithout lets the instance start with nothing. That a node may be lost with all that
// is on it is what on_disconnect = "replace" says.
func (f *fetch) goWithout(cause error) error {
	if err := f.agent.arrivals.giveUp(f.ref, f.generation, true); err != nil {
		return err
	}
	f.agent.cfg.Logger.Error("AN INSTANCE GOES ON WITHOUT ITS DATA; should its former node come back, they are still there",
		"instance", f.ref, "former_node", f.from, "error", cause)
	f.say(fmt.Sprintf("goes on without its data, which were on node %s: %v", f.from, cause))
	return nil
}
