package server

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/runtime/agent"
)

// heldState is the replicated state as one node sees it.
type heldState struct {
	*state.Store
	id string
}

func (h heldState) ID() string { return h.id }

func (h heldState) apply(t *testing.T, c state.Command) {
	t.Helper()
	c.Time = time.Now()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.Apply(state.Entry(b))
	if err != nil || res[0][0].Err != nil {
		t.Fatal(err, res)
	}
}

// moved is a state in which app:one has moved from n1 to n2, but for its data.
func moved(t *testing.T) heldState {
	t.Helper()
	h := heldState{state.New(), "n1"}
	for _, id := range []string{"n1", "n2"} {
		n := api.Node{ID: id, Name: id}
		n.SetDefaults()
		h.apply(t, state.Command{PutNode: &state.PutNode{Node: n}})
	}
	svc := api.Service{Name: "app", Command: "app"}
	svc.SetDefaults()
	h.apply(t, state.Command{PutService: &state.PutService{Service: svc}})
	in := api.Instance{Service: "app", ID: "one"}
	in.SetDefaults()
	h.apply(t, state.Command{PutInstance: &state.PutInstance{Instance: in}})
	h.place(t, "n1", 1)
	h.apply(t, state.Command{Report: &state.Report{Node: "n1", Reports: []api.Report{
		{Ref: refOne, Observed: api.Observed{State: api.StateRunning, Generation: 1}},
	}}})
	h.place(t, "n2", 2)
	return h
}

func (h heldState) place(t *testing.T, node string, generation uint64) {
	t.Helper()
	h.apply(t, state.Command{Place: &state.Place{Placements: []state.Placement{{Ref: refOne, Node: node, Generation: generation}}}})
}

func (h heldState) down(t *testing.T, deadline time.Duration) {
	t.Helper()
	now := time.Now()
	h.apply(t, state.Command{NodeStatus: &state.NodeStatus{
		ID: "n1", Status: api.NodeDown, Reason: "no answer", At: now, Deadline: now.Add(deadline),
	}})
}

// TestSendData: data go to the instance's new node only, and only when nothing here
// writes to them any more.
func TestSendData(t *testing.T) {
	dir, rest := tempDir(t), true
	h := moved(t)
	s := dataSender{node: h, dir: dir, atRest: func(api.Ref) bool { return rest }}
	send := func(to string) api.Code { return api.CodeOf(s.send(t.Context(), refOne, to, io.Discard)) }
	if got := send("n2"); got != api.CodeNotFound {
		t.Errorf("no data: %q", got)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "app", "two"), 0o700), os.Symlink("two", filepath.Join(dir, "app", "one"))); err != nil {
		t.Fatal(err)
	}
	if got := send("n2"); got == "" || got == api.CodeNotFound {
		t.Errorf("a link to another's data: %q", got)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "app", "one")), os.Mkdir(filepath.Join(dir, "app", "one"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if got := send("n2"); got != "" {
		t.Errorf("to its node: %q", got)
	}
	if got := send("n3"); got != api.CodeConflict {
		t.Errorf("to another node: %q", got)
	}
	rest = false
	if got := send("n2"); got != api.CodeConflict {
		t.Errorf("while it runs: %q", got)
	}
	rest = true
	h.place(t, "n1", 3)
	if got := send("n2"); got != api.CodeConflict {
		t.Errorf("when it is back: %q", got)
	}
}

// TestFetchData: what one node sends another gets.
func TestFetchData(t *testing.T) {
	h, from, to := moved(t), tempDir(t), tempDir(t)
	if err := errors.Join(os.MkdirAll(filepath.Join(from, "app", "one", "sub"), 0o700),
		os.WriteFile(filepath.Join(from, "app", "one", "sub", "f"), []byte("contents"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := dataSender{node: h, dir: from, atRest: func(api.Ref) bool { return true }}
	broken := errors.New("connection broken")
	for name, c := range map[string]struct {
		get  func(ctx context.Context, w io.Writer) error
		want error
	}{
		"whole":  {func(ctx context.Context, w io.Writer) error { return s.send(ctx, refOne, "n2", w) }, nil},
		"none":   {func(context.Context, io.Writer) error { return api.Errorf(api.CodeNotFound, "none") }, agent.ErrNoData},
		"broken": {func(context.Context, io.Writer) error { return broken }, broken},
		"broken at the end": {func(ctx context.Context, w io.Writer) error {
			return errors.Join(s.send(ctx, refOne, "n2", w), broken)
		}, broken},
	} {
		dir := filepath.Join(to, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d := dataFetcher{node: h, get: func(ctx context.Context, _ string, _ api.Ref, w io.Writer) error { return c.get(ctx, w) }}
		if err := d.Fetch(t.Context(), refOne, "n1", dir); !errors.Is(err, c.want) {
			t.Errorf("%s: Fetch = %v, want %v", name, err, c.want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(to, "whole", "sub", "f")); err != nil || string(b) != "contents" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestFetchDataFromLostNode: a node that is down has its time to come back; one that was
// removed does not.
func TestFetchDataFromLostNode(t *testing.T) {
	asked := false
	fetch := func(t *testing.T, h heldState, from string) error {
		d := dataFetcher{node: h, get: func(context.Context, string, api.Ref, io.Writer) error {
			asked = true
			return io.ErrUnexpectedEOF
		}}
		return d.Fetch(t.Context(), refOne, from, t.TempDir())
	}
	synctest.Test(t, func(t *testing.T) {
		h := moved(t)
		if err := fetch(t, h, "n9"); !errors.Is(err, agent.ErrNoData) {
			t.Errorf("unknown node: %v", err)
		}
		h.down(t, 3*time.Second)
		began := time.Now()
		if err := fetch(t, h, "n1"); !errors.Is(err, agent.ErrNoData) || time.Since(began) != 3*time.Second || asked {
			t.Errorf("a node that is down: %v after %s; asked: %t", err, time.Since(began), asked)
		}
		go func() {
			time.Sleep(time.Second)
			n, _ := h.View().Node("n1")
			h.apply(t, state.Command{NodeStatus: &state.NodeStatus{ID: "n1", Status: api.NodeUp, At: time.Now(), Since: n.StatusSince}})
		}()
		if err := fetch(t, h, "n1"); !errors.Is(err, io.ErrUnexpectedEOF) || !asked {
			t.Errorf("a node that is back: %v; asked: %t", err, asked)
		}
	})
}

// TestFetchDataOfASingleWriter: an instance that must never run twice does not go on
// without its data before the lease of the node that had it has ended, however long that
// takes.
func TestFetchDataOfASingleWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := moved(t)
		svc := api.Service{Name: "app", Command: "app", OnDisconnect: api.DisconnectStop}
		svc.SetDefaults()
		h.apply(t, state.Command{PutService: &state.PutService{Service: svc}})
		h.down(t, 3*time.Second)
		noLeader := errors.New("no leader")
		for name, c := range map[string]struct {
			ended bool
			err   error
			want  func(error) bool
		}{
			"not ended": {false, nil, func(err error) bool { return api.CodeOf(err) == api.CodeConflict && !errors.Is(err, agent.ErrNoData) }},
			"not known": {false, noLeader, func(err error) bool { return errors.Is(err, noLeader) && !errors.Is(err, agent.ErrNoData) }},
			"ended":     {true, nil, func(err error) bool { return errors.Is(err, agent.ErrNoData) }},
		} {
			d := dataFetcher{node: h, leaseEnded: func(_ context.Context, node string) (bool, error) {
				if node != "n1" {
					t.Errorf("%s: asked about %s", name, node)
				}
				return c.ended, c.err
			}}
			if err := d.Fetch(t.Context(), refOne, "n1", t.TempDir()); !c.want(err) {
				t.Errorf("%s: Fetch = %v", name, err)
			}
		}
	})
}

// TestFetchDataStalls: a transfer that stands still is given up.
func TestFetchDataStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dataFetcher{node: moved(t), get: func(ctx context.Context, _ string, _ api.Ref, w io.Writer) error {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		began := time.Now()
		if err := d.Fetch(t.Context(), refOne, "n1", t.TempDir()); err == nil || errors.Is(err, agent.ErrNoData) || time.Since(began) != dataStall {
			t.Errorf("Fetch = %v after %s", err, time.Since(began))
		}
	})
}
