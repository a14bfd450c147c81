package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// fakeData is another node's data.
type fakeData struct {
	calls atomic.Int32
	fetch hook[func(ctx context.Context, dir string) error] // nil: what is there is "theirs"
	await hook[func() error]                                // nil: it has ended there
}

func (d *fakeData) Await(_ context.Context, _ api.Ref, from string) error {
	d.calls.Add(1)
	if from != "n2" {
		return fmt.Errorf("no node %s", from)
	}
	if f := d.await.get(); f != nil {
		return f()
	}
	return nil
}

func (d *fakeData) Fetch(ctx context.Context, _ api.Ref, from, dir string) error {
	d.calls.Add(1)
	if from != "n2" {
		return fmt.Errorf("no node %s", from)
	}
	if f := d.fetch.get(); f != nil {
		return f(ctx, dir)
	}
	return os.WriteFile(filepath.Join(dir, "who"), []byte("theirs"), 0o600)
}

func (d *fakeData) config(c *Config) { c.Data = d }

func conflict() error { return api.Errorf(api.CodeConflict, "still running there") }

// arrive places an instance here that has left its data on another node.
func (n *node) arrive(ref api.Ref, generation uint64) {
	n.place(ref, func(i *api.Instance) { i.Generation, i.DataNode = generation, "n2" })
}

func (n *node) who(ref api.Ref) string {
	b, err := os.ReadFile(filepath.Join(n.dataDir(ref), "who"))
	if err != nil {
		return ""
	}
	return string(b)
}

// stale leaves an old copy of an instance's data here.
func (n *node) stale(t *testing.T, ref api.Ref) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(n.dataDir(ref), 0o700),
		os.WriteFile(filepath.Join(n.dataDir(ref), "who"), []byte("stale"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// expectSoon is expect once the cluster has heard, and answered, what was reported.
func (n *node) expectSoon(ref api.Ref, want api.State, wantGate gatePosition) api.Observed {
	n.t.Helper()
	time.Sleep(4 * reportEvery)
	return n.expect(ref, want, wantGate)
}

// leftovers lists what is beside the data directories.
func (n *node) leftovers(t *testing.T) (out []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(n.dirs, "data", "*", "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		out = append(out, filepath.Base(name))
	}
	return out
}

// TestFetch: the program starts with the data that it had elsewhere, and with none that
// were left here before.
func TestFetch(t *testing.T) {
	for _, stale := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			d := &fakeData{}
			n.put(plain)
			if stale {
				n.stale(t, ref1)
			}
			n.open(d.config)
			n.arrive(ref1, 2)
			o := n.expectSoon(ref1, api.StateRunning, gateOpen)
			if n.who(ref1) != "theirs" || o.Generation != 2 || n.insts[ref1].DataNode != "" || d.calls.Load() != 1 {
				t.Errorf("data %q, generation %d, data node %q, %d fetches", n.who(ref1), o.Generation, n.insts[ref1].DataNode, d.calls.Load())
			}
			if left := n.leftovers(t); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// TestFetchRetries: while the other node has the data, nothing is started without them;
// everybody can read what is waited for.
func TestFetchRetries(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		d := &fakeData{}
		d.fetch.set(func(_ context.Context, dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), conflict())
		})
		n.put(plain)
		n.stale(t, ref1)
		n.open(d.config)
		n.arrive(ref1, 2)
		time.Sleep(time.Minute)
		o := n.expect(ref1, api.StatePending, gateDown)
		if !strings.Contains(o.Reason, "fetching its data from node n2") || !strings.Contains(o.Reason, "still running there") {
			t.Errorf("reason %q", o.Reason)
		}
		if c := d.calls.Load(); c < 10 || c > 30 {
			t.Errorf("%d tries in a minute", c)
		}
		woken := async(func() error { return n.agent.Wake(t.Context(), ref1) })
		d.fetch.set(nil)
		if err := <-woken; err != nil {
			t.Error(err)
		}
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		if _, err := os.Stat(filepath.Join(n.dataDir(ref1), "half")); err == nil || n.who(ref1) != "theirs" {
			t.Errorf("a part was taken for the whole, or data %q", n.who(ref1))
		}
	})
}

// TestAwaitEnd: an instance that keeps no data, and must never run twice, waits until it
// has ended where it was. Any other does not.
func TestAwaitEnd(t *testing.T) {
	for _, stop := range []bool{false, true} {
		inBubble(t, func(t *testing.T, n *node) {
			d := &fakeData{}
			d.await.set(conflict)
			n.put(func(s *api.Service) {
				s.StoragePersist = new(false)
				if stop {
					s.OnDisconnect = api.DisconnectStop
				}
			})
			n.stale(t, ref1)
			n.open(d.config)
			n.arrive(ref1, 2)
			if stop {
				time.Sleep(time.Minute)
				if o := n.expect(ref1, api.StatePending, gateDown); !strings.Contains(o.Reason, "waiting until it has ended on node n2") {
					t.Errorf("reason %q", o.Reason)
				}
				d.await.set(nil)
				time.Sleep(fetchRetryMax)
			}
			n.expectSoon(ref1, api.StateRunning, gateOpen)
			if n.who(ref1) != "" || n.insts[ref1].DataNode != "" || len(n.leftovers(t)) > 0 || !stop && d.calls.Load() > 0 {
				t.Errorf("data %q, data node %q, left over %v, %d calls", n.who(ref1), n.insts[ref1].DataNode, n.leftovers(t), d.calls.Load())
			}
		})
	}
}

// TestFetchNothing: nobody has the data any more. The instance goes on without, loudly,
// and not with what happened to be here.
func TestFetchNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		d := &fakeData{}
		d.fetch.set(func(context.Context, string) error { return fmt.Errorf("%w: n2 burnt down", ErrNoData) })
		n.put(plain)
		n.stale(t, ref1)
		n.open(d.config)
		n.arrive(ref1, 2)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		if n.who(ref1) != "" || n.insts[ref1].DataNode != "" {
			t.Errorf("data %q, data node %q", n.who(ref1), n.insts[ref1].DataNode)
		}
		if left := n.leftovers(t); len(left) != 1 || left[0] != "one.outdated" {
			t.Errorf("kept aside: %v", left)
		}
		if !strings.Contains(n.log.String(), "WITHOUT ITS DATA") {
			t.Error("not a word in the log")
		}
		told := false
		for _, batch := range n.reports {
			for _, r := range batch {
				told = told || r.DataHere && strings.Contains(r.Observed.Reason, "n2 burnt down")
			}
		}
		if !told {
			t.Errorf("nobody was told: %+v", n.reports)
		}
	})
}

// TestFetchAsleep: what sleeps gets its data too, for the node that has them may go, and
// goes on sleeping; what is stopped stays so.
func TestFetchAsleep(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		d := &fakeData{}
		n.put(plain)
		n.open(d.config)
		for ref, want := range map[api.Ref]api.Desired{ref1: api.DesiredAsleep, ref2: api.DesiredStopped} {
			n.place(ref, func(i *api.Instance) {
				i.Generation, i.DataNode, i.Desired = 2, "n2", want
				i.Observed = &api.Observed{State: api.StateAsleep, Desired: want, Generation: 1}
			})
		}
		n.place(ref3, func(i *api.Instance) { // idle
			i.Generation, i.DataNode = 2, "n2"
			i.Observed = &api.Observed{State: api.StateAsleep, Desired: api.DesiredRunning, Generation: 1}
		})
		n.expectSoon(ref1, api.StateAsleep, gateAsleep)
		n.expect(ref3, api.StateAsleep, gateAsleep)
		for _, ref := range []api.Ref{ref1, ref2, ref3} {
			if n.who(ref) != "theirs" || n.started(ref) != 0 || n.insts[ref].DataNode != "" {
				t.Errorf("%s: data %q, %d starts, data node %q", ref, n.who(ref), n.started(ref), n.insts[ref].DataNode)
			}
		}
		if len(n.agent.supervisors) > 0 {
			t.Error("somebody at rest has a supervisor")
		}
	})
}

// TestFetchUnknown: the program is not started before the cluster knows where its data
// are; a ten that is started meanwhile does not fetch again.
func TestFetchUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		d := &fakeData{}
		n.put(plain)
		n.open(d.config)
		n.onReport.set(func([]api.Report) error { return errNo })
		n.arrive(ref1, 2)
		n.expect(ref1, api.StatePending, gateDown)
		n.stop()
		d.fetch.set(func(context.Context, string) error { return ErrNoData })
		n.open(d.config)
		n.expect(ref1, api.StatePending, gateDown)
		if n.who(ref1) != "theirs" {
			t.Errorf("data %q", n.who(ref1))
		}
		n.onReport.set(nil)
		time.Sleep(reportRetryMax)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		if d.calls.Load() != 1 || n.who(ref1) != "theirs" {
			t.Errorf("%d fetches, data %q", d.calls.Load(), n.who(ref1))
		}
	})
}

// TestFetchForgotten: a ten that was started again may be shown an older state, in which
// the data are still elsewhere. What is here has been written to since.
func TestFetchForgotten(t *testing.T) {
	for _, alive := range []bool{true, false} {
		inBubble(t, func(t *testing.T, n *node) {
			d := &fakeData{}
			n.put(plain)
			n.open(d.config)
			n.arrive(ref1, 2)
			n.expectSoon(ref1, api.StateRunning, gateOpen)
			if err := os.WriteFile(filepath.Join(n.dataDir(ref1), "who"), []byte("newer"), 0o600); err != nil {
				t.Fatal(err)
			}
			n.stop()
			n.agent = nil
			if !alive {
				n.crash(ref1)
			}
			n.arrive(ref1, 2) // as it was before the report
			n.open(d.config)
			time.Sleep(time.Minute)
			n.expectSoon(ref1, api.StateRunning, gateOpen)
			if n.who(ref1) != "newer" || d.calls.Load() != 1 {
				t.Errorf("data %q after %d fetches", n.who(ref1), d.calls.Load())
			}
		})
	}
}

// TestFetchWhileRunning: this node has missed that the instance was elsewhere for a
// while. Its program ends, and starts again on the data from there.
func TestFetchWhileRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		d := &fakeData{}
		n.put(plain)
		n.open(d.config)
		n.arrive(ref1, 2)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		n.arrive(ref1, 4)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		if d.calls.Load() != 2 || n.started(ref1) != 2 {
			t.Errorf("%d fetches, %d starts; want 2", d.calls.Load(), n.started(ref1))
		}
	})
}

// TestFetchChanges: placed anew, moved on, or removed while its data come in.
func TestFetchChanges(t *testing.T) {
	for name, then := range map[string]func(n *node){
		"placed anew": func(n *node) { n.arrive(ref1, 3) },
		"moved on":    func(n *node) { n.moveAway(ref1) },
		"removed":     func(n *node) { n.remove(ref1) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *node) {
				d := &fakeData{}
				d.fetch.set(func(ctx context.Context, dir string) error {
					if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o600); err != nil {
						return err
					}
					<-ctx.Done()
					return ctx.Err()
				})
				n.put(plain)
				n.open(d.config)
				n.arrive(ref1, 2)
				n.expect(ref1, api.StatePending, gateDown)
				d.fetch.set(nil)
				then(n)
				synctest.Wait()
				time.Sleep(time.Second)
				if left := n.leftovers(t); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
				if name != "placed anew" {
					if n.started(ref1) != 0 || n.agent.arrivals.marked(ref1) {
						t.Error("it was started, or is still expected")
					}
					return
				}
				if o := n.expectSoon(ref1, api.StateRunning, gateOpen); o.Generation != 3 || n.who(ref1) != "theirs" {
					t.Errorf("generation %d, data %q", o.Generation, n.who(ref1))
				}
			})
		})
	}
}

// TestFetchInterrupted: ten is killed at each step of an arrival; the next one comes to
// the same end, and never takes a part, or what was here before, for the whole.
func TestFetchInterrupted(t *testing.T) {
	full := func(t *testing.T, a *arrivals) {
		incoming, err := a.begin(ref1, 2)
		if err := errors.Join(err, a.data.WriteFile(incoming+"/who", []byte("theirs"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	fetched := arrival{Generation: 2, Fetched: true}
	for name, c := range map[string]struct {
		until   func(t *testing.T, a *arrivals) error
		fetches int32
	}{
		"noted":    {func(_ *testing.T, a *arrivals) error { return a.set(ref1, arrival{Generation: 2}) }, 1},
		"half":     {func(t *testing.T, a *arrivals) error { full(t, a); return nil }, 1},
		"complete": {func(t *testing.T, a *arrivals) error { full(t, a); return a.set(ref1, fetched) }, 0},
		"moved aside": {func(t *testing.T, a *arrivals) error {
			full(t, a)
			return errors.Join(a.set(ref1, fetched), a.moveAside(ref1))
		}, 0},
		"in place": {func(t *testing.T, a *arrivals) error { full(t, a); return a.finish(ref1, 2) }, 0},
	} {
		for _, stale := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stale: %t", name, stale), func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *node) {
					d := &fakeData{}
					n.put(plain)
					if stale {
						n.stale(t, ref1)
					}
					n.open(d.config)
					if err := c.until(t, n.agent.arrivals); err != nil {
						t.Fatal(err)
					}
					n.stop()
					n.agent = nil
					n.arrive(ref1, 2)
					n.open(d.config)
					n.expectSoon(ref1, api.StateRunning, gateOpen)
					if n.who(ref1) != "theirs" || d.calls.Load() != c.fetches {
						t.Errorf("data %q after %d fetches, want theirs after %d", n.who(ref1), d.calls.Load(), c.fetches)
					}
					if left := n.leftovers(t); len(left) > 0 {
						t.Errorf("left over: %v", left)
					}
				})
			})
		}
	}
}

// TestFetchesAtOnce: few at a time, and none takes a start's place.
func TestFetchesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, n *node) {
		var now, most atomic.Int32
		d := &fakeData{}
		d.fetch.set(func(context.Context, string) error {
			if c := now.Add(1); c > most.Load() {
				most.Store(c)
			}
			defer now.Add(-1)
			time.Sleep(time.Second)
			return nil
		})
		n.put(plain)
		n.open(d.config, func(c *Config) { c.MaxStarts = 1 })
		for i := range 20 {
			n.arrive(api.Ref{Service: "web", ID: fmt.Sprint("i", i)}, 2)
		}
		n.want(ref1, api.DesiredRunning)
		n.expectSoon(ref1, api.StateRunning, gateOpen)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if most.Load() != fetchesAtOnce || now.Load() != 0 {
			t.Errorf("%d fetches at once, want %d; %d still going", most.Load(), fetchesAtOnce, now.Load())
		}
	})
}
