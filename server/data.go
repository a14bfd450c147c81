package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/state"
	"github.com/tenement-fleet/tenement/runtime/agent"
	"github.com/tenement-fleet/tenement/runtime/archive"
)

const (
	// dataStall is how long a transfer may stand still before it is given up and begun
	// again.
	dataStall = 30 * time.Second
	// dataLowWater is the free space that no transfer touches: the state needs to grow.
	dataLowWater = 256 * api.MiB
)

// SendData implements peering.Runtime.
func (l local) SendData(ctx context.Context, ref api.Ref, to string, w io.Writer) error {
	return dataSender{node: l.node, atRest: l.AtRest, dir: l.dataDir}.send(ctx, ref, to, w)
}

// dataSender sends what instances have left here, to the nodes that they have moved to
// and to nobody else.
type dataSender struct {
	node   viewer
	atRest func(api.Ref) bool // nothing of the instance runs here
	dir    string
}

func (s dataSender) send(ctx context.Context, ref api.Ref, to string, w io.Writer) error {
	if err := s.permit(ref, to); err != nil {
		return err
	}
	if svc, ok := s.node.View().Service(ref.Service); ok && !svc.Persist() {
		return api.Errorf(api.CodeNotFound, "send data of %s: its service keeps none", ref)
	}
	root, err := s.open(ref)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "send data of %s: there is none here", ref)
	}
	if err != nil {
		return fmt.Errorf("send data of %s: %w", ref, err)
	}
	defer root.Close() //nolint:errcheck // only read
	if err := archive.Write(ctx, w, root); err != nil {
		return fmt.Errorf("send data of %s: %w", ref, err)
	}
	return nil
}

// permit refuses with CodeConflict, which passes: this node may not have heard of the
// move yet, or still be stopping the program.
func (s dataSender) permit(ref api.Ref, to string) error {
	in, ok := s.node.View().Instance(ref)
	switch {
	case !ok, in.Node != to, in.DataNode != s.node.ID():
		return api.Errorf(api.CodeConflict, "send data of %s: this node does not know that it has moved to the one that asks", ref)
	case !s.atRest(ref):
		return api.Errorf(api.CodeConflict, "send data of %s: it has not ended here yet", ref)
	default:
		return nil
	}
}

// open opens an instance's data directory. A link in its place may lead to another's.
func (s dataSender) open(ref api.Ref) (*os.Root, error) {
	all, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer all.Close() //nolint:errcheck // only read
	name := path.Join(ref.Service, ref.ID)
	fi, err := all.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%s is no directory", name)
	}
	return all.OpenRoot(name)
}

// viewer is replicated state.
type viewer interface {
	ID() string
	View() *state.View
}

// dataFetcher gets what instances have left on other nodes. It is the agent's Data.
type dataFetcher struct {
	node viewer
	// get is [peering.Client.FetchData].
	get func(ctx context.Context, node string, ref api.Ref, w io.Writer) error
	// leaseEnded asks the leader whether a node's lease has certainly ended.
	leaseEnded func(ctx context.Context, node string) (bool, error)
}

// Fetch implements agent.Data. There is nothing to be had any more from a node that was
// removed, that is down for longer than its instances wait, or that says so.
func (d dataFetcher) Fetch(ctx context.Context, ref api.Ref, from, dir string) error {
	if err := d.awaitSource(ctx, ref, from); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	defer root.Close() //nolint:errcheck // what is in it is synced by the caller
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := d.receive(ctx, ref, from, out)
		_ = out.CloseWithError(err) // never fails
		sent <- err
	}()
	err = archive.Extract(ctx, in, root, func() error { return roomIn(dir) })
	_ = in.CloseWithError(err) // never fails
	// Only the sender knows whether it was everything.
	switch sendErr := <-sent; {
	case api.CodeOf(sendErr) == api.CodeNotFound:
		return fmt.Errorf("%w: %w", agent.ErrNoData, sendErr)
	case sendErr != nil && err == nil, sendErr != nil && errors.Is(err, sendErr):
		return sendErr
	default:
		return err
	}
}

// Await implements agent.Data. A node sends data, of which there are none here, only of
// what has ended on it.
func (d dataFetcher) Await(ctx context.Context, ref api.Ref, from string) error {
	err := d.awaitSource(ctx, ref, from)
	if err == nil {
		err = d.receive(ctx, ref, from, io.Discard)
	}
	if errors.Is(err, agent.ErrNoData) || api.CodeOf(err) == api.CodeNotFound {
		return nil
	}
	return err
}

// receive writes to w what the node sends, unless it stands still.
func (d dataFetcher) receive(ctx context.Context, ref api.Ref, from string, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(dataStall, func() { cancel(errors.New("the transfer stands still")) })
	defer stalled.Stop()
	return d.get(ctx, from, ref, &watchedWriter{w, stalled})
}

// awaitSource returns nil when the node may be asked. A node that is down has the time
// that the cluster gives it to come back, counted by this node's clock.
func (d dataFetcher) awaitSource(ctx context.Context, ref api.Ref, from string) error {
	var patience <-chan time.Time
	for {
		v := d.node.View()
		n, ok := v.Node(from)
		switch {
		case !ok:
			return fmt.Errorf("%w: that node was removed from the cluster", agent.ErrNoData)
		case n.Status != api.NodeDown:
			return nil
		case patience == nil:
			timer := time.NewTimer(max(n.Deadline.Sub(n.StatusSince), 0))
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-v.Changed():
		case <-patience:
			if err := d.mayRunAt(ctx, ref, from); err != nil {
				return err
			}
			return fmt.Errorf("%w: that node is down: %s", agent.ErrNoData, n.StatusReason)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// mayRunAt returns an error, which passes, while an instance that must never run twice may
// still run on a node that is down.
func (d dataFetcher) mayRunAt(ctx context.Context, ref api.Ref, node string) error {
	if s, ok := d.node.View().Service(ref.Service); !ok || s.Disconnect() != api.DisconnectStop {
		return nil
	}
	ended, err := d.leaseEnded(ctx, node)
	if err == nil && !ended {
		err = api.Errorf(api.CodeConflict, "fetch data of %s: it may still run on a node that is down, whose lease has not ended", ref)
	}
	return err
}

// watchedWriter tells a timer of every write.
type watchedWriter struct {
	w     io.Writer
	timer *time.Timer
}

// Write implements io.Writer.
func (w *watchedWriter) Write(p []byte) (int, error) {
	w.timer.Reset(dataStall)
	return w.w.Write(p)
}

// roomIn refuses when there is not much room left where dir is.
func roomIn(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("measure free space: %w", err)
	}
	if free := api.Size(fs.Bavail) * api.Size(fs.Bsize); free < dataLowWater { //nolint:gosec,unconvert // its type depends on the system
		return api.Errorf(api.CodeDiskFull, "fetch data: %s are free, %s are kept", free, dataLowWater)
	}
	return nil
}
