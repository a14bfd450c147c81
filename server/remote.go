package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/runtime/logs"
	"github.com/tenement-fleet/tenement/server/peering"
)

// instances is every instance of the cluster as the HTTP API wants them: those of this
// node, and those of others through their nodes.
type instances struct {
	here   local
	node   *consensus.Node
	client *peering.Client
}

// at calls local if the instance is on this node, else remote with the node's id. One
// that was declared a moment ago is waited for until the leader has placed it.
func (r instances) at(ctx context.Context, ref api.Ref, local func() error, remote func(node string) error) error {
	id, _, err := placed(ctx, r.node, ref)
	if err != nil {
		return err
	}
	if id == r.node.ID() {
		return local()
	}
	return nodeError(r.node, id, ref, remote(id))
}

// nodeError says which node an error came from.
func nodeError(node *consensus.Node, id string, ref api.Ref, err error) error {
	if err == nil {
		return nil
	}
	name := id
	if n, ok := node.View().Node(id); ok {
		name = n.Name
	}
	if _, ok := errors.AsType[*api.Error](err); ok {
		return fmt.Errorf("on node %s: %w", name, err)
	}
	return &api.Error{
		Code: api.CodeUnavailable, RetryAfter: api.Seconds(1),
		Message: fmt.Sprintf("reach instance %s on node %s: %v", ref, name, err),
	}
}

// Observed implements httpapi.Runtime. Of other nodes the cluster hears soon enough.
func (r instances) Observed(ref api.Ref) (api.Observed, bool) { return r.here.Observed(ref) }

// Wake implements httpapi.Runtime.
func (r instances) Wake(ctx context.Context, ref api.Ref) error {
	return r.at(ctx, ref, func() error { return r.here.Wake(ctx, ref) },
		func(id string) error { return r.client.Wake(ctx, id, ref) })
}

// Sleep implements httpapi.Runtime.
func (r instances) Sleep(ctx context.Context, ref api.Ref) error {
	return r.at(ctx, ref, func() error { return r.here.Sleep(ctx, ref) },
		func(id string) error { return r.client.Sleep(ctx, id, ref) })
}

// Restart implements httpapi.Runtime.
func (r instances) Restart(ctx context.Context, ref api.Ref) error {
	return r.at(ctx, ref, func() error { return r.here.Restart(ctx, ref) },
		func(id string) error { return r.client.Restart(ctx, id, ref) })
}

// StorageUsage implements httpapi.Runtime.
func (r instances) StorageUsage(ctx context.Context, ref api.Ref) (s api.Storage, err error) {
	err = r.at(ctx, ref, func() error { s, err = r.here.StorageUsage(ctx, ref); return err },
		func(id string) error { s, err = r.client.StorageUsage(ctx, id, ref); return err })
	return s, err
}

// placed waits until the instance has a node and returns that, and an index at which it
// has.
func placed(ctx context.Context, node *consensus.Node, ref api.Ref) (id string, index uint64, err error) {
	for {
		v := node.View()
		in, ok := v.Instance(ref)
		if !ok {
			return "", 0, api.Errorf(api.CodeNotFound, "find instance %s: there is none", ref)
		}
		if in.Node != "" {
			return in.Node, v.Index(), nil
		}
		select {
		case <-v.Changed():
		case <-ctx.Done():
			return "", 0, api.Errorf(api.CodeTimeout, "wait for instance %s: it is not placed yet, 'ten plan' says why: %w", ref, context.Cause(ctx))
		}
	}
}

// remoteLook is how often it is looked whether another node can be reached again.
const remoteLook = 100 * time.Millisecond

// awaitRoute returns once requests for an instance that is on another node can flow, or
// once it is on this one.
func awaitRoute(ctx context.Context, node *consensus.Node, router *route.Router, ref api.Ref) error {
	look := time.NewTicker(remoteLook)
	defer look.Stop()
	for {
		v := node.View()
		in, ok := v.Instance(ref)
		switch {
		case !ok:
			return api.Errorf(api.CodeNotFound, "find instance %s: there is none", ref)
		case in.Node == node.ID() || router.IsOpen(ref):
			return nil
		}
		select {
		case <-v.Changed():
		case <-look.C:
		case <-ctx.Done():
			return api.Errorf(api.CodeTimeout, "wait for instance %s: its node does not answer: %w", ref, context.Cause(ctx))
		}
	}
}

// allLogs is what the instances printed, on every node.
type allLogs struct {
	here   *logs.Store
	node   *consensus.Node
	client *peering.Client
}

// others returns the nodes, but this one, that can be asked.
func (l allLogs) others() []string {
	var out []string
	for n := range l.node.View().Nodes() {
		if n.ID != l.node.ID() && n.Reachable() {
			out = append(out, n.ID)
		}
	}
	return out
}

// queryWait bounds the wait for one node's logs.
const queryWait = 5 * time.Second

// Query implements httpapi.Logs: the newest entries of all nodes that answer, by time. A
// place in the log, which After is, belongs to one node: it narrows the query to this one.
func (l allLogs) Query(ctx context.Context, q api.LogQuery) ([]api.LogEntry, error) {
	own, err := l.here.Query(ctx, q)
	nodes := l.others()
	if err != nil || len(nodes) == 0 || q.After > 0 {
		return own, err
	}
	all := [][]api.LogEntry{own}
	answers := make(chan []api.LogEntry, len(nodes))
	ctx, cancel := context.WithTimeout(ctx, queryWait)
	defer cancel()
	for _, id := range nodes {
		go func() {
			entries, err := l.client.Query(ctx, id, q)
			if err != nil {
				entries = nil // what a node that does not answer knows is missing for as long
			}
			for i := range entries {
				entries[i].Node = id
			}
			answers <- entries
		}()
	}
	for range nodes {
		all = append(all, <-answers)
	}
	for i := range own {
		own[i].Node = l.node.ID()
	}
	return newest(all, q.Limit), nil
}

// newest merges lists that are each in order of time, and keeps the last limit entries.
func newest(lists [][]api.LogEntry, limit int) []api.LogEntry {
	out := slices.Concat(lists...)
	slices.SortStableFunc(out, func(a, b api.LogEntry) int { return a.Time.Compare(b.Time) })
	if limit > 0 && len(out) > limit {
		out = out[len(out)-limit:]
	}
	return out
}

// Follow implements httpapi.Logs: the entries of all nodes as they come.
func (l allLogs) Follow(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error] {
	nodes := l.others()
	if len(nodes) == 0 || q.After > 0 {
		return l.here.Follow(ctx, q)
	}
	return func(yield func(api.LogEntry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		type item struct {
			entry api.LogEntry
			err   error
		}
		items := make(chan item)
		done := make(chan struct{}, len(nodes)+1)
		follow := func(id string, from iter.Seq2[api.LogEntry, error]) {
			defer func() { done <- struct{}{} }()
			for e, err := range from {
				e.Node = id
				select {
				case items <- item{e, err}:
				case <-ctx.Done():
					return
				}
			}
		}
		go follow(l.node.ID(), l.here.Follow(ctx, q))
		for _, id := range nodes {
			go follow(id, l.client.Follow(ctx, id, q))
		}
		left := len(nodes) + 1
		defer func() {
			cancel()
			for ; left > 0; left-- {
				<-done
			}
		}()
		for left > 0 {
			select {
			case <-done:
				left--
			case i := <-items:
				if i.err != nil && i.entry.Node != l.node.ID() {
					continue // a node that is gone; the others go on
				}
				if !yield(i.entry, i.err) {
					return
				}
			}
		}
	}
}
