package sim

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
)

// What processes say to each other beside Raft: server/peering in little.

// overWire returns what arrives of v.
func overWire[T any](v T) (T, error) {
	var out T
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

// ask calls f at the node with the given id.
func ask[T any](ctx context.Context, p *process, id string, f func(*consensus.Node) (T, error)) (T, error) {
	var zero T
	h := p.host.w.byID(id)
	if h == nil {
		return zero, consensus.ErrNotSent
	}
	return call(ctx, p, h, func(to *process) (T, error) {
		node := to.node.Load()
		if node == nil {
			return zero, consensus.ErrNotLeader // its port is open, the node is not there yet
		}
		return f(node)
	})
}

func (p *process) forward(ctx context.Context, leader string, batch []consensus.Forwarded) ([]consensus.ForwardResult, error) {
	sent, err := overWire(batch)
	if err != nil {
		return nil, err
	}
	me := p.host.nodeID()
	return ask(ctx, p, leader, func(n *consensus.Node) ([]consensus.ForwardResult, error) {
		return overWire(n.ApplyForwarded(p.host.w.ctx, me, sent))
	})
}

func (p *process) readIndex(ctx context.Context, leader string) (uint64, error) {
	return ask(ctx, p, leader, func(n *consensus.Node) (uint64, error) { return n.VerifiedIndex(p.host.w.ctx) })
}

func (p *process) askToJoin(ctx context.Context, self api.Node) error {
	var last error
	for _, h := range p.host.w.hosts {
		if h == p.host {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, rpcTimeout)
		_, err := call(asked, p, h, func(to *process) (struct{}, error) {
			node := to.node.Load()
			if node == nil {
				return struct{}{}, consensus.ErrNotLeader
			}
			bounded, end := context.WithTimeout(p.host.w.ctx, rpcTimeout)
			defer end()
			return struct{}{}, node.AddMember(bounded, self)
		})
		cancel()
		if err == nil {
			return nil
		}
		if !errors.Is(err, consensus.ErrNotLeader) {
			last = err
		}
	}
	if last == nil {
		last = consensus.ErrNotLeader
	}
	return last
}

// prober is the leader's way to ask nodes whether they are there.
type prober struct{ p *process }

func (r prober) Ping(ctx context.Context, node string) error {
	h := r.p.host.w.byID(node)
	if h == nil {
		return errors.New("no way there")
	}
	_, err := call(ctx, r.p, h, func(*process) (struct{}, error) { return struct{}{}, nil })
	return err
}
