package leader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
)

// outcome is what one probe found.
type outcome uint8

const (
	answered outcome = iota
	silent           // nothing came in time, or no way there
	refused          // the machine says that nobody listens
)

// watch is what the leader knows of one node. It is a value that only its own methods
// change, without a clock.
type watch struct {
	times Times
	// lost is when the node last answered, or began to be watched.
	lost time.Time
	// refusing is when it began to refuse; zero unless every probe since was refused.
	refusing time.Time
	failures int // since it last answered
	last     time.Time
}

// minFailures is how many probes must have failed: the first one after a stall of our
// own proves little.
const minFailures = 2

// stalled is how much later than planned a probe may end before the leader must
// suspect itself: it did not run for a while, and so it is not the node that was silent.
func (t Times) stalled() time.Duration { return t.ProbeTimeout + t.ProbeEvery + time.Second }

func newWatch(times Times, now time.Time) watch { return watch{times: times, lost: now, last: now} }

// saw notes the outcome of a probe that ended at now.
func (w *watch) saw(o outcome, now time.Time) {
	if now.Sub(w.last) > w.times.stalled() {
		w.lost, w.refusing, w.failures = now, time.Time{}, 0
	}
	w.last = now
	switch o {
	case answered:
		w.lost, w.refusing, w.failures = now, time.Time{}, 0
		return
	case silent:
		w.refusing = time.Time{}
	case refused:
		if w.refusing.IsZero() {
			w.refusing = now
			if w.failures == 0 {
				w.refusing = w.lost // it ended at some time since it last answered
			}
		}
	}
	w.failures++
}

// verdict returns why the node is down, and since when it has not answered; "" while it
// is not.
func (w *watch) verdict(left bool, now time.Time) (reason string, since time.Time) {
	if w.failures < minFailures {
		return "", time.Time{}
	}
	away := now.Sub(w.lost)
	switch {
	case left && away < w.times.Left:
		return "", time.Time{}
	case left:
		return fmt.Sprintf("left %s ago and did not come back", away.Round(time.Second)), w.lost
	case !w.refusing.IsZero() && now.Sub(w.refusing) >= w.times.Refused:
		return fmt.Sprintf("refuses connections for %s", now.Sub(w.refusing).Round(100*time.Millisecond)), w.refusing
	case away >= w.times.Silent:
		return fmt.Sprintf("does not answer for %s", away.Round(100*time.Millisecond)), w.lost
	default:
		return "", time.Time{}
	}
}

// watchNodes probes every other node until ctx ends or a status can't be stored.
func watchNodes(ctx context.Context, cfg Config, clock clock) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	watchers := make(map[string]context.CancelFunc)
	for {
		v := cfg.Cluster.View()
		for n := range v.Nodes() {
			if n.ID == cfg.Cluster.ID() {
				if err := returned(ctx, cfg, clock, n); err != nil {
					return err
				}
				continue
			}
			if watchers[n.ID] != nil {
				continue
			}
			one, stop := context.WithCancel(ctx)
			watchers[n.ID] = stop
			wg.Go(func() {
				if err := guarded(func() error { return watchNode(one, cfg, clock, n.ID) }); err != nil {
					cancel(err)
				}
			})
		}
		for id, stop := range watchers {
			if _, ok := v.Node(id); !ok {
				stop()
				delete(watchers, id)
			}
		}
		if err := nodesChange(ctx, v, cfg.Cluster); err != nil {
			return err
		}
	}
}

// returned notes that the leader's own node is up, for those before it found it down.
func returned(ctx context.Context, cfg Config, clock clock, n *api.Node) error {
	if n.Reachable() {
		return nil
	}
	return cfg.Cluster.SetNodeStatus(ctx, state.NodeStatus{ID: n.ID, Status: api.NodeUp, At: clock.now(), Since: n.StatusSince})
}

// nodesPause is how often it is looked for nodes that are new, at most: instances change
// all the time.
const nodesPause = 200 * time.Millisecond

func nodesChange(ctx context.Context, v *state.View, c Cluster) error {
	if err := pause(ctx, nodesPause); err != nil {
		return err
	}
	select {
	case <-v.Changed():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watchNode probes one node and stores what becomes of it.
func watchNode(ctx context.Context, cfg Config, clock clock, id string) error {
	now := time.Now()
	w := newWatch(cfg.Times, now)
	if previous, contact := cfg.Cluster.PreviousLeader(); previous == id && !contact.IsZero() && now.Sub(contact) < cfg.Times.Silent {
		// It led until a moment ago, and this node has heard of it as often as a leader
		// would have: there is no need to begin anew.
		w.lost = contact
	}
	tick := time.NewTicker(cfg.Times.ProbeEvery)
	defer tick.Stop()
	for {
		// The node as it was before the question: an answer is older than what the node has
		// said meanwhile, that it leaves for instance.
		asked, known := cfg.Cluster.View().Node(id)
		o := probe(ctx, cfg, id)
		if ctx.Err() != nil {
			return nil
		}
		w.saw(o, time.Now())
		if known {
			if err := judge(ctx, cfg, clock, asked, &w); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func probe(ctx context.Context, cfg Config, id string) outcome {
	ctx, cancel := context.WithTimeout(ctx, cfg.Times.ProbeTimeout)
	defer cancel()
	switch err := cfg.Prober.Ping(ctx, id); {
	case err == nil:
		return answered
	case errors.Is(err, ErrRefused):
		return refused
	default:
		return silent
	}
}

// judge stores the node's status if it is not that of n any more, which is what was known
// when the last probe began; what has been stored since then stays.
func judge(ctx context.Context, cfg Config, clock clock, n *api.Node, w *watch) error {
	now := clock.now()
	status := state.NodeStatus{ID: n.ID, At: now, Since: n.StatusSince}
	reason, since := w.verdict(n.Status == api.NodeLeft, time.Now())
	switch {
	case w.failures == 0 && !n.Reachable():
		status.Status = api.NodeUp
	case reason != "" && n.Status != api.NodeDown:
		status.Status, status.Reason = api.NodeDown, reason
		// What the verdict took is part of the patience that instances are due.
		status.Deadline = now.Add(cfg.Times.Grace)
		if passed := time.Since(since) - cfg.Times.Refused; passed > 0 && !w.refusing.IsZero() {
			status.Deadline = now.Add(max(0, cfg.Times.Grace-passed))
		}
	default:
		return nil
	}
	cfg.Logger.Info("node is "+string(status.Status), "node", n.ID, "name", n.Name, "reason", reason)
	return cfg.Cluster.SetNodeStatus(ctx, status)
}
